"""Tradeoff, learning curves and deltas draw what their tables say."""

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts, words

from roadmap.comparison.curves_plot import Curve, curves_chart, draw_curves
from roadmap.comparison.deltas_plot import deltas_chart
from roadmap.comparison.groups import group_names
from roadmap.comparison.tradeoff_plot import COSTS, draw_tradeoff, pareto, tradeoff_chart
from roadmap.errors import RequestError

NAN = float("nan")
WORDS = {"title": "A title", "subtitle": "data digits: 358 images to train on"}
RANDOM = np.random.default_rng(0)


def points(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"variant_{row} kernel=k3" for row in range(count)], "n": 3})
    table["top1"], table["top1_std"] = RANDOM.uniform(90, 96, count), RANDOM.uniform(0.1, 1.5, count)
    table["gmacs"] = RANDOM.uniform(0.001, 0.004, count)
    return table.assign(**columns)


TRADEOFFS = {
    "17 variants": points(17),
    "one run": points(1, n=1, top1_std=NAN),
    "one seed": points(17, n=1, top1_std=NAN),
    "long names": points(9, label="separate_downsampling recipe.optimizer.lr=0.0123456789 norm=batch kernel=k11"),
    "from tiny to huge": points(9, gmacs=np.geomspace(1e-6, 1e6, 9)),
    "huge": points(5, gmacs=RANDOM.uniform(1e7, 2e7, 5)),
    "all 0": points(3, top1=0.0, top1_std=0.0),
    "all 100": points(3, top1=100.0, top1_std=0.0),
}


@pytest.mark.parametrize("name", TRADEOFFS)
def test_every_design_is_a_point_with_its_label(name: str) -> None:
    table = TRADEOFFS[name]
    chart = tradeoff_chart(table, COSTS["gmacs"], **WORDS)
    factor = 1 if table["gmacs"].max() >= 0.1 else 1000
    found = np.array(drawn(chart, "point", "x", "y"))
    np.testing.assert_allclose(found, np.stack([table["gmacs"] * factor, table["top1"]], axis=1))
    spread = table[table["n"] > 1]
    ends = np.array(drawn(chart, "rule", "y", "y2")).reshape(-1, 2)[: len(spread)]
    np.testing.assert_allclose(
        ends, np.stack([spread["top1"] - spread["top1_std"], spread["top1"] + spread["top1_std"]], 1)
    )
    if name != "long names":
        assert set(table["label"]) <= set(texts(chart))


def test_labels_without_room_are_counted() -> None:
    chart = tradeoff_chart(points(200, top1=95.0, gmacs=0.002), COSTS["gmacs"], **WORDS)
    labels = drawn(chart, "text", "text")
    assert 0 < len(labels) < 200
    assert f"{200 - len(labels)} labels left out for lack of room" in words(chart)


def test_the_front_is_what_nothing_dominates() -> None:
    x, y = RANDOM.integers(0, 8, 60).astype(float), RANDOM.integers(0, 8, 60).astype(float)
    for better in (-1, 1):
        beaten = [
            any(
                better * other_x >= better * one_x and other_y >= one_y and (other_x, other_y) != (one_x, one_y)
                for other_x, other_y in zip(x, y, strict=True)
            )
            for one_x, one_y in zip(x, y, strict=True)
        ]
        assert pareto(x, y, better).tolist() == [not lost for lost in beaten]


@pytest.mark.parametrize(
    ("cost", "x", "front"), [("gmacs", "gmacs", [0, 1]), ("throughput", "images_per_second", [1, 2])]
)
def test_the_front_turns_with_what_is_better(cost: str, x: str, front: list[int]) -> None:
    table = points(3, top1=[90.0, 92.0, 91.0], label=["a", "b", "c"], **{x: [1.0, 2.0, 3.0]})
    chart = tradeoff_chart(table, COSTS[cost], **WORDS)
    assert [at for at, mark in drawn(chart, "point", "x", "fill") if mark == "on the Pareto front"] == table[x][
        front
    ].tolist()
    assert drawn(chart, "line", "x", "y") == list(zip(table[x][front], table["top1"][front], strict=True))


def run(seed: int, **fields: object) -> dict:
    definition = {"data": {"name": "digits", "holdout": 0.0}, "image_size": 32, "precision": "fp32", "recipe": {}}
    return {
        "run_id": f"{fields.get('step', 'gelu')}{seed}",
        "status": "finished",
        "regime": "nano",
        "step": "gelu",
        "variant": fields.get("step", "gelu"),
        "design": {"kernel": fields.get("step", "gelu")},
        "seed": seed,
        "data": "digits",
        "recipe": "enhanced",
        "epochs": 30,
        "batch_size": 64,
        "image_size": 32,
        "precision": "fp32",
        "device": "cpu",
        "processes": 1,
        "train_images": 358,
        "val_images": 1200,
        "gmacs": 0.002,
        "params_m": 1.0,
        "activations_m": 1.0,
        "top1": 90.0 + seed,
        "top5": 99.0,
        "images_per_second": 1000.0,
        "peak_memory_gb": 1.0,
        "train_seconds": 9.0,
        "definition": definition | {"design": {"kernel": fields.get("step", "gelu")}, "seed": seed},
    } | fields


def test_measured_costs_are_compared_on_one_device_only() -> None:
    runs = pd.DataFrame([run(0), run(0, step="kernel_7", device="NVIDIA H100")])
    for x in ("throughput", "memory", "time"):
        with pytest.raises(RequestError, match=r"measured on NVIDIA H100 and cpu, whose .* is no comparison"):
            draw_tradeoff(runs, x)
    draw_tradeoff(runs, "gmacs")
    with pytest.raises(RequestError, match="measured on 2 x cpu and cpu"):
        draw_tradeoff(pd.DataFrame([run(0), run(0, step="kernel_7", processes=2)]), "time")
    written = words(draw_tradeoff(runs.assign(device="cpu"), "memory"))
    assert "measured on cpu, where memory is the whole process's" in written


def test_other_data_is_no_comparison() -> None:
    other = run(0, step="kernel_7", regime="tiny")
    other["definition"] = other["definition"] | {"data": {"name": "cifar10", "holdout": 0.0}}
    runs = pd.DataFrame([run(0), other])
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_tradeoff(runs, "gmacs")
    history = pd.DataFrame({"run_id": ["gelu0", "kernel_70"], "epoch": 1, "top1": 5.0})
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_curves(runs, history, "top1")


def test_names_say_what_tells_groups_of_one_variant_apart() -> None:
    shared = {"recipe": "enhanced", "epochs": 30, "batch_size": 64, "image_size": 32, "precision": "fp32"}
    rows = [{"variant": "gelu", "regime": "nano"}, {"variant": "gelu", "regime": "nano_base"}]
    rows += [{"variant": "a", "regime": "nano"}, {"variant": "b", "regime": "nano", "epochs": 5}]
    rows += [{"variant": "b", "regime": "nano"}] * 2
    names = group_names(pd.DataFrame([shared | row for row in rows]))
    assert names == [
        "gelu, nano",
        "gelu, nano_base",
        "a",
        "b, nano, epochs 5",
        "b, nano, epochs 30 (1)",
        "b, nano, epochs 30 (2)",
    ]


def series(values: list[float], first: int = 1) -> pd.Series:
    return pd.Series(values, index=range(first, first + len(values)))


def test_a_curve_is_the_mean_over_seeds_where_all_of_them_are() -> None:
    done = [series([1.0, 2.0, 3.0]), series([3.0, 6.0, 9.0]), series([8.0, 1.0], first=2)]
    chart = curves_chart([Curve("a", done, [series([50.0, 60.0])])], "loss", **WORDS)
    lines = drawn(chart, "line", "x", "y", "color")
    assert [row for row in lines if row[2] == "finished seeds"] == [
        (2, 16 / 3, "finished seeds"),
        (3, 13 / 3, "finished seeds"),
    ]
    assert [row[:2] for row in lines if row[2] == "unfinished run"] == [(1, 50.0), (2, 60.0)]
    assert drawn(chart, "area", "x", "y", "y2") == [(2, 2.0, 8.0), (3, 1.0, 9.0)]
    assert "unfinished run" in texts(chart)


def test_panels_share_axes_and_the_range_of_all_means() -> None:
    curves = [Curve("a", [series([1.0, 2.0]), series([3.0, 4.0])], []), Curve("b", [series([8.0, 9.0])], [])]
    chart = curves_chart(curves, "loss", **WORDS)
    areas = drawn(chart, "area", "x", "y", "y2")
    assert [row for row in areas if row in [(1, 2.0, 8.0), (2, 3.0, 9.0)]] == [(1, 2.0, 8.0), (2, 3.0, 9.0)] * 2
    assert "Grey: all designs" in words(chart)


@pytest.mark.parametrize("scale", [1e9, 1e-9, 0.0])
@pytest.mark.parametrize("epochs", [1, 30])
def test_curves_of_any_size_are_drawn(scale: float, epochs: int) -> None:
    curves = [Curve(f"variant_{n}", [series(list(scale * RANDOM.uniform(10, 95, epochs)))], []) for n in range(5)]
    written = texts(curves_chart(curves, "loss", **WORDS))
    assert {"loss", "epoch"} <= set(written)
    assert len([text for text in written if text.startswith("variant_")]) == 5


def test_a_wide_range_has_a_logarithmic_axis() -> None:
    for top, logarithmic in ((200.0, False), (2000.0, True)):
        chart = curves_chart([Curve("a", [series([1.0, top])], [])], "loss", **WORDS)
        assert ("Logarithmic axis" in words(chart)) == logarithmic


def test_runs_become_curves_in_the_papers_order() -> None:
    runs = pd.DataFrame(
        [
            run(0, step="kernel_7"),
            run(1, step="kernel_7"),
            run(0, step="resnet50"),
            run(1, step="resnet50", status="failed"),
        ]
    )
    rows = [
        {"run_id": run_id, "epoch": epoch, "top1": 5.0, "name": "x"} for run_id in runs["run_id"] for epoch in (1, 2)
    ]
    found = texts(draw_curves(runs, pd.DataFrame(rows), "top1"))
    panels = [text for text in found if "ends at" in text]
    assert panels == ["resnet50 ends at 5, one seed; 1 not finished", "kernel_7 ends at 5, 2 seeds"]
    for metric, choices in (("top3", "choose top1"), ("name", "choose top1"), ("epoch", "choose top1")):
        with pytest.raises(RequestError, match=rf"no run logged a metric '{metric}' \({choices}\)"):
            draw_curves(runs, pd.DataFrame(rows), metric)


def steps(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"step {row}" for row in range(count)], "section": "training"})
    table["parent"] = [None, *table["label"][:-1]]
    table["delta"] = np.linspace(-3, 3, count)
    table["delta_low"], table["delta_high"], table["delta_n"] = table["delta"] - 1, table["delta"] + 1, 3
    table["delta_p_holm"], table["paper_delta"] = np.linspace(0.001, 0.2, count), 0.5
    return table.assign(**columns)


def test_shapes_tell_what_is_outside_noise() -> None:
    table = steps(6, delta=[NAN, 2.0, -2.0, 0.5, 1.0, NAN], delta_p_holm=[NAN, 0.01, 0.01, 0.2, NAN, NAN])
    table.loc[4:, ["delta_low", "delta_high"]] = NAN
    chart = deltas_chart(table, paper="on ImageNet-1K", **WORDS)
    assert drawn(chart, "point", "x", "shape") == [
        (2.0, "gain outside noise"),
        (-2.0, "loss outside noise"),
        (0.5, "within noise"),
        (1.0, "noise unknown"),
    ]
    assert [x for (x,) in drawn(chart, "point", "x") if (x,) not in {(2.0,), (-2.0,), (1.0,)}] == [0.5] * 6
    known = table.loc[1:3]
    assert drawn(chart, "rule", "x", "x2") == list(zip(known["delta_low"], known["delta_high"], strict=True))
    written = texts(chart)
    assert {"step 1", "+2.00", "-2.00", "0.010", "gain outside noise", "–"} <= set(written)
    assert "corrected for 3 comparisons (Holm)" in words(chart)


@pytest.mark.parametrize(
    "table",
    [
        steps(2),
        steps(5, delta_low=NAN, delta_high=NAN, delta_n=1, delta_p_holm=NAN),
        steps(5, delta=0.0, paper_delta=NAN),
    ],
)
def test_few_and_equal_gaps_are_drawn(table: pd.DataFrame) -> None:
    chart = deltas_chart(table, **WORDS)
    assert len(drawn(chart, "point", "x", "fill")) == len(table) - 1


def test_an_interval_beyond_the_axis_is_said_to_continue() -> None:
    chart = deltas_chart(steps(5, delta_low=-90.0, delta_high=95.0), **WORDS)
    ends = drawn(chart, "rule", "x", "x2")
    assert all(-10 < low < high < 10 for low, high in ends)
    assert "Intervals that reach an edge continue beyond it" in words(chart)


def test_without_anything_to_draw_it_says_so() -> None:
    with pytest.raises(RequestError, match="no finished run"):
        draw_tradeoff(pd.DataFrame([run(0, status="failed")]), "gmacs")
    with pytest.raises(RequestError, match="none of these runs says its training time; choose another x of gmacs"):
        draw_tradeoff(pd.DataFrame([run(0, train_seconds=NAN)]), "time")
    with pytest.raises(RequestError, match=r"unknown x 'flops' \(choose gmacs, params, throughput, memory or time\)"):
        draw_tradeoff(pd.DataFrame([run(0)]), "flops")
    with pytest.raises(RequestError, match="nor has any run here an epoch yet"):
        draw_curves(pd.DataFrame([run(0)]), pd.DataFrame(), "top1")
    with pytest.raises(RequestError, match="no step and the step before it have both been run"):
        deltas_chart(steps(3, delta=NAN), **WORDS)
