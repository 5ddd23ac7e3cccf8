"""Makes docs/report/nano-digits.html from the example runs, and the pictures of it: python docs/report_pictures.py

Needs the dev extra and a Chromium on the PATH.
"""

import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from roadmap.__main__ import main

DOCS = Path(__file__).parent
REPORT = DOCS / "report" / "nano-digits.html"


def opened(browser: Any, width: int, height: int, scheme: str, scale: float = 1) -> Any:
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=scale,
        reduced_motion="reduce",
    )
    page.goto(REPORT.as_uri())
    return page


def keep(page: Any, name: str) -> None:
    """What is in view, in 256 colours, which flat drawings have not more of."""
    file = DOCS / f"report-{name}.png"
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def draw(browser: Any) -> None:
    page = opened(browser, 1200, 1330, "light")
    page.locator('.row[aria-label^="BN → LN:"]').hover(position={"x": 420, "y": 12})
    keep(page, "light")
    page = opened(browser, 1200, 1330, "dark")
    page.locator('.row[aria-label^="ReLU → GELU:"]').click()
    page.mouse.move(0, 0)
    page.evaluate("document.querySelector('#sections h2').scrollIntoView()")
    keep(page, "dark")
    page = opened(browser, 390, 1250, "light", 1.5)
    page.evaluate("document.querySelector('#sections h2').scrollIntoView()")
    keep(page, "phone")


if __name__ == "__main__":
    if main(["report", str(DOCS.parent / "runs" / "examples" / "nano-digits.runs.jsonl.gz"), "-o", str(REPORT)]):
        raise SystemExit(1)
    with sync_playwright() as playwright:
        draw(playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]))
