"""Runs in one file: what is read from it is what is read from the folders, and a damaged file is one sentence."""

import base64
import gzip
import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import roadmap
from roadmap.__main__ import main
from roadmap.comparison.run_diff import one_run, run_diff
from roadmap.errors import RequestError
from roadmap.runs.evaluations import EvaluatedImages, Predictions, read_predictions, write_predictions
from roadmap.runs.sweep_plan import read_sweeps
from tests.records import EXPORTED, bench, evaluation, example, make_run, make_sweep

Capture = pytest.CaptureFixture[str]
LOADERS = (roadmap.load_runs, roadmap.load_history, roadmap.load_evaluations, roadmap.load_bench)
few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def furnish(folder: Path) -> Path:
    """A folder of runs with every kind of record: runs of all statuses, evaluations, predictions, a sweep, a bench."""
    records = [make_run(folder / f"gelu-s{seed}-{seed:010}", seed=seed, epochs=4 + seed) for seed in (0, 1)]
    records.append(make_run(folder / "kernel-0000000002", "kernel_7", top1=float("nan")))
    for number, status in enumerate(("running", "failed", "interrupted"), start=3):
        made = make_run(folder / f"unfinished-{number:010}", seed=number, status=status, top1=None, error="no good")
        records.append(made)
    (folder / "unfinished-0000000003" / "metrics.jsonl").unlink()
    shutil.copy(example("gelu") / ".hydra" / "config.yaml", folder / "gelu-s0-0000000000" / ".hydra")
    for run in ("gelu-s0-0000000000", "gelu-s1-0000000001"):
        (folder / run / "evaluations").mkdir()
        file = Path(shutil.copy(evaluation("gelu"), folder / run / "evaluations"))
        predict(folder / run / "predictions.npz", seed=int(run[6]))
        predict(file.with_suffix(".npz"), seed=5)
    make_sweep(folder, "made-nano-digits-000000", records)
    (folder / "bench").mkdir()
    (folder / "bench" / "gelu-cpu-1.json").write_text(json.dumps(bench("gelu")))
    return folder


def predict(file: Path, seed: int) -> None:
    draws = np.random.default_rng(seed)
    labels, predicted = draws.integers(0, 10, 50), draws.integers(0, 10, 50)
    images = EvaluatedImages("digits", "abc", 32, 1.0, (3,))
    write_predictions(file, Predictions(images, labels, predicted, draws.random(50)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return furnish(tmp_path_factory.mktemp("made") / "runs")


@pytest.fixture(scope="module")
def file(folder: Path) -> Path:
    path = folder.parent / "all.runs.jsonl.gz"
    assert roadmap.export(folder, path) == []
    return path


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def rewritten(file: Path, old: str, new: str, to: Path) -> Path:
    """A copy of an exported file with the first occurrence of a text replaced."""
    text = gzip.decompress(file.read_bytes()).decode()
    assert old in text
    to.write_bytes(gzip.compress(text.replace(old, new, 1).encode()))
    return to


@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_a_file_gives_the_tables_of_its_folders(load: Callable[[Any], pd.DataFrame], folder: Path, file: Path) -> None:
    ours, theirs = load(folder), load(file)
    assert len(ours)
    for table, root in ((ours, folder), (theirs, file)):
        if "path" in table:
            table["path"] = [str(Path(path).relative_to(root)) for path in table["path"]]
    pd.testing.assert_frame_equal(ours, theirs)


def test_a_file_has_the_plans_and_predictions_of_its_folders(folder: Path, file: Path) -> None:
    (ours,), (theirs,) = read_sweeps(folder), read_sweeps(file)
    assert (ours.name, ours.header, ours.runs) == (theirs.name, theirs.header, theirs.runs)
    for place in ("gelu-s1-0000000001", f"gelu-s0-0000000000/evaluations/{evaluation('gelu').stem}.npz"):
        one, other = read_predictions(folder / place), read_predictions(file / place)
        assert one.images == other.images
        assert np.array_equal(one.predicted, other.predicted)
        assert np.array_equal(one.confidence, other.confidence)
    with pytest.raises(RequestError, match=r"predictions\.npz does not exist"):
        read_predictions(file / "kernel-0000000002")


def test_the_same_runs_give_the_same_bytes(folder: Path, file: Path, tmp_path: Path) -> None:
    for number, source in enumerate((folder, file)):
        again = tmp_path / f"{number}.runs.jsonl.gz"
        roadmap.export(source, again)
        assert again.read_bytes() == file.read_bytes()


def test_the_file_is_as_documented(file: Path) -> None:
    found = lines(file)
    assert found[0] == {"format": "roadmap runs", "version": 1}
    ends = [number for number, line in enumerate(found) if "end" in line]
    assert [found[number]["end"] for number in ends] == ["records", "settings", "metrics", "predictions"]
    assert ends[-1] == len(found) - 1
    assert set(found[1]) == {"run", "summary", "evaluations"}
    assert set(found[ends[0] + 1]) == {"run", "overrides", "config"}
    columns = found[ends[1] + 1]["columns"]
    assert columns["epoch"] == [1, 2, 3, 4]
    assert {len(values) for values in columns.values()} == {4}
    assert base64.b64decode(found[ends[2] + 1]["files"]["predictions.npz"])[:2] == b"PK"


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "@", "--force"],
        ["diff", "@/gelu-s0-0000000000", "@/gelu-s1-0000000001"],
        ["status", "@", "--list", "failed,interrupted"],
        ["figure", "@/sweeps/made-nano-digits-000000", "--kind", "edf", "--where", "epochs == 4", "-o", "figure.svg"],
    ],
    ids=" ".join,
)
def test_commands_say_the_same_of_both(
    command: list[str], folder: Path, file: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = []
    for place in (folder, file):
        words = [word.replace("@", str(place)) for word in command]
        assert main(words) == 0
        captured = capsys.readouterr()
        said.append(captured.out.replace(str(place), "@") + captured.err.replace(str(place), "@"))
    said = [re.sub(r"[ -]+", " ", text) for text in said]  # the widths of columns
    assert said[0] == said[1]


def test_a_pattern_names_one_run(file: Path) -> None:
    first = one_run(str(file / "gelu-s0-*"))
    assert run_diff(first, first) == []
    with pytest.raises(RequestError, match="it holds 6 runs"):
        one_run(str(file))


def test_a_folder_may_hold_files_among_runs(file: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "own-0000000009", seed=9)
    (tmp_path / "theirs").mkdir()
    shutil.copy(file, tmp_path / "theirs" / "all.runs.jsonl.gz")
    (tmp_path / "theirs" / "broken.runs.jsonl.gz").write_bytes(b"PK")
    with pytest.warns(UserWarning, match="skipped .*broken.runs.jsonl.gz: Not a gzipped file"):
        runs = roadmap.load_runs(tmp_path)
    assert sorted(runs["seed"]) == [0, 0, 1, 3, 4, 5, 9]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert roadmap.load_history(tmp_path)["run_id"].nunique() == 6
        assert len(roadmap.load_evaluations(tmp_path)) == len(roadmap.load_evaluations(file))
        assert len(roadmap.load_bench(tmp_path)) == 1
    (tmp_path / "theirs" / ".exclude").touch()
    assert list(roadmap.load_runs(tmp_path)["seed"]) == [9]


def test_some_runs_are_exported_with_what_belongs_to_them(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "some.runs.jsonl.gz"
    make_sweep(tmp_path / "runs", "made-nano-digits-111111", [make_run(tmp_path / "runs" / "x-0000000007", seed=7)])
    words = ["export", str(folder), str(tmp_path / "runs"), "--where", "seed < 2", "-o", str(path)]
    assert main(words) == 0
    assert capsys.readouterr().out == f"exported: {path}\n"
    assert sorted(roadmap.load_runs(path)["seed"]) == [0, 0, 1]
    assert [sweep.name for sweep in read_sweeps(path)] == ["made-nano-digits-000000"]
    assert main(words) == 2
    assert "exists; choose another name or overwrite it with --force" in capsys.readouterr().err
    assert main([*words[:-2], "--force", *words[-2:]]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"path": "x.gz"}, "the file's name must end in .runs.jsonl.gz"),
        ({"path": "no/x.runs.jsonl.gz"}, "cannot write no/x.runs.jsonl.gz: No such file or directory"),
        ({"path": "x.runs.jsonl.gz", "where": "seed > 7"}, 'matches --where "seed > 7"'),
    ],
)
def test_failed_export_gives_one_sentence(words: dict[str, str], sentence: str, folder: Path) -> None:
    with pytest.raises(RequestError, match=sentence):
        roadmap.export(folder, **words)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"version":1', '"version":2', "it is not a file of `roadmap export`, or one of a newer version"),
        ('{"run":', '[1]\n{"run":', "the record must be a mapping"),
        ('{"run":', '{"x":1}\n{"run":', "'' is not a valid name of a run, sweep or bench"),
        ('"gelu-s0-0000000000"', '"../../up"', "'../../up' is not a valid name of a run"),
        ('"gelu-s0-0000000000"', '["a"]', "run must be a string or null"),
        ('"evaluations":{', '"evaluations":3,"x":{', "evaluations must be a mapping"),
        ('{"end":"predictions"}\n', "", "it ends early"),
    ],
)
def test_a_file_that_is_not_as_documented_is_refused(
    old: str, new: str, reason: str, file: Path, tmp_path: Path, capsys: Capture
) -> None:
    odd = rewritten(file, old, new, tmp_path / "odd.runs.jsonl.gz")
    for command in (["compare", str(odd), "--force"], ["status", str(odd)], ["diff", f"{odd}/*s0*", f"{odd}/*s1*"]):
        # only diff reads the predictions
        assert main(command) == (0 if "predictions" in old and command[0] != "diff" else 2)
        (error,) = [line for line in capsys.readouterr().err.splitlines() if "cannot read" in line] or [reason]
        assert reason in error


@pytest.mark.parametrize("new", ['"odd"', '"odd":[3],"epoch"', '"odd":["a"],"epoch"'])
def test_metrics_that_are_not_as_documented_are_skipped(new: str, file: Path, tmp_path: Path) -> None:
    odd = rewritten(file, '"columns":{"epoch"', '"columns":{' + new, tmp_path / "odd.runs.jsonl.gz")
    with pytest.warns(UserWarning, match="odd.runs.jsonl.gz: metrics of gelu-s0-0000000000: "):
        roadmap.load_history(odd)


@few
@given(st.floats(0, 0.9999), st.integers(0, 7), st.booleans())
def test_a_damaged_file_is_refused_or_read_as_it_was(place: float, bit: int, cut: bool) -> None:
    content = bytearray(EXPORTED.read_bytes())
    number = int(place * len(content))
    if cut:
        del content[number:]
    else:
        content[number] ^= 1 << bit
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        damaged = Path(scratch, EXPORTED.name)
        damaged.write_bytes(content)
        history, sentences = None, []
        try:
            history = roadmap.load_history(damaged)
        except RequestError as error:
            sentences.append(str(error))
    sentences += [str(warning.message) for warning in caught]
    assert all(EXPORTED.name in sentence and "\n" not in sentence for sentence in sentences)
    if not sentences:
        pd.testing.assert_frame_equal(history, WHOLE)
    assert history is None or len(history) in (0, len(WHOLE))


WHOLE = roadmap.load_history(EXPORTED)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53) | st.none()


@few
@given(st.lists(st.fixed_dictionaries({"top1": numbers}, optional={"ema_top1": numbers}), min_size=1, max_size=9))
def test_metrics_of_any_numbers_come_back(rows: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        make_run(Path(scratch, "runs", "a-0000000001"))
        text = "".join(json.dumps({"epoch": number} | row) + "\n" for number, row in enumerate(rows))
        Path(scratch, "runs", "a-0000000001", "metrics.jsonl").write_text(text)
        path = Path(scratch, "a.runs.jsonl.gz")
        roadmap.export(Path(scratch, "runs"), path)
        ours, theirs = roadmap.load_history(Path(scratch, "runs")), roadmap.load_history(path)
    ours = ours.dropna(axis="columns", how="all")
    pd.testing.assert_frame_equal(ours, theirs[list(ours)], check_dtype=False)
