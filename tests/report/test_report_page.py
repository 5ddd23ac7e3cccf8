"""The report in a real browser: what a reader sees, chooses and filters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.comparison.run_diff import one_run, run_diff
from roadmap.runs.reading import load_history, load_runs
from tests.records import EXAMPLES, example, make_run

Show = Callable[..., Any]

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script><!--",
    "</title></style><b onmouseover=alert(4)>",
    "Größe → 模型 \u202e\u2028 🧪 ${1} {{payload}}",
    "a" * 5000,
]

# The lowest contrast of any text of the page with the background behind it, and the text.
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script, style, noscript, [aria-hidden=true], .dt-paging, tr.selected")
        || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const colour = rgb(element.closest("svg") ? style.fill : style.color);
    if (colour[3] === 0) continue;
    const [a, b] = [light(colour), light(background(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, text];
  }
  return least;
}"""


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the example runs."""
    file = tmp_path_factory.mktemp("report") / "nano.html"
    assert main(["report", str(EXAMPLES), "-o", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return load_runs(EXAMPLES)


def column(page: Any, title: str) -> list[str]:
    """The shown cells of a column of the table of all runs."""
    titles = [text.strip() for text in page.locator("#all-runs thead tr").first.locator("th").all_inner_texts()]
    return page.locator(f"#all-runs tbody td:nth-child({titles.index(title) + 1})").all_inner_texts()


def texts(page: Any, chart: int = 0) -> list[str]:
    """The texts of a chart."""
    page.locator("figure svg").nth(chart).wait_for()
    return page.locator("figure").nth(chart).locator("svg text").all_text_contents()


def choose(page: Any, variant: str) -> None:
    page.get_by_role("button", name=variant, exact=True).click()
    page.locator("#chosen svg").wait_for()


def test_the_page_shows_every_step_and_run(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    assert page.title() == page.locator("h1").inner_text() == "From nano ResNet to nano ConvNeXt, one change at a time"
    assert "51 runs of 17 designs" in page.locator(".lead").inner_text()
    assert "are a proxy" in page.locator(".caveats").inner_text()
    page.locator(".dt-info", has_text="of 51").wait_for()
    assert set(page.locator("button.choose").all_inner_texts()) == set(runs["variant"])
    mean = runs[runs["step"] == "gelu"]["top1"].mean()
    assert f"{mean:.2f}" in texts(page)
    assert "ReLU → GELU" in texts(page)
    assert page.locator("figure svg").count() == 3


def test_hovering_over_a_bar_shows_its_numbers(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    texts(page)
    page.locator('figure svg [aria-roledescription="rect mark"][aria-label*="kernel size → 9"]').first.hover(
        position={"x": 20, "y": 8}
    )
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for()
    assert f"{runs[runs['step'] == 'kernel_9']['top1'].mean():.2f}" in tip.inner_text()


def test_sorting_filtering_and_choice_of_columns(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    head = page.locator("#all-runs thead th", has_text="top-1 (%)")
    head.click()
    head.click()
    best = runs["top1"].sort_values(ascending=False)
    assert column(page, "top-1 (%)") == [f"{value:.2f}" for value in best[:25]]
    page.locator(".dt-search input").fill("kernel enhanced")
    page.locator(".dt-info", has_text="12 entries").wait_for()
    assert set(column(page, "variant")) == {"kernel_5", "kernel_7", "kernel_9", "kernel_11"}
    page.locator("#all-runs thead input").nth(3).fill("kernel_9")
    page.locator(".dt-info", has_text="3 entries").wait_for()
    page.get_by_role("button", name="Columns").click()
    page.locator(".dt-button-collection").get_by_text("recipe", exact=True).click()
    assert page.locator("#all-runs thead th:visible", has_text="recipe").count() == 0


def test_a_step_opens_its_learning_curves_beside_its_parents(nano: Path, show: Show) -> None:
    page = show(nano)
    choose(page, "gelu")
    assert page.locator("#chosen h3").first.inner_text() == "6 chosen"
    legend = page.locator("#chosen svg .role-legend-label").all_text_contents()
    assert sorted(legend) == ["gelu", "kernel_7"]
    lines = page.locator("#chosen svg .mark-line path")
    assert lines.count() == 6
    history = load_history(EXAMPLES)
    points = lines.first.get_attribute("d").count("L")
    assert points == history["epoch"].max() - 1
    page.get_by_label("validation loss").check()
    assert lines.count() == 6
    # a bar of the roadmap does what its button does
    page.locator('figure svg [aria-roledescription="rect mark"][aria-label*="stage ratio"]').first.click(
        position={"x": 20, "y": 8}
    )
    page.locator("#chosen svg .role-legend-label", has_text="stage_ratio").wait_for()


def test_two_runs_show_what_differs_as_the_command_does(nano: Path, show: Show) -> None:
    page = show(nano)
    for folder in (example("gelu", 0), example("kernel_7", 0)):
        page.locator(".dt-search input").fill(folder.name)
        page.locator(".dt-info", has_text="1 entry").wait_for()
        page.locator("#all-runs tbody input").click()
    keys = page.locator("#chosen .key").all_inner_texts()
    entries = run_diff(one_run(str(example("gelu"))), one_run(str(example("kernel_7"))))
    assert keys == [entry.key for entry in entries]
    cells = page.locator("#chosen tr", has_text="design.activation").locator("td").all_inner_texts()
    assert sorted(cells) == ["gelu", "relu"]
    assert sorted(page.locator("#chosen pre").all_inner_texts()) == [
        f"roadmap train step={step} regime=nano data=digits seed=0" for step in ("gelu", "kernel_7")
    ]


def test_accuracy_against_measured_speed(show: Show, tmp_path: Path) -> None:
    fast = ["batch_size=2", "bench.repeats=2", "bench.warmup=1", "bench.seconds=0", "bench.measure=[inference]"]
    only = "bench.only=[resnet50,gelu]"
    assert main(["bench", *fast, only, "device=cpu", f"runs_dir={tmp_path}"]) == 0
    runs = [str(example(step)) for step in ("resnet50", "gelu", "kernel_7")]
    assert main(["report", *runs, "--bench", str(tmp_path / "bench"), "-o", str(tmp_path / "page.html")]) == 0
    page = show(tmp_path / "page.html")
    words = " ".join(texts(page, page.locator("figure").count() - 1))
    assert all(name in words for name in ("images per second in inference", "resnet50", "gelu"))
    assert "Inference measured on" in page.locator(".comparison").inner_text()


def test_the_command_is_copied(nano: Path, show: Show) -> None:
    page = show(nano, permissions=["clipboard-read", "clipboard-write"])
    page.locator(".comparison").get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "roadmap run regime=nano data=digits 'seeds=[0,1,2]'"


@pytest.mark.parametrize("width", [360, 700])
def test_the_page_is_never_wider_than_the_screen(nano: Path, show: Show, width: int) -> None:
    page = show(nano, width=width)
    texts(page)
    choose(page, "layer_norm")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator("p, td, dd, dt, li").evaluate_all(
        "found => found.map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 12


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(nano: Path, show: Show, scheme: str) -> None:
    page = show(nano, color_scheme=scheme, reduced_motion="reduce")
    texts(page)
    choose(page, "layer_norm")
    least, text = page.evaluate(CONTRAST)
    assert least >= 4.5, text
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_hostile_names_stay_text(show: Show, tmp_path: Path) -> None:
    for number, name in enumerate(HOSTILE):
        failed = {"status": "failed", "error": name, "top1": None} if number % 2 else {}
        make_run(
            tmp_path / "runs" / f"hostile-{number:010}",
            seed=number,
            variant=name,
            step=["gelu", "kernel_7"][number % 2],
            **{"notes": name, "device": name, "git_commit": name, name: name, **failed},
            lr=number + 1.0,
        )
    overrides = tmp_path / "runs" / "hostile-0000000000" / ".hydra" / "overrides.yaml"
    overrides.write_text("- step=gelu\n- \"data.root='</script><img src=x onerror=alert(5)>'\"\n")
    file = tmp_path / "hostile.html"
    assert main(["report", str(tmp_path / "runs"), "-o", str(file)]) == 0
    page = show(file, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for check in page.locator("#all-runs tbody input").all():
        check.click()
    page.locator("#chosen svg").wait_for()
    for mark in page.locator("figure svg [aria-roledescription]").all():
        mark.dispatch_event("mousemove")
    assert page.locator("img, b[onmouseover], iframe, a[href]").count() == 0
    assert page.locator("#all-runs tbody").inner_text().count("alert(1)") >= 1


def test_failed_and_running_runs_only(show: Show, tmp_path: Path) -> None:
    unfinished = {"top1": None, "top5": None, "train_seconds": None, "images_per_second": None, "ended": None}
    make_run(tmp_path / "runs" / "a-1111111111", "gelu", **(unfinished | {"status": "running"}))
    failed = unfinished | {"status": "failed", "error": "loss is nan"}
    make_run(tmp_path / "runs" / "b-2222222222", "kernel_7", **failed)
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "r.html")]) == 0
    page = show(tmp_path / "r.html")
    assert "1 running, 1 failed" in page.locator(".caveats").inner_text()
    assert "loss is nan" in column(page, "error")
    choose(page, "gelu")
    assert page.locator("#chosen svg .mark-line path").count() == 2
