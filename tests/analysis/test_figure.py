"""The roadmap figure: what it draws is what the table says, and no two texts meet, whatever the table."""

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from layout import boxes, check_texts, texts
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import roadmap.paper.published
from roadmap.analysis.figures.figure import draw, roadmap_figure
from roadmap.errors import RequestError

NAN = float("nan")
TITLE = "From ResNet-50 to ConvNeXt-T, one change at a time"
SUBTITLE = (
    "data imagenet: 1,281,167 images to train on, 50,000 to evaluate, 224 pixels; regime tiny, 300 epochs, "
    "3 seeds (0, 1, 2); accuracy after the last epoch"
)
SECTIONS = ["training"] * 2 + ["macro design"] * 2 + ["ResNeXt"] * 2 + ["inverted bottleneck"]
SECTIONS += ["large kernel"] * 5 + ["micro design"] * 5
WHISKERS = "standard deviation"
PAPER = "the paper's value"


def paper_table() -> pd.DataFrame:
    """Table 10 as if it were ours: three seeds where it gives a deviation, one where it does not."""
    csv = Path(roadmap.paper.published.__file__).parent / "table10_resnet50_regime.csv"
    table = pd.read_csv(csv).query("step != 'swin'").rename(columns={"gflops": "gmacs"})
    return table.assign(
        section=SECTIONS,
        adopted=~table["step"].isin(["kernel_5", "kernel_9", "kernel_11"]),
        n=np.where(table["top1_std"].notna(), 3, 1),
        params_m=25.0,
        paper_top1=NAN,
        paper_top1_std=NAN,
        paper_gflops=NAN,
    )


def with_paper(table: pd.DataFrame, shift: float = 0.0) -> pd.DataFrame:
    return table.assign(
        top1=table["top1"] - shift,
        paper_top1=table["top1"],
        paper_top1_std=table["top1_std"],
        paper_gflops=table["gmacs"],
    )


def nano_table() -> pd.DataFrame:
    values = np.linspace(85, 98, 17)[np.random.default_rng(0).permutation(17)]
    return paper_table().assign(top1=values, top1_std=np.linspace(0.05, 1.5, 17), n=5, gmacs=0.00183)


def long_table() -> pd.DataFrame:
    """40 rows with long labels, accuracies from 20 to 100, deviations up to 45, some rows not run."""
    table = pd.concat([with_paper(paper_table())] * 3, ignore_index=True).iloc[:40]
    table["label"] = [f"step {row}: {'W' * 36}" for row in range(40)]
    table["section"] = table["section"].replace("inverted bottleneck", "a section of a long name of its own")
    table["top1"], table["top1_std"], table["n"] = np.linspace(20, 100, 40), np.linspace(0, 45, 40), [1, 2, 3, 4] * 10
    table.loc[3:8, ["top1", "top1_std", "gmacs"]] = NAN
    return table


CASES = {
    "paper": paper_table(),
    "reproduced": with_paper(paper_table()),
    "reproduced, lower": with_paper(paper_table(), 3.0),
    "nano": nano_table(),
    "all equal": paper_table().assign(top1=95.0, top1_std=0.0),
    "all 100": paper_table().assign(top1=100.0, top1_std=0.0),
    "all 0": paper_table().assign(top1=0.0, top1_std=NAN, n=1),
    "wide": paper_table().assign(top1=np.linspace(20, 98, 17)),
    "two rows": paper_table().iloc[:2].assign(n=1),
    "no sections, no costs": paper_table().iloc[:2].assign(section="", gmacs=NAN, label=["a", "b"]),
    "some not run": paper_table().assign(top1=lambda table: table["top1"].where(table.index % 3 == 0), n=1),
    "huge std": paper_table().assign(top1_std=60.0),
    "mathematics and breaks": paper_table().assign(label="a $x_1$ \n in {two} lines & <more>"),
    "long": long_table(),
}


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> tuple[pd.DataFrame, Figure]:
    """A table, and its figure once it is drawn at the resolution of a png."""
    figure = roadmap_figure(CASES[request.param], TITLE, SUBTITLE * (3 if request.param == "long" else 1))
    FigureCanvasAgg(figure).draw()
    return CASES[request.param].reset_index(drop=True), figure


def bars(figure: Figure) -> dict[int, Rectangle]:
    """Row -> bar."""
    found = [bar for group in figure.axes[0].containers if isinstance(group, BarContainer) for bar in group]
    return {round(bar.get_y() + bar.get_height() / 2): bar for bar in found}


def whiskers(figure: Figure) -> dict[int, tuple[float, float]]:
    """Row -> ends in percent."""
    groups = [group for group in figure.axes[0].containers if isinstance(group, ErrorbarContainer) and group.has_xerr]
    segments = [segment for group in groups for lines in group[2] for segment in lines.get_segments()]
    return {round(start[1]): (start[0], end[0]) for start, end in segments}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_no_two_texts_meet_and_none_leaves_the_page(case: tuple[pd.DataFrame, Figure]) -> None:
    _, figure = case
    check_texts(figure)
    axes = figure.axes[0].get_window_extent()
    assert not any(axes.overlaps(box) for _, box in boxes(figure))


def test_bars_are_as_long_as_the_accuracies(case: tuple[pd.DataFrame, Figure]) -> None:
    table, figure = case
    left, right = figure.axes[0].get_xlim()
    run = table[table["top1"].notna()]
    assert {row: bar.get_width() for row, bar in bars(figure).items()} == run["top1"].to_dict()
    assert all(bar.get_x() == 0 for bar in bars(figure).values())
    assert left <= run["top1"].min()
    assert run["top1"].max() <= right
    tops = [figure.axes[0].transData.transform((0, row))[1] for row in range(len(table))]
    assert tops == sorted(tops, reverse=True)  # first step above


def test_hatched_is_what_was_not_adopted(case: tuple[pd.DataFrame, Figure]) -> None:
    table, figure = case
    hatched = [row for row, bar in bars(figure).items() if bar.get_hatch()]
    assert sorted(hatched) == list(table.index[~table["adopted"] & table["top1"].notna()])
    assert ("tried, not adopted" in legend(figure)) == bool(hatched)


def test_whiskers_only_over_several_seeds(case: tuple[pd.DataFrame, Figure]) -> None:
    table, figure = case
    several = table[(table["n"] > 1) & table["top1_std"].notna() & table["top1"].notna()]
    found = whiskers(figure)
    assert set(found) == set(several.index)
    for row, ends in found.items():
        mean, std = several["top1"][row], several["top1_std"][row]
        assert ends == pytest.approx((mean - std, mean + std))
    assert (WHISKERS in legend(figure)) == bool(found)
    note = " ".join(text.get_text() for text in texts(figure) if text.get_text().startswith("Bars"))
    assert ("whiskers: standard deviation" in note) == bool(found)
    assert ("one seed, no error bars" in note) == (table["n"][table["top1"].notna()].max() == 1)


def test_the_papers_values_are_marked_where_they_are_given(case: tuple[pd.DataFrame, Figure]) -> None:
    table, figure = case
    groups = [group for group in figure.axes[0].containers if group.get_label() == PAPER]
    assert len(groups) == int(table["paper_top1"].notna().any())
    for group in groups:
        np.testing.assert_array_equal(group[0].get_xdata(), table["paper_top1"])
        assert np.all(np.abs(group[0].get_ydata() - table.index) < 0.5)
    assert (PAPER in legend(figure)) == bool(groups)


@pytest.mark.parametrize(
    ("name", "words"),
    [("paper", ["80.57", "± 0.14", "4.15", "GFLOPs\n(MACs)"]), ("nano", ["98.00", "1.83", "MFLOPs\n(MACs)"])],
)
def test_numbers_stand_beside_the_bars(name: str, words: list[str]) -> None:
    assert set(words) <= {text.get_text() for text in texts(roadmap_figure(CASES[name], TITLE, SUBTITLE))}


def test_each_section_is_named_once() -> None:
    found = [text.get_text() for text in texts(roadmap_figure(paper_table(), TITLE, SUBTITLE))]
    assert all(found.count(section) == 1 for section in SECTIONS)


def adopted_rows(table: pd.DataFrame) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, (section, adopted) in enumerate(zip(table["section"], table["adopted"], strict=True)):
        rows.setdefault(section, []).extend([row] if adopted else [])
    return rows


def test_two_shades_take_turns() -> None:
    table, drawn = paper_table(), bars(roadmap_figure(paper_table(), TITLE, SUBTITLE))
    colors = {section: {drawn[row].get_facecolor() for row in rows} for section, rows in adopted_rows(table).items()}
    assert all(len(shades) == 1 for shades in colors.values())
    turns = [shades.pop() for shades in colors.values()]
    assert all(one != other for one, other in itertools.pairwise(turns))
    assert len(set(turns)) == 2


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_same_table_gives_the_same_file(tmp_path: Path, kind: str, start: bytes) -> None:
    table, file, again = with_paper(paper_table()), tmp_path / "new" / f"a.{kind}", tmp_path / f"b.{kind}"
    draw(table, file, title=TITLE, subtitle=SUBTITLE)
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.facecolor": "red"}):
        draw(table, again, title=TITLE, subtitle=SUBTITLE)
        assert matplotlib.rcParams["font.size"] == 20
    assert file.read_bytes().startswith(start)
    assert file.read_bytes() == again.read_bytes()


def test_svg_keeps_its_text(tmp_path: Path) -> None:
    table = with_paper(paper_table())
    table.loc[3, "label"] = "$x_1$ & <stem>"
    draw(table, tmp_path / "roadmap.svg", title=TITLE, subtitle=SUBTITLE)
    found = {element.text for element in ET.parse(tmp_path / "roadmap.svg").iter("{http://www.w3.org/2000/svg}text")}
    assert {TITLE, *SECTIONS, *table["label"]} <= found


@pytest.mark.parametrize("name", ["roadmap.jpg", "roadmap"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"cannot draw a figure as '(\.jpg|roadmap)'; choose \.png, \.svg or \.pdf"):
        draw(paper_table(), tmp_path / name, title=TITLE, subtitle=SUBTITLE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("table", [pd.DataFrame(), paper_table().iloc[:0], paper_table().assign(top1=NAN)])
def test_a_table_without_an_accuracy_is_refused(tmp_path: Path, table: pd.DataFrame) -> None:
    with pytest.raises(RequestError, match="no figure to draw: no step has an accuracy yet"):
        draw(table, tmp_path / "roadmap.png", title=TITLE, subtitle=SUBTITLE)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(RequestError, match=r"cannot write .*taken/roadmap\.png: "):
        draw(paper_table(), tmp_path / "taken" / "roadmap.png", title=TITLE, subtitle=SUBTITLE)


NAMES = "ResNet-50 → ConvNeXt-T", "ResNet-200 → ConvNeXt-B"


def larger_table() -> pd.DataFrame:
    """Table 11 as if it were ours."""
    csv = Path(roadmap.paper.published.__file__).parent / "table11_resnet200_regime.csv"
    table = pd.read_csv(csv).query("step != 'swin'").rename(columns={"gflops": "gmacs"})
    return paper_table().assign(top1=table["top1"], gmacs=table["gmacs"], top1_std=NAN, n=1)


def with_swin(table: pd.DataFrame, name: str, top1: float) -> pd.DataFrame:
    row = {"step": "swin", "label": name, "name": name, "section": "Transformer", "adopted": True, "n": 0}
    row |= {"paper_top1": top1, "paper_gflops": 4.5, "reference": True}
    return pd.concat([table.assign(reference=False), pd.DataFrame([row])], ignore_index=True)


PAIRS = {
    "paper": (
        paper_table().assign(source="the paper's Table 10"),
        larger_table().assign(source="the paper's Table 11"),
    ),
    "reproduced": (
        with_swin(with_paper(paper_table()), "Swin-T", 81.3),
        with_swin(with_paper(larger_table(), 2.0), "Swin-B", 83.5),
    ),
    "the larger is worse": (nano_table(), nano_table().assign(top1=80.0, gmacs=0.007)),
    "the larger is not run": (paper_table(), larger_table().assign(top1=NAN)),
    "one of two is published": (with_paper(paper_table(), 1.0), larger_table().assign(source="the paper's Table 11")),
    "long": (long_table(), long_table().assign(top1=50.0, gmacs=9999.0)),
}


@pytest.fixture(params=PAIRS, scope="module")
def pair(request: pytest.FixtureRequest) -> tuple[tuple[pd.DataFrame, pd.DataFrame], Figure]:
    front, behind = PAIRS[request.param]
    figure = roadmap_figure(front, TITLE, SUBTITLE, behind, NAMES)
    FigureCanvasAgg(figure).draw()
    return (front.reset_index(drop=True), behind.reset_index(drop=True)), figure


def test_two_regimes_keep_their_texts_apart(pair: tuple[tuple[pd.DataFrame, pd.DataFrame], Figure]) -> None:
    check_texts(pair[1])


def test_the_larger_regimes_bars_stand_grey_behind(pair: tuple[tuple[pd.DataFrame, pd.DataFrame], Figure]) -> None:
    """Each bar is as long as its accuracy, the one in front over the other, which shows below it even where shorter."""
    (front, behind), figure = pair
    found: dict[int, list[Rectangle]] = {}
    for group in figure.axes[0].containers:
        for bar in group if isinstance(group, BarContainer) else ():
            found.setdefault(round(bar.get_y() + bar.get_height() / 2), []).append(bar)
    for row in range(len(front)):
        drawn = sorted(found.get(row, []), key=lambda bar: -bar.get_zorder())
        wanted = [table.get("top1")[row] for table in (front, behind)]
        wanted = [table["paper_top1"][row] if np.isnan(top1) and table.get("reference", {}).get(row) else top1
                  for table, top1 in zip((front, behind), wanted, strict=True)]  # fmt: skip
        assert [bar.get_width() for bar in drawn] == [top1 for top1 in wanted if not np.isnan(top1)]
        if len(drawn) == 2:
            assert drawn[1].get_y() + drawn[1].get_height() > drawn[0].get_y() + drawn[0].get_height() + 0.2
            red, green, blue, _ = drawn[1].get_facecolor()
            assert red == green == blue
            assert bool(drawn[0].get_hatch()) == bool(drawn[1].get_hatch()) == (not front["adopted"][row])


def test_the_note_says_whose_numbers_the_bars_are() -> None:
    for name, words in {
        "paper": "In front: ResNet-50 → ConvNeXt-T, the paper's Table 10 as published (mean over 3 seeds where ±",
        "one of two is published": "grey: ResNet-200 → ConvNeXt-B, the paper's Table 11 as published (one run)",
        "the larger is not run": "grey: ResNet-200 → ConvNeXt-B, not run yet",
        "reproduced": "Swin: the paper's numbers. FLOPs: multiply-accumulates (MACs) of one image.",
    }.items():
        figure = roadmap_figure(*PAIRS[name][:1], TITLE, SUBTITLE, PAIRS[name][1], NAMES)
        assert words in " ".join(" ".join(text.get_text().split()) for text in texts(figure)), name
    assert "adopted: ResNet-200 → ConvNeXt-B, the paper's Table 11" in legend(
        roadmap_figure(PAIRS["one of two is published"][0], TITLE, SUBTITLE, PAIRS["one of two is published"][1], NAMES)
    )


def test_the_transformers_lines_stand_at_the_papers_accuracies() -> None:
    front, behind = PAIRS["reproduced"]
    axes = roadmap_figure(front, TITLE, SUBTITLE, behind, NAMES).axes[0]
    lines = {line.get_label(): set(line.get_xdata()) for line in axes.lines if "Swin" in str(line.get_label())}
    assert lines == {"Swin-T (the paper's)": {81.3}, "Swin-B (the paper's)": {83.5}}
