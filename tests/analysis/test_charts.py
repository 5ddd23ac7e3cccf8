"""Tradeoff, learning curves and deltas: what is drawn is what the tables say, and no two texts meet."""

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from layout import boxes, check_texts
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from roadmap.analysis.figures.curves import Curve, curves_figure, draw_curves
from roadmap.analysis.figures.deltas import deltas_figure, draw_deltas
from roadmap.analysis.figures.labels import group_names, place
from roadmap.analysis.figures.tradeoff import COSTS, draw_tradeoff, pareto, tradeoff_figure
from roadmap.errors import RequestError

NAN = float("nan")
TITLE, SUBTITLE = "A title", "data digits: 358 images to train on, 1,200 to evaluate, 32 pixels; measured on cpu; " * 2
RANDOM = np.random.default_rng(0)


def points(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"variant_{row} kernel=k3" for row in range(count)], "n": 3})
    table["top1"], table["top1_std"] = RANDOM.uniform(90, 96, count), RANDOM.uniform(0.1, 1.5, count)
    table["gmacs"] = RANDOM.uniform(0.001, 0.004, count)
    return table.assign(**columns)


TRADEOFFS = {
    "17 variants": points(17),
    "40 variants": points(40),
    "20 in one place": points(20, top1=95.0, gmacs=0.002),
    "one run": points(1, n=1, top1_std=NAN),
    "one seed": points(17, n=1, top1_std=NAN),
    "long names": points(9, label="separate_downsampling recipe.optimizer.lr=0.0123456789 norm=batch kernel=k11"),
    "from tiny to huge": points(9, gmacs=np.geomspace(1e-6, 1e6, 9)),
    "huge": points(5, gmacs=RANDOM.uniform(1e7, 2e7, 5)),
    "all 0": points(3, top1=0.0, top1_std=0.0),
    "all 100": points(3, top1=100.0, top1_std=0.0),
}


@pytest.mark.parametrize("name", TRADEOFFS)
def test_labels_of_points_keep_clear_of_each_other_and_of_points(name: str) -> None:
    table = TRADEOFFS[name]
    figure = tradeoff_figure(table, COSTS["gmacs"], TITLE, SUBTITLE)
    check_texts(figure)
    (axes,) = figure.axes
    wanted = {"".join(label.split()) for label in table["label"]}
    labels = [(text, box) for text, box in boxes(figure) if "".join(text.split()) in wanted]
    assert len(labels) == len(table)
    marks = [line for line in axes.lines if line.get_marker() in "os" and line.get_linestyle() == "None"]
    drawn = np.vstack([line.get_xydata() for line in marks])
    assert len(drawn) == len(table)
    np.testing.assert_allclose(sorted(drawn[:, 1]), sorted(table["top1"]))
    for (text, box), point in itertools.product(labels, axes.transData.transform(drawn)):
        assert not box.contains(*point), text


def test_the_front_is_what_nothing_beats() -> None:
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
    axes = tradeoff_figure(table, COSTS[cost], TITLE, SUBTITLE).axes[0]
    (marked,) = [line for line in axes.lines if line.get_label() == "on the Pareto front"]
    assert marked.get_xdata().tolist() == table[x][front].tolist()


def test_a_label_finds_no_place_where_there_is_none() -> None:
    anchors, sizes = np.array([[0.5, 0.5]]), np.array([[2.0, 0.1]])
    assert place(anchors, sizes, np.empty((0, 4)), (0, 0, 1, 1), np.empty((0, 2))) is None


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


def test_measured_costs_are_compared_on_one_device_only(tmp_path: Path) -> None:
    runs = pd.DataFrame([run(0), run(0, step="kernel_7", device="NVIDIA H100")])
    for x in ("throughput", "memory", "time"):
        with pytest.raises(RequestError, match=r"measured on NVIDIA H100 and cpu, whose .* is no comparison"):
            draw_tradeoff(runs, x, tmp_path / "a.png")
    draw_tradeoff(runs, "gmacs", tmp_path / "a.png")
    with pytest.raises(RequestError, match="measured on 2 x cpu and cpu"):
        draw_tradeoff(pd.DataFrame([run(0), run(0, step="kernel_7", processes=2)]), "time", tmp_path / "b.png")
    draw_tradeoff(runs.assign(device="cpu"), "memory", tmp_path / "b.svg")
    written = " ".join(ET.parse(tmp_path / "b.svg").getroot().itertext())
    assert "measured on cpu, where memory is the whole process's" in " ".join(written.split())


def test_other_data_is_no_comparison(tmp_path: Path) -> None:
    other = run(0, step="kernel_7", regime="tiny")
    other["definition"] = other["definition"] | {"data": {"name": "cifar10", "holdout": 0.0}}
    runs = pd.DataFrame([run(0), other])
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_tradeoff(runs, "gmacs", tmp_path / "a.png")
    history = pd.DataFrame({"run_id": ["gelu0", "kernel_70"], "epoch": 1, "top1": 5.0})
    with pytest.raises(RequestError, match="these runs differ in data"):
        draw_curves(runs, history, "top1", tmp_path / "a.png")


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


def curve(number: int, epochs: int = 30, seeds: int = 3, scale: float = 1.0) -> Curve:
    values = [series(list(scale * np.sort(RANDOM.uniform(10, 95, epochs)))) for _ in range(seeds)]
    return Curve(f"variant_{number} kernel=k3 recipe.optimizer.lr=0.1", values, [])


CURVES = {
    "17 variants": [curve(number) for number in range(17)],
    "40 variants": [curve(number) for number in range(40)],
    "one run": [curve(0, seeds=1)],
    "one epoch": [curve(0, epochs=1), curve(1, epochs=1)],
    "long names": [Curve("separate_downsampling " + "norm=batch " * 9, curve(0).finished, []) for _ in range(3)],
    "huge and small": [curve(0, scale=1e9), curve(1, scale=1e-9)],
    "not one finished": [Curve("a", [], [series([1.0, 2.0])]), Curve("b", [], [series([3.0])])],
    "some not finished": [Curve("a", curve(0).finished, [series([5.0, 6.0]), series([7.0])]), curve(1)],
    "all huge": [curve(number, scale=1e7) for number in range(5)],
    "all small": [curve(number, scale=1e-7) for number in range(5)],
    "all equal": [Curve("a", [series([5.0] * 4)] * 3, [])],
}


@pytest.mark.parametrize("name", CURVES)
def test_panels_and_their_names_keep_apart(name: str) -> None:
    figure = curves_figure(CURVES[name], "top-1 accuracy (%)", TITLE, SUBTITLE)
    check_texts(figure)
    assert len(figure.axes) == len(CURVES[name])
    for one, other in itertools.combinations(figure.axes, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())
        assert one.get_ylim() == other.get_ylim()


def lines(figure: Figure, label: str) -> list[list[float]]:
    return [line.get_ydata().tolist() for axes in figure.axes for line in axes.lines if line.get_label() == label]


def test_a_curve_is_the_mean_over_seeds_where_all_of_them_are() -> None:
    done = [series([1.0, 2.0, 3.0]), series([3.0, 6.0, 9.0]), series([8.0, 1.0], first=2)]
    figure = curves_figure([Curve("a", done, [series([50.0, 60.0])])], "loss", TITLE, SUBTITLE)
    assert lines(figure, "its seeds' mean") == [[16 / 3, 13 / 3]]  # at epochs 2 and 3
    assert lines(figure, "a run that is not finished") == [[50.0, 60.0]]
    (band,) = [area for area in figure.axes[0].collections if isinstance(area, PolyCollection)]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(2.0, 2.0), (2.0, 8.0), (3.0, 1.0), (3.0, 9.0)}


def test_the_legend_has_what_any_panel_has() -> None:
    some = [curve(0), Curve("b", [], [series([5.0]), series([6.0])]), curve(2, seeds=1)]
    (legend,) = curves_figure(some, "loss", TITLE, SUBTITLE).legends
    found = [text.get_text() for text in legend.get_texts()]
    wanted = {"its seeds, lowest to highest", "its seeds' mean", "its only seed", "a run that is not finished"}
    assert wanted | {"all of these, from the lowest to the highest mean"} == set(found)
    assert len(found) == 5


def test_runs_become_curves_in_the_papers_order(tmp_path: Path) -> None:
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
    draw_curves(runs, pd.DataFrame(rows), "top1", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert text.index(">resnet50<") < text.index(">kernel_7<")
    assert "ends at 5, 2 seeds" in text
    assert "ends at 5, one seed; 1 not finished" in text
    for metric, choices in (("top3", "choose top1"), ("name", "choose top1"), ("epoch", "choose top1")):
        with pytest.raises(RequestError, match=f"no run logged a metric '{metric}'; {choices}"):
            draw_curves(runs, pd.DataFrame(rows), metric, tmp_path / "a.svg")


def steps(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"step {row}" for row in range(count)], "section": "training"})
    table["parent"] = [None, *table["label"][:-1]]
    table["delta"] = np.linspace(-3, 3, count)
    table["delta_low"], table["delta_high"], table["delta_n"] = table["delta"] - 1, table["delta"] + 1, 3
    table["delta_p_holm"], table["paper_delta"] = np.linspace(0.001, 0.2, count), 0.5
    return table.assign(**columns)


DELTAS = {
    "17 steps": steps(17, section=["one", "two"] * 8 + ["three"]),
    "one gap": steps(2),
    "one seed": steps(5, delta_low=NAN, delta_high=NAN, delta_n=1, delta_p_holm=NAN),
    "two seeds": steps(5, delta_low=-90.0, delta_high=95.0),
    "some not run": steps(
        5, delta=[NAN, NAN, 1.0, NAN, 2.0], delta_low=NAN, delta_high=NAN, delta_n=NAN, delta_p_holm=NAN
    ),
    "all equal": steps(5, delta=0.0, delta_low=NAN, delta_high=NAN, paper_delta=NAN),
    "long names": steps(5, label="a change of a very long name " * 3, section="a section of a long name"),
    "huge": steps(5, delta=80.0, delta_low=70.0, delta_high=90.0, delta_p_holm=0.001),
}


@pytest.mark.parametrize("name", DELTAS)
def test_rows_of_deltas_keep_apart(name: str) -> None:
    check_texts(deltas_figure(DELTAS[name], TITLE, SUBTITLE, "regime tiny on ImageNet-1K"))


def test_shapes_tell_what_is_outside_noise() -> None:
    table = steps(6, delta=[NAN, 2.0, -2.0, 0.5, 1.0, NAN], delta_p_holm=[NAN, 0.01, 0.01, 0.2, NAN, NAN])
    table.loc[4:, ["delta_low", "delta_high"]] = NAN
    axes = deltas_figure(table, TITLE, SUBTITLE).axes[0]
    marks = {line.get_label(): (line.get_marker(), list(line.get_xdata())) for line in axes.lines}
    wanted = {"gain": ("^", [2.0]), "loss": ("v", [-2.0])}
    assert {f"{name} outside noise": mark for name, mark in wanted.items()}.items() <= marks.items()
    assert (marks["within noise"], marks["noise unknown"]) == (("o", [0.5]), ("x", [1.0]))
    assert marks["the paper's"][1] == [0.5] * 5
    segments = [segment[:, 0].tolist() for group in axes.collections for segment in group.get_segments()]
    assert segments == table.loc[1:3, ["delta_low", "delta_high"]].to_numpy().tolist()


def test_an_interval_beyond_the_page_is_said_to_go_on() -> None:
    figure = deltas_figure(DELTAS["two seeds"], TITLE, SUBTITLE)
    limit = figure.axes[0].get_xlim()[1]
    assert limit < 10
    assert any("the interval goes on" in " ".join(text.split()) for text, _ in boxes(figure))
    assert sum(line.get_marker() in "<>" and len(line.get_xdata()) for line in figure.axes[0].lines) == 8


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_tables_give_equal_files_whatever_the_users_style(tmp_path: Path, kind: str) -> None:
    runs = pd.DataFrame([run(seed, step=step) for seed in (0, 1) for step in ("gelu", "kernel_7")])
    history = pd.DataFrame({"run_id": list(runs["run_id"]) * 2, "epoch": [1] * 4 + [2] * 4, "top1": range(8)})

    def draw(name: str) -> list[bytes]:
        files = [tmp_path / f"{name}{number}.{kind}" for number in range(3)]
        draw_tradeoff(runs, "gmacs", files[0])
        draw_curves(runs, history, "top1", files[1])
        draw_deltas(DELTAS["17 steps"], files[2], title=TITLE, subtitle=SUBTITLE)
        return [file.read_bytes() for file in files]

    first = draw("a")
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.facecolor": "red"}):
        assert draw("b") == first


def test_without_anything_to_draw_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no finished run"):
        draw_tradeoff(pd.DataFrame([run(0, status="failed")]), "gmacs", tmp_path / "a.png")
    with pytest.raises(RequestError, match="none of these runs says its training time; choose another x of gmacs"):
        draw_tradeoff(pd.DataFrame([run(0, train_seconds=NAN)]), "time", tmp_path / "a.png")
    with pytest.raises(RequestError, match="unknown x 'flops'; choose gmacs, params, throughput, memory or time"):
        draw_tradeoff(pd.DataFrame([run(0)]), "flops", tmp_path / "a.png")
    with pytest.raises(RequestError, match="nor has any run here an epoch yet"):
        draw_curves(pd.DataFrame([run(0)]), pd.DataFrame(), "top1", tmp_path / "a.png")
    with pytest.raises(RequestError, match="no step and the step before it have both been run"):
        deltas_figure(steps(3, delta=NAN), TITLE, SUBTITLE)
    assert not list(tmp_path.iterdir())
