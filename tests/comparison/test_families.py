"""Gaps that a plan declares are corrected among themselves, whether run or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import roadmap
from roadmap.__main__ import main
from roadmap.comparison.groups import Baseline
from roadmap.comparison.text import notes
from roadmap.runs.sweep_plan import write_sweep
from roadmap.statistics.gaps import gaps
from tests.records import record, write

STEPS = {"kernel_7": 80.0, "gelu": 80.8, "fewer_activations": 80.7, "fewer_norms": 82.0, "layer_norm": 82.2}


def made(*steps: str, seeds: int = 3) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [record(step, seed, STEPS[step] + rng.normal(0, 0.1)) for step in steps for seed in range(seeds)]


def plan(runs_dir: Path, *records: dict[str, Any]) -> Path:
    """The plan of runs, as ``roadmap sweep`` writes it."""
    names = ("run_id", "regime", "variant", "step", "seed", "epochs")
    rows = [
        {name: run[name] for name in names}
        | {"images": 358, "gmacs": 0.1, "params_m": 0.1, "overrides": [], "changes": None}
        for run in records
    ]
    header = {"name": f"path-nano-digits-{len(rows)}", "study": {"name": "path"}, "regime": "nano", "data": "digits"}
    header |= {
        "seeds": [0, 1, 2],
        "planned": "2026-12-01T00:00:00Z",
        "runs": len(rows),
        "changes": None,
        "orders": None,
    }
    return write_sweep(runs_dir, header, rows).path


def test_declared_gaps_are_a_family(tmp_path: Path) -> None:
    """Four steps with three gaps are planned; three of them are run, and a step that is not planned."""
    runs = made("kernel_7", "gelu", "fewer_activations", "fewer_norms", "layer_norm")
    planned = [run for run in runs if run["variant"] != "layer_norm"]
    plan(tmp_path, *planned)
    write(tmp_path, *(run for run in runs if run["variant"] != "fewer_norms"))
    table = roadmap.compare(tmp_path).table.set_index("variant")
    assert table["declared"].to_dict() == {
        "kernel_7": False,
        "gelu": True,
        "fewer_activations": True,
        "layer_norm": False,
    }
    p = table.loc[["gelu", "fewer_activations"], "delta_p"]
    # three gaps were planned, though only two have been run
    assert table.loc[p.idxmin(), "delta_p_holm"] == pytest.approx(3 * p.min())
    assert table.loc[p.idxmax(), "delta_p_holm"] == pytest.approx(min(max(3 * p.min(), 2 * p.max()), 1))


def test_a_gap_nobody_declared_is_corrected_among_all(tmp_path: Path) -> None:
    runs = made("kernel_7", "gelu", "fewer_activations")
    plan(tmp_path, *(run for run in runs if run["variant"] != "fewer_activations"))
    comparison = roadmap.compare(write(tmp_path, *runs))
    table = comparison.table.set_index("variant")
    assert table["declared"].tolist() == [False, True, False]
    assert table.loc["gelu", "delta_p_holm"] == table.loc["gelu", "delta_p"]
    p = table["delta_p"].dropna()
    assert table.loc["fewer_activations", "delta_p_holm"] == pytest.approx(min(max(2 * p.min(), p.max()), 1))
    words = "the 1 that the plan declares among themselves, the others among all"
    assert any(words in line for line in notes(comparison.table, comparison.test))


def test_without_a_plan_all_gaps_are_the_family(tmp_path: Path) -> None:
    runs = made("kernel_7", "gelu", "fewer_activations")
    plan(tmp_path / "others", *made("fewer_norms", "layer_norm"))
    table = roadmap.compare(write(tmp_path, *runs)).table.set_index("variant")
    samples = {name: dict(enumerate(run["top1"] for run in runs if run["variant"] == name)) for name in table.index}
    expected = gaps([(samples[one], samples[other]) for other, one in zip(table.index, table.index[1:], strict=False)])
    assert table["delta_p_holm"].tolist()[1:] == pytest.approx(expected["delta_p_holm"].tolist())


def test_a_chosen_baseline_is_in_no_plan(tmp_path: Path) -> None:
    runs = made("kernel_7", "gelu", "fewer_activations", "fewer_norms")
    plan(tmp_path, *runs[:6])
    table = roadmap.compare(write(tmp_path, *runs), Baseline("kernel_7")).table
    assert table["declared"].tolist() == [True] * 4
    p = table["delta_p"].dropna()
    assert table["delta_p_holm"].min() == pytest.approx(3 * p.min())


def test_two_plans_of_other_seeds_declare_a_gap_once(tmp_path: Path) -> None:
    runs = made("kernel_7", "gelu", seeds=4)
    plan(tmp_path, *(run for run in runs if run["seed"] < 2), runs[2])
    plan(tmp_path, *(run for run in runs if run["seed"] >= 2))
    row = roadmap.compare(write(tmp_path, *runs)).table.set_index("variant").loc["gelu"]
    assert row["delta_p_holm"] == row["delta_p"]


def test_a_plan_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = made("kernel_7", "gelu")
    folder = plan(write(tmp_path, *runs), *runs)
    header = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps(header | {"runs": 7}))
    assert main(["compare", str(tmp_path)]) == 0
    assert "is not a complete plan of a sweep: sweep.json counts 7 runs" in capsys.readouterr().out
