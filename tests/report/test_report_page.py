"""The report in a real browser: what a reader sees, chooses and hovers over."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.comparison.run_diff import one_run, run_diff
from roadmap.runs.reading import load_history, load_runs
from tests.records import EXAMPLES, example, make_many, make_run

Show = Callable[..., Any]

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><script>alert(3)</script><!--",
    "</title></style><b onmouseover=alert(4)>",
    "Größe → 模型 \u202e\u2028 🧪 ${1} {{payload}}",
    "a" * 5000,
]

# The least contrast of any text of the page with the ground behind it, and the text.
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const box = element.closest("svg") && at.querySelector?.(":scope > .hit");
      const fill = box && getComputedStyle(box).fill;
      if (fill && rgb(fill)[3] !== 0) return rgb(fill);
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
    if (!text || element.closest("script, style, noscript, .unseen") || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const grounds = [ground(element)];
    if (element.closest("svg.bars")) grounds.push(rgb(getComputedStyle(document.querySelector(".band")).fill));
    for (const behind of grounds) {
      const [a, b] = [light(rgb(element.closest("svg") ? style.fill : style.color)), light(behind)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < least[0]) least = [contrast, text];
    }
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


def shown_facts(page: Any) -> dict[str, str]:
    """Name → value of the tooltip."""
    return dict(zip(page.locator("#tip dt").all_inner_texts(), page.locator("#tip dd").all_inner_texts(), strict=True))


def row(page: Any, label: str) -> Any:
    return page.locator(f'.row[aria-label^="{label}:"]')


def cells(page: Any, head: str) -> list[str]:
    """A column of the run table."""
    heads = [text.strip() for text in page.locator("#runs .table-box thead th").all_inner_texts()]
    return page.locator(f"#runs tbody tr[data-run] > td:nth-child({heads.index(head) + 1})").all_inner_texts()


def test_it_has_every_step_and_run(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    assert page.title() == page.locator("h1").inner_text() == "From nano ResNet to nano ConvNeXt, one change at a time"
    labels = page.locator(".row .label[text-anchor=end]:first-of-type").count()
    assert labels == page.locator(".row").count() == 17
    assert page.locator("#runs tbody tr[data-run]").count() == len(runs) == 51
    assert page.locator("h1").count() == 1
    assert page.locator("#runs .count").inner_text() == "51 runs"


def test_hovering_and_focus_show_the_numbers_of_pandas(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    mine, before = (runs[runs["step"] == step].set_index("seed")["top1"] for step in ("kernel_9", "kernel_7"))
    row(page, "kernel size → 9").hover()
    facts = shown_facts(page)
    assert facts["change"] == "kernel=k9"
    assert facts["tried"] == "not adopted"
    assert facts["top-1 (%)"] == f"{mine.mean():.2f} ± {mine.std():.2f}"
    assert facts["Δ to parent"] == f"{mine.mean() - before.mean():+.2f}".replace("-", "−")
    assert facts["parameters"] == "0.51 M"
    assert facts["FLOPs (MACs)"] == "1.92 M"
    seeds = page.locator("#tip li").all_inner_texts()
    assert [text.split()[-1] for text in seeds] == [f"{mine[seed]:.2f}" for seed in (0, 1, 2)]
    page.mouse.move(5, 5)
    assert page.locator("#tip").is_hidden()
    row(page, "nano ResNet").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#tip .tip-title").inner_text() == "stage ratio"
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_a_click_opens_the_learning_curves_beside_the_parents(nano: Path, show: Show) -> None:
    page = show(nano)
    history = load_history(EXAMPLES)
    last = history[history["epoch"] == 30]
    row(page, "ReLU → GELU").click()
    panel = page.locator("#curves-0")
    assert panel.locator("h3").inner_text() == "Learning curves: ReLU → GELU"
    assert panel.locator("path.seed").count() == 6
    assert panel.locator("path.mean").count() == 2
    assert panel.locator(".legend .key").all_inner_texts() == [
        "ReLU → GELU, mean and 3 seeds",
        "kernel size → 7 (before), mean and 3 seeds",
    ]
    # a point an epoch, from the 10 % of chance upwards
    path = panel.locator("path.mean.line-0").get_attribute("d")
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path)]
    assert len(heights) == 30
    assert heights[0] > heights[-1]
    panel.get_by_text("validation loss").click()
    mean = last[last["step"] == "gelu"]["val_loss"].mean()
    assert f"ReLU → GELU {mean:.4g}" in panel.locator(".readout").inner_text()
    row(page, "kernel size → 7").focus()
    page.keyboard.press("Enter")
    assert panel.locator("h3").inner_text() == "Learning curves: kernel size → 7"
    assert row(page, "kernel size → 7").get_attribute("aria-expanded") == "true"
    panel.locator(".close").click()
    assert panel.is_hidden()


def test_sorting_and_filtering(nano: Path, show: Show, runs: pd.DataFrame) -> None:
    page = show(nano)
    head = page.locator("#runs thead th", has_text="top-1 (%)")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    best = runs["top1"].sort_values(ascending=False)
    assert cells(page, "top-1 (%)") == [f"{value:.2f}" for value in best]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert cells(page, "top-1 (%)")[0] == f"{best.iloc[-1]:.2f}"
    page.locator("#search").fill("kernel enhanced")
    assert page.locator("#runs .count").inner_text() == "12 of 51 runs"
    assert set(cells(page, "design")) == {"kernel_5", "kernel_7", "kernel_9", "kernel_11"}
    page.get_by_role("button", name="Filter by column").click()
    page.get_by_label("Filter seed").fill("2")
    assert cells(page, "seed") == ["2"] * 4
    page.locator("#search").fill("nothing of the kind")
    assert cells(page, "seed") == []


def test_two_runs_and_exactly_what_differs(nano: Path, show: Show) -> None:
    page = show(nano)
    for folder in (example("gelu", 0), example("kernel_7", 0)):
        page.locator("#search").fill(folder.name)
        page.locator("#runs tbody input").check()
    keys = page.locator(".diff tr[data-key]").evaluate_all("rows => rows.map((row) => row.dataset.key)")
    # what `roadmap diff` says of the two
    entries = run_diff(one_run(str(example("gelu"))), one_run(str(example("kernel_7"))))
    assert keys == [entry.key for entry in entries]
    values = page.locator('.diff tr[data-key="design.activation"] td').all_inner_texts()
    assert values == ["gelu", "relu"]
    assert page.locator(".card code").all_inner_texts() == [
        f"roadmap train step={step} regime=nano data=digits seed=0" for step in ("gelu", "kernel_7")
    ]
    # a third takes the first one's place
    page.locator("#search").fill(example("gelu", 1).name)
    page.locator("#runs tbody input").check()
    assert page.locator(".card h4").all_inner_texts() == ["kernel_7, seed 0", "gelu, seed 1"]
    page.locator(".selection .close").click()
    assert page.locator("#runs tr.chosen").count() == page.locator(".card").count() == 0


def test_accuracy_against_measured_speed(show: Show, tmp_path: Path) -> None:
    fast = ["batch_size=2", "bench.repeats=2", "bench.warmup=1", "bench.seconds=0", "bench.measure=[inference]"]
    only = "bench.only=[resnet50,gelu]"
    assert main(["bench", *fast, only, "device=cpu", f"runs_dir={tmp_path}"]) == 0
    runs = [str(example(step)) for step in ("resnet50", "gelu", "kernel_7")]
    assert main(["report", *runs, "--bench", str(tmp_path / "bench"), "-o", str(tmp_path / "page.html")]) == 0
    panel = show(tmp_path / "page.html").locator(".speed")
    assert panel.locator("circle").count() == 2
    assert {text.split(":")[0] for text in panel.locator("circle title").all_text_contents()} == {
        "nano ResNet",
        "ReLU → GELU",
    }
    assert "Inference measured on" in panel.inner_text()
    assert "Designs without a bench or a result: " in panel.inner_text()


def test_the_command_is_copied(nano: Path, show: Show) -> None:
    page = show(nano, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the command").click()
    page.get_by_text("Copied").first.wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "roadmap run regime=nano data=digits 'seeds=[0,1,2]'"


@pytest.mark.parametrize("width", [360, 390, 700, 1920])
def test_no_page_is_wider_than_its_screen(nano: Path, show: Show, width: int) -> None:
    page = show(nano, width=width)
    row(page, "BN → LN").click()
    for number in (0, 4):
        page.locator("#runs tbody input").nth(number).check()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.locator(".bars text, p, td, dd, dt, li").evaluate_all(
        "found => found.map((one) => parseFloat(getComputedStyle(one).fontSize))"
    )
    assert min(sizes) >= 12
    # no number of the axis meets the next, and nothing is drawn beyond the drawing
    ticks = page.locator(".bars .tick").evaluate_all(
        "found => found.map((one) => one.getBoundingClientRect()).map((box) => [box.top, box.left, box.right])"
    )
    assert all(b[1] - a[2] > 8 for a, b in pairwise(ticks) if a[0] == b[0])
    assert page.evaluate(
        """() => [...document.querySelectorAll(".bars text, .bars .bar")].every((one) => {
          const [box, all] = [one.getBoundingClientRect(), one.closest("svg").getBoundingClientRect()];
          return box.left >= all.left - 1 && box.right <= all.right + 1; })"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(nano: Path, show: Show, scheme: str) -> None:
    page = show(nano, color_scheme=scheme, reduced_motion="reduce")
    row(page, "BN → LN").click()
    for number in (0, 4):
        page.locator("#runs tbody input").nth(number).check()
    row(page, "BN → LN").hover()
    least, text = page.evaluate(CONTRAST)
    assert least >= 4.5, text
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")


def test_print_shows_all_and_no_controls(nano: Path, show: Show) -> None:
    page = show(nano, width=750, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.locator(".tools").is_hidden()
    assert page.locator("#runs tbody tr[data-run]").last.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 750
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_hostile_names_are_text(show: Show, tmp_path: Path) -> None:
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
    for label in page.locator(".row").all():
        label.dispatch_event("click")
        label.dispatch_event("pointerenter")
    for check in page.locator("#runs tbody input").all():
        check.check()
    assert page.locator("script").count() == 3
    assert page.locator("img, b[onmouseover], iframe, a:not(.skip)").count() == 0
    assert page.locator(".table-box tbody").inner_text().count("alert(1)") >= 1


def test_failed_and_running_runs_only(show: Show, tmp_path: Path) -> None:
    unfinished = {"top1": None, "top5": None, "train_seconds": None, "images_per_second": None, "ended": None}
    make_run(tmp_path / "runs" / "a-1111111111", "gelu", **(unfinished | {"status": "running"}))
    make_run(
        tmp_path / "runs" / "b-2222222222", "kernel_7", **(unfinished | {"status": "failed", "error": "loss is nan"})
    )
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "r.html")]) == 0
    page = show(tmp_path / "r.html")
    assert page.locator("#runs tbody td", has_text="loss is nan").count() == 1
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        least, text = page.evaluate(CONTRAST)
        assert least >= 4.5, text
    assert "1 running, 1 failed" in page.locator(".caveats").inner_text()
    row(page, "ReLU → GELU").click()
    assert page.locator("path.seed").count() == 2
    page.locator('select[data-filter="status"]').select_option("failed")
    assert cells(page, "status") == ["failed"]


def test_one_run(show: Show, tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a-1111111111")
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "r.html")]) == 0
    page = show(tmp_path / "r.html")
    assert page.locator(".row").count() == 1
    assert "one seed" in page.locator(".caveats").inner_text()


@pytest.mark.long
def test_a_thousand_runs_stay_fluid(show: Show, tmp_path: Path) -> None:
    make_many(tmp_path / "runs", 1000, epochs=40)
    assert main(["report", str(tmp_path / "runs"), "-o", str(tmp_path / "r.html")]) == 0
    page = show(tmp_path / "r.html")
    taken = page.evaluate(
        """() => {
          const times = {};
          const time = (name, act) => {
            // the fastest of three, since others may work on the machine too
            const taken = [0, 1, 2].map(() => {
              const began = performance.now();
              act();
              document.body.getBoundingClientRect();
              return performance.now() - began;
            });
            times[name] = Math.min(...taken);
          };
          for (const button of document.querySelectorAll("#runs thead button")) {
            time(`sort ${button.textContent}`, () => button.click());
          }
          const search = document.querySelector("#search");
          for (const words of ["l", "layer", "layer_norm 3", "failed", ""]) {
            time(`find ${words}`, () => { search.value = words; search.dispatchEvent(new Event("input")); });
          }
          return times;
        }"""
    )
    assert max(taken.values()) < 100, taken
    assert page.locator("#runs tbody tr[data-run]").count() == 60
    page.get_by_role("button", name="Next", exact=True).click()
    assert page.locator(".pager span").inner_text() == "61 to 120"
