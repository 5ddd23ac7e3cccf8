"""``roadmap figure`` on the example runs, and what all charts share: files, themes, layout."""

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from PIL import Image

import roadmap
from roadmap.__main__ import main
from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, save, text_width, themed, wrapped
from tests.records import EXAMPLES

PATH = """name: short
steps:
  - {change: step=gelu, label: "${regime.baseline} with GELU"}
  - step=fewer_activations
"""


def words(file: Path) -> str:
    return " ".join(" ".join(ET.parse(file).getroot().itertext()).split())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of the example runs, and the same as if they were nano_base's."""
    folder = tmp_path_factory.mktemp("two")
    for step in ("gelu", "fewer_activations"):
        for path in sorted(EXAMPLES.glob(f"nano-digits-{step}-s[01]-*")):
            shutil.copytree(path, folder / "nano" / path.name)
            copy = shutil.copytree(path, folder / "nano_base" / path.name) / "summary.json"
            summary = json.loads(copy.read_text())
            summary |= {"run_id": f"{summary['run_id']}b", "regime": "nano_base", "gmacs": 0.0064}
            design = summary["design"] | {"depths": [1, 1, 9, 1], "width": 32}
            summary |= {"design": design, "definition": summary["definition"] | {"design": design}}
            copy.write_text(json.dumps(summary))
    (folder / "conf" / "path").mkdir(parents=True)
    (folder / "conf" / "path" / "short.yaml").write_text(PATH)
    return folder


def short(two: Path) -> list[str]:
    """A path of two steps, which composes in a tenth of the time."""
    return [str(two), "path=short", "--config-dir", str(two / "conf")]


def test_the_papers_figure_needs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["figure", "regime=base,tiny", "-o", "paper.svg"]) == 0
    text = words(tmp_path / "paper.svg")
    for part in ("From ResNet-50 to ConvNeXt-T and from ResNet-200 to ConvNeXt-B", "Table 10", "Table 11", "no runs"):
        assert part in text
    for number in (
        "76.13",
        "78.20",
        "81.97",
        "83.60",
        "81.30",
        "83.50",
        "15.43",
        "ResNet-50 / ResNet-200",
        "Swin-T / Swin-B",
    ):
        assert number in text


def test_runs_of_two_regimes_share_a_figure(two: Path, tmp_path: Path) -> None:
    assert main(["figure", *short(two), "-o", str(tmp_path / "two.svg")]) == 0
    text = words(tmp_path / "two.svg")
    assert "Bars: nano ResNet → nano ConvNeXt: mean over 2 seeds; deep nano ResNet → deep nano ConvNeXt: mean" in text
    assert "nano ResNet / deep nano ResNet with GELU" in text


@pytest.mark.parametrize(
    "kind",
    [
        "tradeoff",
        "tradeoff --x params",
        "tradeoff --x time",
        "curves --metric val_loss",
        "curves",
        "deltas",
    ],
)
def test_every_kind_draws_the_example_runs(
    kind: str, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [*short(two), "regime=nano"] if kind == "deltas" else [str(two / "nano")]
    assert main(["figure", *runs, "--kind", *kind.split(), "-o", str(tmp_path / "a.svg")]) == 0
    assert capsys.readouterr().out == f"figure: {tmp_path / 'a.svg'}\n"
    assert "fewer_activations" in words(tmp_path / "a.svg")


def test_the_front_is_printed_and_drawn(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figure", str(two / "nano"), "--kind", "pareto", "--x", "params", "-o", str(tmp_path / "a.svg")]) == 0
    assert "front: 1 of 2 designs" in capsys.readouterr().out
    assert "1 gelu" in words(tmp_path / "a.svg")


def test_the_front_of_the_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pareto = ["figure", str(EXAMPLES), "--kind", "pareto", "-o", str(tmp_path / "a.svg")]
    assert main([*pareto, "--where", "recipe == 'enhanced'"]) == 0
    said = capsys.readouterr().out
    assert "front: 3 of 16 designs" in said
    # as in the README's table, cheaper designs are worse and none is better than 95.89
    front = [line.split()[-1] for line in said.splitlines() if line.startswith((" 1", " 2", " 3"))]
    assert front == ["depthwise_conv", "move_up_depthwise", "gelu"]
    assert main(pareto) == 2
    assert "these runs differ in recipe (enhanced and original)" in capsys.readouterr().err


def test_curves_are_drawn_of_chosen_runs(two: Path, tmp_path: Path) -> None:
    arguments = ["--kind", "curves", "--where", "seed == 1 and step == 'gelu'", "regime=nano"]
    assert main(["figure", str(two), *arguments, "-o", str(tmp_path / "a.svg")]) == 0
    text = words(tmp_path / "a.svg")
    assert "one seed" in text
    assert "fewer_activations" not in text


def test_the_function_returns_the_commands_chart(two: Path, tmp_path: Path) -> None:
    chart = roadmap.figure(two / "nano", kind="tradeoff", x="params", where="seed < 2")
    options = ["--kind", "tradeoff", "--x", "params", "-o", str(tmp_path / "a.svg")]
    assert main(["figure", str(two / "nano"), *options]) == 0
    chart.save(tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()
    with pytest.raises(RequestError, match="--metric does not go with --kind deltas"):
        roadmap.figure(two / "nano", kind="deltas", metric="lr")


def test_pictures_show_outcomes_of_the_test_chosen() -> None:
    examples = "runs/examples/nano-digits.runs.jsonl.gz"
    expected = roadmap.compare(examples, paired=True, equivalence=1.5).table["outcome"]
    for kind in ("deltas", "roadmap"):
        chart = roadmap.figure(examples, kind=kind, paired=True, equivalence=1.5).to_dict()
        shown = [cell for values in chart["datasets"].values() for row in values for cell in row.values()]
        if kind == "roadmap":
            assert shown.count("equal") == (expected == "equal").sum() > 0
        assert "equal" in shown


def test_both_regimes_points_stand_in_one_tradeoff(two: Path, tmp_path: Path) -> None:
    assert main(["figure", str(two), "--kind", "tradeoff", "-o", str(tmp_path / "a.svg")]) == 0
    assert "1 gelu, nano · 2 fewer_activations, nano · 3 gelu, nano_base" in words(tmp_path / "a.svg")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ("RUNS --kind pie", "argument --kind: invalid choice: 'pie' (choose from"),
        ("RUNS --kind tradeoff --x flops", "unknown x 'flops' (choose gmacs, params, throughput, memory or time)"),
        ("RUNS --kind curves --metric top3", "no run logged a metric 'top3' (choose data_wait, images_per_second, lr,"),
        ("RUNS --x gmacs", "--x does not go with --kind roadmap, only with --kind tradeoff or pareto"),
        ("RUNS --kind deltas --metric lr", "--metric does not go with --kind deltas, only with --kind curves"),
        (
            "RUNS --kind curves --equivalence 0.2",
            "--paired, --equivalence and --correction do not go with --kind curves, only with --kind roadmap",
        ),
        ("RUNS --kind deltas --correction none", "unknown correction 'none' (choose holm or bh)"),
        ("RUNS --kind curves path=mine", "path=mine does not go with --kind curves; select runs with --where"),
        ("RUNS --kind curves regime=tiny", "none of these runs is of regime tiny; they are of nano, nano_base"),
        ("RUNS --kind deltas", "the runs have several values of regime (nano, nano_base); choose one with regime=…"),
        ("", "no run folders; name them as in `roadmap figure runs/ -o roadmap.png`"),
        ("EMPTY", "no run in "),
        ("RUNS --where seed>8", 'none of these 8 runs match --where "seed>8"'),
        ("regime=tiny --where seed<1", "--where selects runs; name their folders"),
        ("nowhere", "no folder nowhere"),
        (
            "regime=nano path=short --config-dir CONF",
            "no finished run of regime nano here, and the paper has none either",
        ),
        ("regime=huge", "unknown regime 'huge'"),
        (
            "regime=a,b,c",
            "a roadmap figure shows at most two regimes (got a, b, c); choose with regime=a,b",
        ),
        (
            "SHORT regime=nano,tiny",
            "regime tiny has no runs here and would be drawn from the paper, whose accuracies are",
        ),
        ("RUNS -o f.gif", "cannot draw a figure as '.gif'; choose .png, .svg or .pdf"),
        ("RUNS --kind curves -o TAKEN/f.png", "cannot write"),
    ],
)
def test_a_wrong_request_is_answered_in_one_sentence(
    request_: str, sentence: str, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").touch()
    places = {
        "RUNS": str(two),
        "EMPTY": str(tmp_path / "empty"),
        "CONF": str(two / "conf"),
        "TAKEN/f.png": str(tmp_path / "taken" / "f.png"),
    }
    arguments = [places.get(word, word) for word in request_.replace("SHORT", " ".join(short(two))).split()]
    output = [] if "-o" in arguments else ["-o", str(tmp_path / "f.png")]
    assert main(["figure", *arguments, *output]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "f.png").exists()


def test_regimes_on_different_data_are_refused(two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(two, tmp_path / "runs")
    for file in (tmp_path / "runs" / "nano_base").rglob("summary.json"):
        summary = json.loads(file.read_text())
        summary["definition"]["data"]["holdout"] = 0.5
        file.write_text(json.dumps(summary))
    assert main(["figure", *short(tmp_path / "runs"), "-o", str(tmp_path / "f.png")]) == 2
    assert "these runs differ in data (holdout 0.0 and 0.5)" in capsys.readouterr().err


@pytest.mark.parametrize(("names", "status"), [(("digits", "digits"), 0), (("digits", "cifar10"), 2)])
def test_data_known_by_name_only(
    names: tuple[str, str], status: int, two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two, tmp_path / "runs")
    for regime, name in zip(("nano", "nano_base"), names, strict=True):
        for file in (tmp_path / "runs" / regime).rglob("summary.json"):
            summary = json.loads(file.read_text())
            summary["definition"]["data"] = name
            file.write_text(json.dumps(summary))
    assert main(["figure", *short(tmp_path / "runs"), "-o", str(tmp_path / "f.svg")]) == status
    assert ("differ in data (digits and cifar10)" in capsys.readouterr().err) == (status == 2)


SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def chart() -> alt.VConcatChart:
    table = pd.DataFrame({"x": [1.0, 2.0, float("nan")], "name": ["a", "b & <c>", "d"]})
    bars = alt.Chart(inline(table)).mark_bar().encode(x="x:Q", y="name:N").properties(width=200, height=60)
    return framed(bars, "A title", "a subtitle", "a caption", 200)


def test_png_svg_and_pdf_are_written_and_equal_charts_give_equal_files(chart: alt.VConcatChart, tmp_path: Path) -> None:
    for suffix in ("png", "svg", "pdf", "PNG"):
        files = [tmp_path / "new" / f"{number}.{suffix}" for number in range(2)]
        for file in files:
            save(chart, file)
        assert suffix == "pdf" or files[0].read_bytes() == files[1].read_bytes()  # a pdf holds the time
    with Image.open(tmp_path / "new" / "0.png") as image:
        assert image.width > 2 * 200
        assert len(image.getcolors(100_000) or []) > 10
    written = ["".join(text.itertext()) for text in ET.parse(tmp_path / "new" / "0.svg").iter(f"{SVG}text")]
    assert {"A title", "a subtitle", "a caption", "b & <c>"} <= set(written)
    pdf = (tmp_path / "new" / "0.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")


def test_a_picture_for_a_paper_is_a_column_wide_with_its_font(
    two: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, width, of in (("roadmap", 234, short(two)), ("tradeoff", 495, [str(two / "nano")])):
        for suffix in ("pdf", "svg", "png"):
            file = str(tmp_path / f"{kind}.{suffix}")
            assert main(["figure", *of, "regime=nano", "--kind", kind, "--style", "paper", "-o", file]) == 0
        pdf = (tmp_path / f"{kind}.pdf").read_bytes()
        assert f"/MediaBox [0 0 {width} ".encode() in pdf
        assert b"/FontFile" in pdf
        assert ET.parse(tmp_path / f"{kind}.svg").getroot().get("width") == f"{width}pt"
        assert Image.open(tmp_path / f"{kind}.png").width == pytest.approx(width * 300 / 72, abs=2)
    printed, drawn = capsys.readouterr().out, words(tmp_path / "roadmap.svg")
    for part in ("one change at a time", "Whiskers"):
        assert part in printed
        assert part not in drawn
    assert "fewer_activations" in drawn
    with pytest.raises(RequestError, match="style='paper' is of files"):
        roadmap.figure(*short(two), style="paper")


@pytest.mark.parametrize("name", ["a.jpg", "a"])
def test_other_formats_are_refused(chart: alt.VConcatChart, name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot draw a figure as '(\.jpg|a)'; choose \.png, \.svg or \.pdf"):
        save(chart, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(chart: alt.VConcatChart, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(RequestError, match=r"cannot write .*taken/a\.png: "):
        save(chart, tmp_path / "taken" / "a.png")


def test_the_theme_is_the_only_thing_that_a_background_changes(chart: alt.VConcatChart, tmp_path: Path) -> None:
    light, dark = (themed(chart, background).to_dict() for background in ("light", "dark"))
    assert light.pop("config") != dark.pop("config")
    assert light == dark == {key: value for key, value in chart.to_dict().items() if key != "config"}
    for background in ("light", "dark"):
        save(chart, tmp_path / f"{background}.png", background)
    corners = [
        Image.open(tmp_path / f"{background}.png").convert("L").getpixel((0, 0)) for background in ("light", "dark")
    ]
    assert corners[0] == 255
    assert corners[1] < 50


def test_missing_numbers_are_null_in_the_data() -> None:
    table = pd.DataFrame({"x": [1.5, float("nan"), float("inf")], "name": ["a", "b", "c"]})
    assert [row["x"] for row in inline(table).to_dict()["values"]] == [1.5, None, None]


def test_text_is_wrapped_to_about_the_width() -> None:
    lines = wrapped("several words that go on for longer than a line can hold " * 5, 300)
    assert len(lines) > 3
    assert max(map(text_width, ([line] for line in lines))) < 330
