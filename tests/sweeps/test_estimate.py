"""Estimated times against hand calculation and against the example runs."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import roadmap
from roadmap.sweeps.estimate import describe, estimate, parallel_seconds
from tests.records import EXAMPLES


def run(gmacs: float, seconds: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A run of 10 epochs of 100 images: the line of a plan, and the record of one that took ``seconds``."""
    made = {"run_id": f"{gmacs}{changes.get('seed', 0)}", "regime": "nano", "variant": f"w{gmacs}", "seed": 0}
    made |= {"gmacs": gmacs, "params_m": 1.0, "epochs": 10, "images": 1000, "train_images": 100, "device": "cpu"}
    made |= {"status": "finished", "data": "digits", "train_seconds": seconds}
    return made | {"started": None, "ended": "2026-11-25T00:00:00+00:00"} | changes


def seconds(planned: list[dict[str, Any]], *measured: dict[str, Any]) -> list[float]:
    return estimate(planned, pd.DataFrame(measured)).seconds.tolist()


def test_a_known_design_takes_the_mean_of_its_runs() -> None:
    estimated = estimate([run(2.0, images=3000, epochs=30)], pd.DataFrame([run(2.0, 10), run(2.0, 14), run(8.0, 999)]))
    assert estimated.seconds == pytest.approx([36.0])
    assert estimated.basis == "from 3 runs on digits (cpu), of the same designs"


def test_another_recipe_of_equal_cost_is_another_design() -> None:
    estimated = estimate([run(2.0)], pd.DataFrame([run(2.0, 10, variant="gelu"), run(2.0, 14, variant="layer_norm")]))
    assert estimated.basis == "from 2 runs on digits (cpu), by GMACs"
    assert estimated.seconds == pytest.approx([12.0])


def test_one_or_two_designs_are_in_proportion_to_gmacs() -> None:
    assert seconds([run(3.0), run(0.5)], run(1.0, 4)) == pytest.approx([12.0, 2.0])
    assert seconds([run(3.0)], run(1.0, 4), run(2.0, 5)) == pytest.approx([9.0])


def test_three_designs_give_a_line_and_proportion_beyond_it() -> None:
    line = [run(gmacs, 5 + 2 * gmacs) for gmacs in (1.0, 2.0, 4.0, 5.0)]
    assert seconds([run(3.0), run(10.0), run(0.5)], *line) == pytest.approx([11.0, 30.0, 3.5])


def test_a_regime_with_enough_designs_uses_only_those() -> None:
    own = [run(gmacs, gmacs) for gmacs in (1.0, 2.0, 3.0)]
    others = [run(gmacs, 100 * gmacs, regime="tiny") for gmacs in (1.0, 2.0, 3.0)]
    assert seconds([run(2.5)], *own, *others) == pytest.approx([2.5])
    assert seconds([run(2.5)], *own[:2], *others)[0] > 10


def test_overhead_is_added_from_start_and_end_times() -> None:
    """Ten runs of 10 epochs and 20 s that took 25 s each, and one that was interrupted for an hour."""
    times = {"started": "2026-11-25T00:00:00+00:00", "ended": "2026-11-25T00:00:25+00:00"}
    made = [run(1.0, 20, seed=seed, **times) for seed in range(10)]
    paused = run(1.0, 20, seed=10, **times | {"ended": "2026-11-25T01:00:25+00:00"})
    assert seconds([run(1.0), run(1.0, images=2000, epochs=20)], *made, paused) == pytest.approx([25.0, 50.0])


def test_only_runs_on_the_same_device_count() -> None:
    old = [run(1.0, 100, ended="2026-11-24T00:00:00+00:00"), run(1.0, 70, processes=8)]
    gpu = run(1.0, 3, device="NVIDIA A100", processes=8, ended="2026-11-26T00:00:00+00:00")
    estimated = estimate([run(1.0)], pd.DataFrame([*old, gpu]))
    assert estimated.seconds == pytest.approx([3.0])
    assert estimated.basis == "from 1 run on digits (8 × NVIDIA A100), of the same designs"


def test_other_data_and_precision_do_not_count() -> None:
    measured = pd.DataFrame([run(1.0, 10, precision="fp32"), run(1.0, 99, precision="bf16"), run(1.0, 50, data="x")])
    estimated = estimate([run(1.0)], measured, {"data": "digits", "precision": "fp32"})
    assert estimated.seconds == pytest.approx([10.0])


def test_time_is_unknown_without_a_finished_run() -> None:
    for measured in ([], [run(1.0, 5, status="failed")], [run(1.0, 5, data="x")]):
        runs = pd.DataFrame(measured, columns=list(run(1.0)))
        estimated = estimate([run(1.0), run(2.0)], runs, {"data": "digits"})
        assert np.isnan(estimated.seconds).all()
        assert describe([run(1.0), run(2.0)], set(), estimated, 1)[-1] == (
            "time unknown: no finished run on the same data"
        )


def test_unknown_image_counts_come_from_runs_on_the_same_data() -> None:
    estimated = estimate([run(1.0, images=None, epochs=20)], pd.DataFrame([run(1.0, 10)]))
    assert (estimated.images.tolist(), estimated.seconds.tolist()) == ([2000.0], [20.0])


def test_the_range_covers_eight_of_ten_runs_relative_to_the_fit() -> None:
    made = [run(1.0, 10 + seed, seed=seed) for seed in range(11)]
    estimated = estimate([run(1.0)], pd.DataFrame(made))
    assert (estimated.low.tolist(), estimated.high.tolist()) == (pytest.approx([11.0]), pytest.approx([19.0]))
    assert np.isnan(estimate([run(1.0)], pd.DataFrame(made[:4])).low).all(), "four runs give no range"


def test_the_lines_of_a_dry_run() -> None:
    planned = [run(1.0, seed=seed) | {"run_id": str(seed)} for seed in range(4)]
    estimated = estimate(planned, pd.DataFrame([run(1.0, 7200)]))
    assert describe(planned, {"0"}, estimated, 2) == [
        "4 runs: 1 done, 3 missing",
        "missing: 3e+03 GMACs × images in forward passes (three times that with backward passes)",
        "about 6.0 h on one worker, 3.0 h on 2 workers, from 1 run on digits (cpu), of the same designs",
    ]
    assert describe(planned, {"0", "1", "2", "3"}, estimated, 2) == ["4 runs: 4 done, 0 missing"]


def test_workers_are_not_faster_than_the_longest_run() -> None:
    assert parallel_seconds(np.array([10.0, 1.0, 1.0]), 4) == 10.0
    assert parallel_seconds(np.array([3.0, 3.0, 3.0]), 3) == 3.0
    assert parallel_seconds(np.array([]), 3) == 0.0
    assert math.isnan(parallel_seconds(np.array([np.nan]), 3))


@pytest.fixture(scope="module")
def examples() -> pd.DataFrame:
    runs = roadmap.load_runs(EXAMPLES)
    took = pd.to_datetime(runs["ended"]) - pd.to_datetime(runs["started"])
    return runs.assign(images=runs["epochs"] * runs["train_images"], took=took.dt.total_seconds())


def test_designs_left_out_of_the_example_runs_are_estimated(examples: pd.DataFrame) -> None:
    """Start and end are whole seconds of a run of about eight, which is part of the error."""
    errors, total = [], 0.0
    for _, own in examples.groupby("variant"):
        estimated = estimate(own.to_dict("records"), examples.drop(own.index))
        errors += (estimated.seconds / own["took"] - 1).abs().tolist()
        total += estimated.seconds.sum()
    assert np.median(errors) < 0.075
    assert np.mean(errors) < 0.105
    assert total == pytest.approx(examples["took"].sum(), rel=0.01)


def test_other_seeds_of_the_same_designs_are_estimated_better(examples: pd.DataFrame) -> None:
    others = examples[examples["seed"] == 2]
    estimated = estimate(others.to_dict("records"), examples[examples["seed"] != 2])
    assert np.median((estimated.seconds / others["took"] - 1).abs()) < 0.06
    assert estimated.low.sum() < others["took"].sum() < estimated.high.sum()
