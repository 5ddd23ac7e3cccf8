"""Offline W&B run files as run folders: files that the real client wrote, ours and others', whole and damaged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import wandb

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.doctor.runs import StopAfter
from roadmap.errors import StoppedError
from roadmap.folders.runfolder import read_metrics
from roadmap.tracking import loggers
from roadmap.tracking.wandb_files import BLOCK, read_segment, segment_files
from roadmap.training.execute import execute


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of somebody who does not know us: two of a seed each, the second in two parts, with a name to beware of."""
    folder = tmp_path_factory.mktemp("theirs")
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)

    def run(run_id: str, epochs: range, code: int, **more: Any) -> None:
        config = {"lr": 0.1, "model": {"width": 64}, "seed": 7}
        fixed: dict[str, Any] = {"project": "p", "mode": "offline", "dir": str(folder), "reinit": "create_new"}
        logged = wandb.init(id=run_id, config=config, settings=settings, **fixed, **more)
        for epoch in epochs:
            for batch in range(40):
                logged.log({"trainer/epoch": epoch, "loss": 1 / (1 + epoch + batch), "note": "x" * 100})
            logged.log({"trainer/epoch": epoch, "val/acc": 0.5 + epoch / 10})
        logged.finish(exit_code=code)

    run("one", range(3), 0, name="../../escape me")
    run("two", range(2), 1)
    run("two", range(1, 4), 0)
    wandb.teardown()
    return folder


def imported(arguments: list[str], output: Path) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
    assert main(["import-wandb", *arguments, "-o", str(output)]) == 0
    files = output.rglob("summary.json")
    summaries = [(json.loads(file.read_text()), read_metrics(file.parent / "metrics.jsonl")) for file in files]
    return {summary["run_id"]: (summary, rows) for summary, rows in summaries}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_our_own_runs_come_back_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["logger=wandb", "logger.mode=offline", f"runs_dir={tmp_path / 'runs'}"]
    stopped = compose([*request, "epochs=3", "seed=1"])
    with pytest.raises(StoppedError):
        execute(stopped, StopAfter(18))
    made = [execute(stopped), execute(compose([*request, "epochs=1"]))]
    assert loggers.background.drain(60)
    output = tmp_path / "again"
    found = imported([str(tmp_path / "runs")], output)
    for summary, folder in made:
        read, rows = found[summary["run_id"]]
        assert read == summary
        assert rows == read_metrics(folder.path / "metrics.jsonl")
        assert (output / folder.path.name).is_dir()
    before = contents(output)
    assert imported([str(tmp_path / "runs")], output).keys() == found.keys()
    assert contents(output) == before
    assert capsys.readouterr().err.count("already; skipped") == 2
    # a run that the folder has under another name is that run all the same
    imported([str(tmp_path / "runs")], tmp_path / "runs")
    assert len(list((tmp_path / "runs").glob("*/summary.json"))) == 2


def test_runs_of_others_are_joined_and_stay_inside(theirs: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "runs"
    keys = ["--top1", "val/acc", "--share", "--epoch", "trainer/epoch"]
    found = imported([str(theirs), *keys], output)
    one, rows = found["one"]
    assert (one["status"], one["seed"], one["variant"]) == ("finished", 7, "../../escape me")
    assert one["definition"] == {"lr": 0.1, "model.width": 64, "seed": 7}
    assert one["top1"] == pytest.approx(70.0)
    assert [row["top1"] for row in rows] == pytest.approx([50, 60, 70])
    assert rows[1]["loss"] == pytest.approx(1 / 41)
    two, rows = found["two"]
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert two["top1"] == two["best_top1"] == pytest.approx(80.0)
    assert two["status"] == "finished"
    everything = [path for path in tmp_path.rglob("*") if path.name in ("summary.json", "metrics.jsonl")]
    assert len(everything) == 4
    assert all(path.parent.parent == output for path in everything)


@pytest.mark.parametrize("size", [0, 5, 100, 5000, BLOCK + 3, -1])
def test_a_file_cut_short_gives_what_is_whole(
    size: int, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = theirs.rglob("run-one.wandb")
    whole = read_segment(source)
    assert whole.whole
    assert source.stat().st_size > BLOCK + 3
    folder = tmp_path / "wandb" / "offline-run-20260101_000000-one"
    folder.mkdir(parents=True)
    (folder / source.name).write_bytes(source.read_bytes()[:size])
    status = main(["import-wandb", str(tmp_path / "wandb"), "-o", str(tmp_path / "runs")])
    assert str(folder / source.name) in capsys.readouterr().err
    if size in (0, 5, 100):
        assert status == 1
        assert not (tmp_path / "runs").exists()
        return
    assert status == 0
    part = read_segment(folder / source.name)
    assert not part.whole
    assert 0 < len(part.rows) <= len(whole.rows)
    assert all(whole.rows[step] == row for step, row in part.rows.items())
    (made,) = (tmp_path / "runs").glob("*/summary.json")
    assert json.loads(made.read_text())["status"] == "interrupted"


def test_a_damaged_record_costs_its_block_at_most(theirs: Path, tmp_path: Path) -> None:
    (source,) = theirs.rglob("run-one.wandb")
    whole, content = read_segment(source), bytearray(source.read_bytes())
    content[BLOCK - 4000] ^= 1
    damaged = tmp_path / "run-one.wandb"
    damaged.write_bytes(content)
    part = read_segment(damaged)
    assert not part.whole
    assert part.exit_code == 0
    assert 0.8 * len(whole.rows) < len(part.rows) < len(whole.rows)
    assert all(whole.rows[step] == row for step, row in part.rows.items())


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["nowhere"], 2, "no folder nowhere"),
        (["."], 2, "no W&B run files (run-*.wandb) under ."),
        (["THEIRS", "--share"], 2, "add --top1 KEY"),
        (["FAKE"], 1, "is no W&B run file"),
    ],
)
def test_wrong_requests_are_one_sentence(
    arguments: list[str],
    status: int,
    sentence: str,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "FAKE" in arguments:
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "run-x.wandb").write_text("nothing of the kind")
    places = {"THEIRS": str(theirs), "FAKE": "fake"}
    assert main(["import-wandb", *[places.get(word, word) for word in arguments]]) == status
    assert sentence in capsys.readouterr().err


def test_percent_taken_for_a_share_is_refused(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-wandb", str(theirs), "-o", str(tmp_path), "--top1", "trainer/epoch", "--share"]) == 2
    assert "which is no share of 1; leave out --share" in capsys.readouterr().err


def test_links_are_not_followed(theirs: Path, tmp_path: Path) -> None:
    assert len(segment_files(theirs)) == 3  # and not latest-run
    os.symlink(theirs, tmp_path / "elsewhere")
    assert segment_files(tmp_path) == []
