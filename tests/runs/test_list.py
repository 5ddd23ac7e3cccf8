"""``roadmap list``: one line per run, chosen and sorted; who is still training."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.errors import RequestError
from roadmap.runs.run_folder import RunLock
from tests.records import COMMITTED, record, write

RUNS = COMMITTED / "examples"


def test_one_line_per_run_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(RUNS)]) == 0
    head, _, _, *rows, count = capsys.readouterr().out.splitlines()
    runs = roadmap.load_runs(RUNS)
    assert head == "data digits, epochs 30"
    assert [row.split()[-1] for row in rows] == list(runs["run_id"])
    assert count == f"{len(runs)} runs: {len(runs)} finished"


def test_files_for_programs_hold_what_python_returns(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = roadmap.list_runs(RUNS, where="regime == 'nano' and seed < 1", sort="-top1")
    assert len(runs) == 17
    assert runs["top1"].is_monotonic_decreasing
    words = ["list", str(RUNS), "--where", "regime == 'nano' and seed < 1", "--sort=-top1"]
    assert main([*words, "--csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert list(read["run_id"]) == list(runs["run_id"])
    assert main([*words, "--json", str(tmp_path / "runs.json")]) == 0
    assert [run["run_id"] for run in json.loads((tmp_path / "runs.json").read_text())] == list(runs["run_id"])


def test_a_run_that_nobody_trains_is_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [record("gelu", seed, 80.0) | {"status": "running", "top1": None} for seed in range(2)]
    write(tmp_path, *made)
    lock = RunLock(tmp_path, made[1]["run_id"])
    lock.acquire()
    assert list(roadmap.list_runs(tmp_path)["status"]) == ["interrupted", "running"]
    assert main(["list", str(tmp_path)]) == 0
    lock.release()
    assert capsys.readouterr().out.splitlines()[-1] == "2 runs: 1 interrupted, 1 running"


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run in"):
        roadmap.list_runs(tmp_path)
    with pytest.raises(RequestError, match=r"--sort: unknown field 'accuracy' \(choose .*top1"):
        roadmap.list_runs(RUNS, sort="accuracy")
    with pytest.raises(RequestError, match=r'none of these .* runs match --where "seed > 99"'):
        roadmap.list_runs(RUNS, where="seed > 99")
