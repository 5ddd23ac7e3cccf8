"""``roadmap status`` as a user types it."""

import json
from pathlib import Path

import pytest

from roadmap.__main__ import main
from roadmap.runs.run_lock import RunLock
from tests.clock import FakeClock
from tests.records import make_run, make_sweep, summary_of

NAME = "leave_one_out-nano-digits-123456"


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Four planned runs: one finished, one failed, one killed, one missing."""
    folder = tmp_path / "runs"
    planned = [summary_of("gelu") | {"seed": seed, "run_id": f"{seed:010}"} for seed in range(4)]
    make_sweep(folder, NAME, planned)
    make_run(folder / "nano-digits-gelu-s0-0000000000", seed=0)
    make_run(folder / "nano-digits-gelu-s1-0000000001", seed=1, status="failed", top1=None, error="no good")
    make_run(folder / "nano-digits-gelu-s2-0000000002", seed=2, status="running", top1=None)
    return folder


def row(text: str) -> list[str]:
    """The cells of the sweep's row before the time left."""
    (line,) = (line for line in text.splitlines() if line.startswith(NAME))
    return line.split()[1:7]


def test_a_folder_of_runs_a_sweeps_folder_and_all_sweeps(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(runs_dir / "nano-digits-gelu-s9-0000000009", seed=9)
    for place in (runs_dir, runs_dir / "sweeps", runs_dir / "sweeps" / NAME):
        assert main(["status", str(place)]) == 0
        output = capsys.readouterr()
        assert row(output.out) == ["4", "1", "0", "1", "1", "1"]
        assert output.err == ""
        unplanned = f"runs in {runs_dir} that belong to no sweep: 1 finished"
        assert output.out.splitlines()[-1] == (unplanned if place == runs_dir else "failed: nano gelu seed 1: no good")


def test_the_default_is_the_configs_runs_dir(
    runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["status", f"runs_dir={runs_dir}"]) == 0
    assert row(capsys.readouterr().out) == ["4", "1", "0", "1", "1", "1"]
    monkeypatch.chdir(runs_dir.parent)
    assert main(["status"]) == 0
    assert row(capsys.readouterr().out) == ["4", "1", "0", "1", "1", "1"]


def test_a_run_that_a_process_holds_is_running(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = RunLock(runs_dir, "0000000002")
    lock.acquire()
    try:
        assert main(["status", str(runs_dir)]) == 0
        text = capsys.readouterr().out
    finally:
        lock.release()
    assert row(text) == ["4", "1", "1", "0", "1", "1"]
    assert "running: nano gelu seed 2: epoch 3 of 30, top-1 10.17 %, " in text
    assert ", by process " in text
    main(["status", str(runs_dir)])
    assert row(capsys.readouterr().out) == ["4", "1", "0", "1", "1", "1"], "looking has taken nobody's lock"


def test_lists_and_json(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(runs_dir), "--list", "failed,missing"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["failed", "0000000001"], ["missing", "0000000003"]]
    assert main(["status", str(runs_dir), "--list", "running"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["status", str(runs_dir), "--json"]) == 0
    (sweep,) = json.loads(capsys.readouterr().out)
    assert sweep["name"] == NAME
    assert [run["state"] for run in sweep["runs"]] == ["done", "failed", "interrupted", "missing"]
    assert sum(sweep[state] for state in ("done", "running", "interrupted", "failed", "missing")) == 4
    assert (sweep["runs"][1]["error"], sweep["runs"][2]["epoch"]) == ("no good", 3)
    assert sweep["left"]["seconds"] > 0
    assert sweep["left"]["low"] is None, "one run gives no range"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{runs}/nothing"], "no folder {runs}/nothing"),
        (["{runs}/sweeps/{name}/plan.jsonl"], "{runs}/sweeps/{name}/plan.jsonl is not a folder"),
        (
            ["{runs}/.."],
            "no sweep and no run in {runs}/.. (choose the runs_dir of a sweep, or its folder there)",
        ),
        (["{runs}", "--list", "gone"], "unknown state 'gone' in --list (choose done, running, interrupted"),
        (["{runs}", "--watch", "0"], "--watch must be above 0 (got 0)"),
        (["{runs}", "--watch", "--json"], "--watch shows the table; remove --json and --list"),
        (["{runs}", "--lots"], "unrecognized arguments: --lots"),
        (["nonsense=1"], "unknown setting 'nonsense'"),
    ],
)
def test_a_wrong_request_is_one_sentence(
    arguments: list[str], sentence: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.format(runs=runs_dir, name=NAME) for word in arguments]
    assert main(["status", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"roadmap: {sentence.format(runs=runs_dir, name=NAME)}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("plan.jsonl", '{"run_id": "0000000000", "regi'),
        ("plan.jsonl", ""),
        ("plan.jsonl", '{"run_id": "0000000000"}\n' * 4),
        ("plan.jsonl", "\xff\x00"),
        ("sweep.json", "[]"),
        ("sweep.json", "{"),
        ("sweep.json", '{"runs": 4}'),
    ],
)
def test_a_spoilt_plan_is_named_and_the_others_are_shown(
    file: str, content: str, runs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = make_sweep(runs_dir, "spoilt-nano-digits-000000", [summary_of("gelu")] * 4)
    (spoilt / file).write_text(content, encoding="latin-1")
    assert main(["status", str(runs_dir)]) == 1
    output = capsys.readouterr()
    assert row(output.out) == ["4", "1", "0", "1", "1", "1"]
    assert output.err.count("\n") == 1
    assert str(spoilt) in output.err
    assert "belong to no sweep" not in output.out, "whose they are is in the plan that cannot be read"


def test_a_plan_that_is_missing(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs_dir / "sweeps" / NAME / "plan.jsonl").unlink()
    assert main(["status", str(runs_dir / "sweeps" / NAME)]) == 1
    assert capsys.readouterr().err == (
        f"roadmap: cannot read {runs_dir}/sweeps/{NAME}/plan.jsonl: No such file or directory\n"
    )


def test_watch_shows_each_change_until_nothing_has_run_for_a_minute(
    runs_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr("roadmap.cli.watch.time", clock)
    lock = RunLock(runs_dir, "0000000003")

    def finish() -> None:
        make_run(runs_dir / "nano-digits-gelu-s3-0000000003", seed=3)
        lock.release()

    clock.at(30, lock.acquire)
    clock.at(90, finish)
    assert main(["status", str(runs_dir), "--watch", "20"]) == 0
    text = capsys.readouterr().out
    rows = [line.split()[1:7] for line in text.splitlines() if line.startswith(f"{NAME} ")]
    assert rows == [["4", "1", "0", "1", "1", "1"], ["4", "1", "1", "1", "1", "0"], ["4", "2", "0", "1", "1", "0"]]
    assert text.endswith("nothing has run for 60 seconds\n")
    assert clock.now == pytest.approx(160, abs=20)
