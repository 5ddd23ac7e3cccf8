"""The roadmap figure and the change of each step draw what their tables say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts, words

import roadmap.paper.published
from roadmap.comparison.roadmap_plot import deltas_chart, roadmap_chart
from roadmap.errors import RequestError
from roadmap.plots.charts import AnyChart
from roadmap.statistics.gaps import GapTest

NAN = float("nan")
WORDS = {"title": "From ResNet-50 to ConvNeXt-T, one change at a time", "subtitle": "data imagenet; regime tiny"}
NAMES = "ResNet-50 → ConvNeXt-T", "ResNet-200 → ConvNeXt-B"
SECTIONS = ["training"] * 2 + ["macro design"] * 2 + ["ResNeXt"] * 2 + ["inverted bottleneck"]
SECTIONS += ["large kernel"] * 5 + ["micro design"] * 5
ADOPTED, REJECTED = "adopted", "tried, not adopted"


def paper_table(number: str = "table10_resnet50_regime") -> pd.DataFrame:
    """A table of the paper as if it were of runs: three seeds where it gives a deviation, otherwise one."""
    csv = Path(roadmap.paper.published.__file__).parent / f"{number}.csv"
    table = pd.read_csv(csv).query("step != 'swin'").rename(columns={"gflops": "gmacs"}).reset_index(drop=True)
    spread = table["top1_std"] if "top1_std" in table else pd.Series(NAN, range(17))
    return table.assign(
        section=SECTIONS,
        adopted=~table["step"].isin(["kernel_5", "kernel_9", "kernel_11"]),
        top1_std=spread,
        n=np.where(spread.notna(), 3, 1),
        paper_top1=NAN,
        paper_top1_std=NAN,
        paper_gflops=NAN,
    )


def with_paper(table: pd.DataFrame, shift: float = 0.0) -> pd.DataFrame:
    paper = {"paper_top1": table["top1"], "paper_top1_std": table["top1_std"], "paper_gflops": table["gmacs"]}
    return table.assign(top1=table["top1"] - shift, **paper)


def with_swin(table: pd.DataFrame, name: str, top1: float) -> pd.DataFrame:
    row = {"step": "swin", "label": name, "section": "Transformer", "adopted": True, "n": 0}
    row |= {"paper_top1": top1, "paper_gflops": 4.5, "reference": True}
    return pd.concat([table.assign(reference=False), pd.DataFrame([row])], ignore_index=True)


LARGER = paper_table("table11_resnet200_regime")
CASES = {
    "paper": paper_table(),
    "reproduced": with_paper(paper_table(), 3.0),
    "all 100": paper_table().assign(top1=100.0, top1_std=0.0),
    "all 0": paper_table().assign(top1=0.0, top1_std=NAN, n=1),
    "no sections, no costs": paper_table().iloc[:2].assign(section="", gmacs=NAN, n=1),
    "some not run": paper_table().assign(top1=lambda table: table["top1"].where(table.index % 3 == 0), n=1),
    "huge std": paper_table().assign(top1_std=60.0, n=2),
}


def bars(chart: AnyChart) -> list[tuple[float, str]]:
    return drawn(chart, "rect", "x", "fill")  # type: ignore[return-value]


@pytest.mark.parametrize("name", CASES)
def test_bars_and_whiskers_are_those_of_the_table(name: str) -> None:
    table = CASES[name]
    chart = roadmap_chart(table, **WORDS)
    run = table[table["top1"].notna()]
    kinds = [ADOPTED if adopted else REJECTED for adopted in run["adopted"]]
    assert bars(chart) == list(zip(run["top1"], kinds, strict=True))
    several = run[(run["n"] > 1) & run["top1_std"].notna()]
    low, high = (several["top1"] - several["top1_std"]).clip(0), (several["top1"] + several["top1_std"]).clip(upper=100)
    assert drawn(chart, "rule", "x", "x2") == list(zip(low, high, strict=True))
    assert ("Whiskers: standard deviation" in words(chart)) == bool(len(several))
    assert (REJECTED in texts(chart)) == (not run["adopted"].all())
    (layer,) = [layer for layer in chart.to_dict()["vconcat"][0]["layer"] if "fill" in layer["encoding"]]
    first, last = layer["encoding"]["x"]["scale"]["domain"]
    assert 0 <= first <= min([*run["top1"], *low])
    assert max([*run["top1"], *high]) <= last <= 100


def test_numbers_labels_and_sections_stand_at_the_rows() -> None:
    table = with_paper(paper_table(), 1.0).assign(delta=paper_table()["top1"].diff())
    table.loc[3, "label"] = "a $x_1$ & <more>"
    found = texts(roadmap_chart(table, **WORDS))
    for row in table.to_dict("records"):
        wanted = {row["label"], f"{row['top1']:.2f}", f"{row['gmacs']:.2f}", f"{row['paper_top1']:.2f}"}
        assert wanted <= set(found)
    assert {"+0.54", "-1.23", "± 0.14", "GFLOPs (MACs)", WORDS["title"]} <= set(found)
    assert all(found.count(section) == 1 for section in SECTIONS)


def test_the_papers_values_are_diamonds_where_they_are_given() -> None:
    table = with_paper(paper_table(), 2.0)
    assert drawn(roadmap_chart(table, **WORDS), "point", "x") == [(top1,) for top1 in table["paper_top1"]]
    assert drawn(roadmap_chart(paper_table(), **WORDS), "point", "x") == []


@pytest.mark.parametrize("table", [pd.DataFrame(), paper_table().iloc[:0], paper_table().assign(top1=NAN)])
def test_a_table_without_an_accuracy_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(RequestError, match="no figure to draw: no step has an accuracy yet"):
        roadmap_chart(table, **WORDS)


def test_two_regimes_have_a_bar_each_per_row() -> None:
    front, behind = paper_table(), LARGER.assign(top1=LARGER["top1"].where(LARGER.index != 4))
    chart = roadmap_chart(front, behind=behind, names=NAMES, **WORDS)
    for table, name in zip((front, behind), NAMES, strict=True):
        run = table[table["top1"].notna()]
        kinds = [f"{ADOPTED if adopted else REJECTED}: {name}" for adopted in run["adopted"]]
        assert [bar for bar in bars(chart) if bar[1].endswith(name)] == list(zip(run["top1"], kinds, strict=True))
    rows = drawn(chart, "rect", "y", "y2", "fill")
    lower = [bar for bar in rows if bar[2].endswith(NAMES[1])]
    assert all(bottom <= top for (_, bottom, _), (top, _, _) in zip(rows[:4], lower[:4], strict=True))
    assert "–: no value" in words(chart)


@pytest.mark.parametrize(
    ("front", "behind", "words_"),
    [
        (
            paper_table().assign(source="the paper's Table 10"),
            LARGER.assign(source="the paper's Table 11"),
            f"{NAMES[0]}: the paper's Table 10 as published (mean over 3 seeds where ± is given, otherwise one run)",
        ),
        (
            with_paper(paper_table(), 1.0),
            LARGER.assign(source="the paper's Table 11"),
            f"{NAMES[1]}: the paper's Table 11 as published",
        ),
        (paper_table(), LARGER.assign(top1=NAN), f"{NAMES[1]}: not run yet"),
    ],
)
def test_it_says_whose_numbers_the_bars_are(front: pd.DataFrame, behind: pd.DataFrame, words_: str) -> None:
    assert words_ in words(roadmap_chart(front, behind=behind, names=NAMES, **WORDS))


def test_the_transformers_lines_stand_at_the_papers_accuracies() -> None:
    front, behind = with_swin(with_paper(paper_table()), "Swin-T", 81.3), with_swin(with_paper(LARGER), "Swin-B", 83.5)
    chart = roadmap_chart(front, behind=behind, names=NAMES, **WORDS)
    lines = [
        x for (x,) in drawn(chart, "rule", "x") if (x,) not in [pair[:1] for pair in drawn(chart, "rule", "x", "x2")]
    ]
    assert lines == [81.3, 83.5]
    assert {"Swin-T (the paper's)", "Swin-B (the paper's)"} <= set(texts(chart))


def steps(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"label": [f"step {row}" for row in range(count)], "section": "training"})
    table["parent"] = [None, *table["label"][:-1]]
    table["delta"] = np.linspace(-3, 3, count)
    table["delta_low"], table["delta_high"], table["delta_n"] = table["delta"] - 1, table["delta"] + 1, 3
    table["delta_p_holm"], table["paper_delta"] = np.linspace(0.001, 0.2, count), 0.5
    table["outcome"] = "undecided"
    return table.assign(**columns)


def test_shapes_tell_what_is_outside_noise() -> None:
    outcomes = ["", "better", "worse", "equal", "", ""]
    p = [NAN, 0.01, 0.02, 0.2, NAN, NAN]
    table = steps(6, delta=[NAN, 2.0, -2.0, 0.5, 1.0, NAN], outcome=outcomes, delta_p_bh=p)
    table.loc[4:, ["delta_low", "delta_high"]] = NAN
    test = GapTest(equivalence=0.9, correction="bh")
    chart = deltas_chart(table, paper="on ImageNet-1K", test=test, **WORDS)
    assert drawn(chart, "point", "x", "shape") == [
        (2.0, "better"),
        (-2.0, "worse"),
        (0.5, "equal"),
        (1.0, "not tested"),
    ]
    assert [x for (x,) in drawn(chart, "point", "x") if (x,) not in {(2.0,), (-2.0,), (1.0,)}] == [0.5] * 6
    known = table.loc[1:3]
    assert drawn(chart, "rule", "x", "x2") == list(zip(known["delta_low"], known["delta_high"], strict=True))
    assert {"step 1", "+2.00", "-2.00", "0.010", "better", "–"} <= set(texts(chart))
    assert "in 3 Welch's tests with moderated variances, corrected (BH)" in words(chart)
    assert "Equal: within ± 0.9 points (band)" in words(chart)
    assert (-0.9, 0.9) in drawn(chart, "rect", "x", "x2")


@pytest.mark.parametrize(
    "table",
    [
        steps(5, delta_low=NAN, delta_high=NAN, delta_n=1, delta_p_holm=NAN),
        steps(5, delta=0.0, delta_low=-1.0, delta_high=1.0, paper_delta=NAN),
        steps(5, delta_low=-90.0, delta_high=95.0),
    ],
)
def test_equal_gaps_and_wide_intervals_are_drawn(table: pd.DataFrame) -> None:
    chart = deltas_chart(table, **WORDS)
    assert len(drawn(chart, "point", "x", "fill")) == len(table) - 1
    assert all(-10 < low < high < 10 for low, high in drawn(chart, "rule", "x", "x2"))


def test_without_a_change_to_draw_it_says_so() -> None:
    with pytest.raises(RequestError, match="no step and the step before it have both been run"):
        deltas_chart(steps(3, delta=NAN), **WORDS)
