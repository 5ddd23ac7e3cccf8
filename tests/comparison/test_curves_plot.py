"""Learning curves draw what the histories say."""

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts, words

from roadmap.comparison.curves_plot import curves_chart, draw_curves
from roadmap.errors import RequestError
from tests.records import record

WORDS = {"title": "A title", "subtitle": "data digits: 358 images to train on"}
NAN = float("nan")


def points(name: str, *curves: list[float], status: str = "finished") -> pd.DataFrame:
    rows = [
        {"name": name, "run_id": f"{name}{status}{seed}", "status": status, "epoch": epoch, "value": value}
        for seed, curve in enumerate(curves)
        for epoch, value in enumerate(curve, 1)
    ]
    return pd.DataFrame(rows)


def test_a_curve_is_the_mean_over_seeds_and_unfinished_runs_stand_by_themselves() -> None:
    made = [points("a", [1.0, 2.0], [3.0, 6.0]), points("a", [50.0], status="running"), points("b", [7.0, 8.0])]
    chart = curves_chart(pd.concat(made), ["a", "b"], "loss", **WORDS)
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
    made = pd.concat([points(name, list(scale * random.uniform(10, 95, epochs))) for name in names])
    assert {"loss", "epoch", *names} <= set(texts(curves_chart(made, names, "loss", **WORDS)))


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
