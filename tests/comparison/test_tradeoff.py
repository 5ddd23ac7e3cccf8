"""Accuracy against a cost, with the Pareto front; and learning curves."""

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts, words

from roadmap.comparison.curves_plot import curves_chart, draw_curves
from roadmap.comparison.groups import group_names
from roadmap.comparison.tradeoff_plot import COSTS, draw_pareto, draw_tradeoff, front, on_front, text, tradeoff_chart
from roadmap.errors import RequestError
from tests.records import record

NAN = float("nan")
WORDS = {"title": "A title", "subtitle": "data digits: 358 images to train on"}
RANDOM = np.random.default_rng(0)


def points(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"variant_{row} kernel=k3" for row in range(count)], "n": 3})
    table["top1"], table["top1_std"] = RANDOM.uniform(90, 96, count), RANDOM.uniform(0.1, 1.5, count)
    table["gmacs"] = RANDOM.uniform(0.001, 0.004, count)
    return table.assign(**columns)


@pytest.mark.parametrize(
    "table",
    [
        points(17),
        points(1, n=1, top1_std=NAN),
        points(9, gmacs=np.geomspace(1e-6, 1e6, 9)),
        points(3, top1=0.0, top1_std=0.0),
    ],
)
def test_every_design_is_a_point_with_its_number_and_name(table: pd.DataFrame) -> None:
    chart = tradeoff_chart(table, COSTS["gmacs"], **WORDS)
    factor = 1 if table["gmacs"].max() >= 0.1 else 1000
    found = np.array(drawn(chart, "point", "x", "y"))
    np.testing.assert_allclose(np.sort(found, 0), np.sort(np.stack([table["gmacs"] * factor, table["top1"]], 1), 0))
    spread = table[table["n"] > 1]
    low, high = spread["top1"] - spread["top1_std"], spread["top1"] + spread["top1_std"]
    assert sorted(drawn(chart, "rule", "y", "y2")) == sorted(zip(low, high, strict=True))
    written = words(chart)
    assert {str(number + 1) for number in range(len(table))} <= set(texts(chart))
    assert all(f"{number} {label}" in written for number, label in enumerate(table["label"], 1))


def test_of_many_designs_only_the_front_is_numbered() -> None:
    table = points(200, gmacs=np.linspace(0.001, 0.004, 200)[::-1], top1=np.r_[96.0, 95.0, np.linspace(80, 94, 198)])
    chart = tradeoff_chart(table, COSTS["gmacs"], **WORDS)
    assert [label for (label,) in drawn(chart, "text", "text") if label] == ["1", "2", "3"]
    assert "1 variant_199 kernel=k3" in words(chart)


@pytest.mark.parametrize("cost", ["gmacs", "throughput"])
def test_the_front_is_what_nothing_dominates(cost: str) -> None:
    axis = COSTS[cost]
    x, y = RANDOM.integers(0, 8, 60).astype(float), RANDOM.integers(0, 8, 60).astype(float)
    beaten = [
        any(
            axis.better * other_x >= axis.better * one_x and other_y >= one_y and (other_x, other_y) != (one_x, one_y)
            for other_x, other_y in zip(x, y, strict=True)
        )
        for one_x, one_y in zip(x, y, strict=True)
    ]
    table = pd.DataFrame({axis.column: x, "top1": y})
    assert on_front(table, axis).tolist() == [not lost for lost in beaten]
    marks = drawn(tradeoff_chart(table.assign(label="a", n=1, top1_std=NAN), axis, **WORDS), "point", "x", "y", "fill")
    assert sum(mark == "on the Pareto front" for *_, mark in marks) == beaten.count(False)


def test_names_say_what_tells_groups_of_one_variant_apart() -> None:
    shared = {"recipe": "enhanced", "epochs": 30, "batch_size": 64, "image_size": 32, "precision": "fp32"}
    rows = [{"variant": "gelu", "regime": "nano"}, {"variant": "gelu", "regime": "nano_base", "epochs": 5}]
    assert group_names(pd.DataFrame([shared | row for row in rows])) == [
        "gelu, nano, epochs 30",
        "gelu, nano_base, epochs 5",
    ]
    rows[1]["variant"] = "b"
    assert group_names(pd.DataFrame([shared | row for row in rows])) == ["gelu", "b"]


def runs_of(*designs: tuple[float, list[float]], held_out: float = 0.2, **fields: object) -> pd.DataFrame:
    """A design each with its GMACs and the accuracies of its seeds; known by the width that is its number."""
    made = []
    for number, (gmacs, accuracies) in enumerate(designs):
        for seed, top1 in enumerate(accuracies):
            run = record("gelu", seed, top1)
            run |= {"gmacs": gmacs, "params_m": 10 - gmacs, "variant": f"gelu design.width={number}", **fields}
            run["definition"]["design"] |= {"width": number}
            run["definition"]["data"] |= {"holdout": held_out}
            made.append(run)
    return pd.DataFrame(made)


def members(runs: pd.DataFrame, x: str = "gmacs") -> list[int]:
    table = front(runs, x).table
    return [int(variant.rpartition("=")[2]) for variant in table.loc[table["point"] != "", "variant"]]


def test_pareto_by_hand() -> None:
    #               cheapest      as good, dearer  better, dearer  equal in both   worse, dearer
    runs = runs_of((1.0, [90.0]), (2.0, [90.0]), (2.0, [92.0]), (2.0, [92.0]), (3.0, [60.0]))
    assert members(runs) == [0, 2, 3]
    assert members(runs, "params") == [4, 2, 3]  # parameters fall as MACs rise
    # means of the same accuracies in another order differ in the last bits
    assert members(runs_of((1.0, [89.7, 94.8, 93.6]), (2.0, [93.6, 94.8, 89.7]))) == [0]
    runs.loc[4, "status"] = "interrupted"
    found = front(runs)
    said = text(found)
    assert "held out of the training images" in said
    assert "caution: as the best of 4 noisy ones, the front's accuracies are biased upward\n" in said
    assert "not included: 1 run pruned, failed or in progress" in said
    assert "test images, which must not be used to choose" in text(
        front(runs_of((1.0, [9.0]), (2.0, [8.0]), held_out=0))
    )
    chart = draw_pareto(found)
    assert len(drawn(chart, "point", "x")) == 4
    assert "2 gelu design.width=2" in words(chart)


def test_runs_that_are_not_comparable_have_no_front() -> None:
    runs = runs_of((1.0, [90.0]), (2.0, [91.0]))
    with pytest.raises(RequestError, match=r"differ in recipe \(enhanced and original\), .* --where"):
        front(runs.assign(recipe=["enhanced", "original"]))
    with pytest.raises(RequestError, match="these runs differ in data"):
        front(pd.concat([runs, runs_of((3.0, [92.0]), held_out=0.0)], ignore_index=True))
    longer = runs_of((3.0, [92.0]), regime="tiny")
    longer["definition"].iloc[0]["epochs"] = 60
    with pytest.raises(RequestError, match="these runs differ in epochs"):
        front(pd.concat([runs, longer], ignore_index=True))
    with pytest.raises(RequestError, match="no finished run"):
        front(runs.assign(status="interrupted"))
    with pytest.raises(RequestError, match=r"unknown x 'time' of a Pareto front \(choose gmacs or params\)"):
        front(runs, "time")


def test_measured_costs_are_compared_on_one_device_only() -> None:
    runs = pd.DataFrame([record("gelu", 0, 80.0), record("kernel_7", 0, 81.0)]).assign(processes=1)
    for machines, said in (
        ({"device": ["cpu", "NVIDIA H100"]}, "measured on 1 x NVIDIA H100 and 1 x cpu, whose .* is no comparison"),
        ({"processes": [2, 1]}, "measured on 1 x cpu and 2 x cpu"),
    ):
        for x in ("throughput", "memory", "time"):
            with pytest.raises(RequestError, match=said):
                draw_tradeoff(runs.assign(**machines), x)
        draw_tradeoff(runs.assign(**machines), "gmacs")
    assert "measured on 1 x cpu" in words(draw_tradeoff(runs, "memory"))
    with pytest.raises(RequestError, match="none of these runs says its training time; choose another x of gmacs"):
        draw_tradeoff(runs.assign(train_seconds=NAN), "time")
    with pytest.raises(RequestError, match=r"unknown x 'flops' \(choose gmacs, params, throughput, memory or time\)"):
        draw_tradeoff(runs, "flops")
    runs["definition"].iloc[0]["data"] |= {"name": "cifar10"}
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_tradeoff(runs, "gmacs")


CURVE_WORDS = {"title": "A title", "subtitle": "data digits: 358 images to train on"}


def curve_points(name: str, *curves: list[float], status: str = "finished") -> pd.DataFrame:
    rows = [
        {"name": name, "run_id": f"{name}{status}{seed}", "status": status, "epoch": epoch, "value": value}
        for seed, curve in enumerate(curves)
        for epoch, value in enumerate(curve, 1)
    ]
    return pd.DataFrame(rows)


def test_a_curve_is_the_mean_over_seeds_and_unfinished_runs_stand_by_themselves() -> None:
    made = [
        curve_points("a", [1.0, 2.0], [3.0, 6.0]),
        curve_points("a", [50.0], status="running"),
        curve_points("b", [7.0, 8.0]),
    ]
    chart = curves_chart(pd.concat(made), ["a", "b"], "loss", **CURVE_WORDS)
    lines = drawn(chart, "line", "x", "y")
    assert lines == [(1, 2.0), (2, 4.0), (1, 7.0), (2, 8.0), (1, 50.0)]
    assert drawn(chart, "area", "x", "y", "y2") == [(1, 1.0, 3.0), (2, 2.0, 6.0), (1, 7.0, 7.0), (2, 8.0, 8.0)]
    assert "mean over 1 to 2 seeds" in words(chart)
    assert "Dashed: unfinished runs" in words(chart)


@pytest.mark.parametrize("scale", [1e9, 0.0])
@pytest.mark.parametrize("epochs", [1, 30])
def test_curves_of_any_size_are_drawn(scale: float, epochs: int) -> None:
    random = np.random.default_rng(0)
    names = [f"variant_{n}" for n in range(5)]
    made = pd.concat([curve_points(name, list(scale * random.uniform(10, 95, epochs))) for name in names])
    assert {"loss", "epoch", *names} <= set(texts(curves_chart(made, names, "loss", **CURVE_WORDS)))


def test_runs_become_curves_in_the_papers_order() -> None:
    runs = pd.DataFrame([record(step, seed, 80.0) for step in ("kernel_7", "resnet50") for seed in (0, 1)])
    runs["recipe"] = "enhanced"
    for definition in runs["definition"]:
        definition["recipe"] = runs["definition"].iloc[0]["recipe"]
    runs["run_id"] = ["a", "b", "c", "d"]
    rows = [{"run_id": run, "epoch": epoch, "top1": 5.0, "x": "x"} for run in runs["run_id"] for epoch in (1, 2)]
    history = pd.DataFrame(rows)
    found = texts(draw_curves(runs, history, "top1"))
    assert [text for text in found if text in ("resnet50", "kernel_7")] == ["resnet50", "kernel_7"]
    for metric in ("top3", "x", "epoch"):
        with pytest.raises(RequestError, match=rf"no run logged a metric '{metric}' \(choose top1\)"):
            draw_curves(runs, history, metric)
    with pytest.raises(RequestError, match="nor has any run here an epoch yet"):
        draw_curves(runs, pd.DataFrame(), "top1")
    with pytest.raises(RequestError, match="none of these runs logged 'top1'"):
        draw_curves(runs, history.assign(top1=NAN), "top1")
    runs["definition"].iloc[0]["data"] = {"name": "cifar10"}
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_curves(runs, history, "top1")
