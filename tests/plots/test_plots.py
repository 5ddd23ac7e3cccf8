"""What all charts share: files, themes, and places of labels."""

import xml.etree.ElementTree as ET
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from PIL import Image

from roadmap.errors import RequestError
from roadmap.plots.charts import framed, inline, save, text_width, themed, wrapped

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
