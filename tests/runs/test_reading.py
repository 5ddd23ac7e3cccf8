"""Reading run folders as they are found: of all kinds, half written, of other versions; alone and by the thousand."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

import roadmap
from roadmap.errors import RequestError
from roadmap.runs.reading import in_words, progress
from tests.records import COMMITTED, EXAMPLES, record, write

COLUMNS = ["seed", "epoch", "top1"]


def histories(folder: Path, *texts: str) -> Path:
    """A run folder for each text of a metrics.jsonl, the seeds counting up."""
    for seed, text in enumerate(texts):
        made = record("gelu", seed, 80.0)
        write(folder, made)
        (folder / f"gelu-s{seed}-{made['run_id']}" / "metrics.jsonl").write_text(text)
    return folder


def test_the_example_runs_as_pandas_reads_their_files() -> None:
    runs = roadmap.load_runs(EXAMPLES)
    assert len(runs) == 51
    history = roadmap.load_history(EXAMPLES)
    parts = []
    for path, run in zip(runs["path"], runs.to_dict("records"), strict=True):
        part = pd.read_json(Path(path) / "metrics.jsonl", lines=True, precise_float=True)
        for place, name in enumerate(("run_id", "variant", "step", "seed")):
            part.insert(place, name, run[name])
        parts.append(part)
    pd.testing.assert_frame_equal(history, pd.concat(parts, ignore_index=True), check_dtype=False)


def test_records_of_every_status_and_age_form_one_table(tmp_path: Path) -> None:
    made = [record("gelu", seed, 80.0) for seed in range(4)]
    for one, status in zip(made, ("finished", "running", "failed", "interrupted"), strict=True):
        one["status"] = status
    for key in ("definition", "variant", "activations_m", "peak_memory_gb", "batch_norm_images"):
        del made[0][key]
    (tmp_path / "old" / "deep").mkdir(parents=True)
    (tmp_path / "old" / "deep" / "summary.json").write_text(json.dumps(made[0]))
    runs = roadmap.load_runs(write(tmp_path, *made[1:])).set_index("seed")
    assert runs["status"].to_dict() == {0: "finished", 1: "running", 2: "failed", 3: "interrupted"}
    assert runs.loc[0, "variant"] == "gelu"
    assert runs.loc[0, "definition"]["recipe"] == "enhanced"
    assert math.isnan(runs.loc[0, "peak_memory_gb"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"run_id": ', "Expecting value"),
        ("[]", "the record must be a mapping (got [])"),
        ('{"run_id": "a", "status": "finished", "top1": "high"}', "top1 must be a number or null (got 'high')"),
        (
            '{"run_id": "a", "status": "done"}',
            "unknown status 'done' (choose failed, finished, interrupted or running)",
        ),
        ('{"run_id": "a", "status": "finished", "error": "\\ud800"}', "'utf-8' codec can't encode"),
        ('{"run_id": "a", "status": "finished", "seed": 1e999}', "the number 1e999 is out of range"),
        (None, "No such file or directory"),
    ],
)
def test_unreadable_records_are_named_and_skipped(tmp_path: Path, text: str | None, reason: str) -> None:
    write(tmp_path, record("gelu", 0, 80.0))
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "metrics.jsonl").touch()
    if text is not None:
        (tmp_path / "half" / "summary.json").write_text(text)
    with pytest.warns(UserWarning, match="skipped ") as caught:
        runs = roadmap.load_runs(tmp_path)
    assert len(runs) == 1
    (warning,) = caught
    assert str(warning.message).startswith(f"skipped {tmp_path / 'half' / 'summary.json'}: {reason}")
    assert warning.filename == __file__


def test_nothing_is_remembered_of_changed_and_deleted_runs(tmp_path: Path) -> None:
    write(tmp_path, record("gelu", 0, 80.0), record("gelu", 1, 81.0))
    assert sorted(roadmap.load_runs(tmp_path)["top1"]) == [80.0, 81.0]
    (first,) = tmp_path.glob("*-s0-*")
    (first / "summary.json").write_text(json.dumps(record("gelu", 0, 70.0)))
    shutil.rmtree(next(tmp_path.glob("*-s1-*")))
    assert roadmap.load_runs(tmp_path)["top1"].tolist() == [70.0]


def test_missing_folder_is_an_error_and_other_file_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no folder .*/nowhere"):
        roadmap.load_runs(tmp_path / "nowhere")
    (tmp_path / "roadmap.png").touch()
    write(tmp_path / "runs", record("gelu", 0, 80.0))
    with pytest.warns(UserWarning, match="roadmap.png: neither a folder nor a file of `roadmap export`"):
        assert len(roadmap.load_runs([tmp_path / "roadmap.png", tmp_path / "runs"])) == 1


def test_histories_keep_all_that_is_whole(tmp_path: Path) -> None:
    folder = histories(
        tmp_path,
        '{"epoch": 1, "top1": 5.0}\n{"epoch": 2, "top1": 6.5}\n',
        '{"epoch": 1, "top1": 7}\n{"epoch": 2, "to',  # killed while writing
        '{"epoch": 1, "top1": 8.0}\n{"epoch": 2, "top1": NaN}\n{"epoch": 3, "top1": 9.0}\n',
        '{"epoch": 1, "top1": 1.0}\n\0\0\0garbage\n{"epoch": 3, "top1": 2.0}\n',  # a torn block in the middle
        '{"epoch": 1, "top1": 3.0}\n{"epoch": 2, "top1": 4.0, "ema_top1": 5.0}\n',  # went on with another version
        "",
        "no line of it\n",
        '{"top1": 3.0}\n[1]\n{"epoch": "two"}\n{"epoch": 4, "top1": 0.5}\n',
    )
    with pytest.warns(UserWarning, match="lines cannot be read") as caught:
        history = roadmap.load_history(folder).sort_values(["seed", "epoch"])
    expected = [
        *[(0, 1, 5.0), (0, 2, 6.5), (1, 1, 7.0), (2, 1, 8.0), (2, 2, None), (2, 3, 9.0)],
        *[(3, 1, 1.0), (3, 3, 2.0), (4, 1, 3.0), (4, 2, 4.0), (7, 4, 0.5)],
    ]
    found = [tuple(None if value != value else value for value in row) for row in history[COLUMNS].to_numpy()]
    assert found == expected
    assert history["ema_top1"].dropna().tolist() == [5.0]
    texts = sorted(str(warning.message) for warning in caught)
    assert [text.split("metrics.jsonl: ")[1] for text in texts] == [
        *["1 of 2 lines cannot be read", "1 of 3 lines cannot be read"],
        *["1 of 1 lines cannot be read", "3 of 4 lines cannot be read"],
    ]


def test_many_files_with_two_layouts_and_one_broken(tmp_path: Path) -> None:
    texts = [
        "".join(f'{{"epoch": {epoch}, "top1": {seed + epoch / 8}{extra}}}\n' for epoch in (1, 2, 3))
        for seed in range(40)
        for extra in [', "ema_top1": 1.5' if seed % 3 else ""]
    ]
    texts[17] = texts[17].replace('"epoch": 2,', '"epoch": 2 "')
    with pytest.warns(UserWarning, match="s17-.*: 1 of 3 lines cannot be read"):
        history = roadmap.load_history(histories(tmp_path, *texts))
    assert len(history) == 119
    assert (history["top1"] == history["seed"] + history["epoch"] / 8).all()
    assert (history["ema_top1"].isna() == (history["seed"] % 3 == 0)).all()
    assert history.groupby("run_id", sort=False)["epoch"].apply(lambda epochs: epochs.is_monotonic_increasing).all()


def test_epochs_without_evaluation(tmp_path: Path) -> None:
    """As ``eval_every=2`` leaves them: of a finished run, and of one that was killed in an odd epoch."""
    rows = [
        {"epoch": epoch, "train_loss": 1.0} | ({"top1": 5.0 * epoch} if epoch % 2 == 0 else {}) for epoch in range(1, 5)
    ]
    whole, killed = ("".join(json.dumps(row) + "\n" for row in some) for some in (rows, rows[:3]))
    history = roadmap.load_history(histories(tmp_path, whole, killed)).sort_values(["seed", "epoch"])
    assert history["top1"].dropna().tolist() == [10.0, 20.0, 10.0]
    assert history.loc[history["top1"].isna(), "epoch"].tolist() == [1, 3, 1, 3]
    seed_1 = history.index[history["seed"] == 1]
    assert list(history.loc[seed_1, "epoch"]) == [1, 2, 3]
    folders = sorted((tmp_path).rglob("metrics.jsonl"))
    found = [progress(file.parent, 4) for file in folders]
    assert [(one.epoch, one.top1) for one in found if one] == [(4, 20.0), (3, 10.0)]
    (folders[0]).write_text(json.dumps(rows[0]) + "\n")
    assert in_words(progress(folders[0].parent, 4), 4) == "epoch 1 of 4, 0 s left"


def test_an_excluded_folder_is_read_when_it_is_named(tmp_path: Path) -> None:
    for place in ("own", "kept/deep/old"):
        write(tmp_path / place, record("gelu", len(place), 90.0))
    (tmp_path / "kept" / ".exclude").touch()
    assert list(roadmap.load_runs(tmp_path)["seed"]) == [3]
    assert list(roadmap.load_runs(tmp_path / "kept")["seed"]) == [13]
    assert list(roadmap.load_runs(tmp_path / "kept" / "deep")["seed"]) == [13]
    assert sorted(roadmap.load_runs([tmp_path, tmp_path / "kept"])["seed"]) == [3, 13]


def test_the_examples_are_read_when_named() -> None:
    assert not roadmap.load_runs(COMMITTED)["path"].str.contains("/examples/|/studies/").any()
    assert len(roadmap.load_runs(COMMITTED / "examples")) == 102
