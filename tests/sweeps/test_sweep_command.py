"""``roadmap sweep`` from its command line: the plan, its runs, its table and picture, wrong requests."""

import json
import re
from pathlib import Path

import pytest

from roadmap.__main__ import main
from roadmap.runs.run_folder import now
from roadmap.runs.sweep_plan import read_sweeps
from roadmap.sweeps.command import work
from tests.records import example

FAST = ["epochs=1", "seeds=[0]"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_trains_its_plan_once_and_draws_what_it_found(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # a short path has few sets to count
    (tmp_path / "conf" / "path").mkdir(parents=True)
    (tmp_path / "conf" / "path" / "short.yaml").write_text(
        "name: short\nsteps:\n  - step=resnet50\n  - {change: activation=gelu, name: gelu}\n"
    )
    words = ["sweep", "study=add_one_in", "path=short", "--config-dir", "conf", *FAST]
    assert main(words) == 0
    out, err = capfd.readouterr()
    assert "2 designs × 1 seeds = 2 runs" in out
    assert "2 of 2 runs are finished" in out
    assert "[2/2] nano resnet50 activation=gelu seed 0: top-1" in err
    (sweep,) = read_sweeps("runs")
    assert [run["changes"] for run in sweep.runs] == [[], ["gelu"]]
    assert (sweep.path / "attribution.png").stat().st_size > 10_000
    row = next(line for line in out.splitlines() if line.startswith("gelu"))
    summaries = [
        json.loads(next(Path("runs").glob(f"*-{run['run_id']}/summary.json")).read_text()) for run in sweep.runs
    ]
    assert f"{summaries[1]['top1'] - summaries[0]['top1']:+.2f}" in row
    before = {file: file.stat().st_mtime_ns for file in Path("runs").glob("nano-*/*")}
    assert len(before) > 4
    work(["study=add_one_in", "path=short", *FAST], ["conf"], 0, now())
    assert {file: file.stat().st_mtime_ns for file in Path("runs").glob("nano-*/*")} == before


def test_a_run_that_fails_is_tried_again_and_named(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", "study=factorial", "study.axes={recipe.optimizer.lr:[1e30,0.1]}", "retries=1", *FAST]
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert err.count("failed; trying again") == 1
    assert re.search(r"failed: nano resnet50 recipe\.optimizer\.lr=1e\+30 seed 0: .*loss", err)
    assert err.splitlines()[-1] == ("roadmap: 1 of 2 runs failed and 0 are missing; rerun the command to train them")
    assert "1 of 2 runs are finished" in out


def test_a_dry_run_prints_every_run_and_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / example("gelu").name).symlink_to(example("gelu"))
    assert main(["sweep", "study=leave_one_out", "study.changes=[gelu,layer_norm]", "workers=2", "--dry-run"]) == 0
    out, _ = capfd.readouterr()
    lines = out.splitlines()
    assert len([line for line in lines if line.endswith("missing") and "seed" in line]) == 9
    # 2.245056 MFLOPs x 358 images x 30 epochs
    assert re.search(r"separate_downsampling norm=batch seed 1 +0\.002245 +24\.1 +missing", out)
    assert lines[-2].endswith(": 9 runs: 9 missing")
    assert lines[-1].startswith("about ")
    assert lines[-1].endswith(" on 2 workers")
    assert [path.name for path in runs.iterdir()] == [example("gelu").name]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "roadmap sweep needs a study (choose study="),
        (["study=orders", "seed=3"], "seed= belongs to `roadmap train`; a sweep takes seeds=[…]"),
        (
            ["study=factorial", "study.axes={kernel:[k3]}", "batch_size=1024"],
            "batch_size=1024 is larger than the 358 training images",
        ),
        (["study=leave_one_out", "kernel=k3,k5"], "kernel=k3,k5"),
    ],
)
def test_a_wrong_request_is_one_line(words: list[str], sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *words]) == 2
    err = capfd.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not Path("runs").exists()
