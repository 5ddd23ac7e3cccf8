"""Makes the pictures of the report of the example runs: python docs/report_pictures.py

Needs the dev extra and Chromium on the PATH.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from roadmap.__main__ import main

DOCS = Path(__file__).parent


def opened(browser: Any, report: Path, width: int, height: int, scheme: str, scale: float = 1) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=scale)
    page.goto(report.as_uri())
    page.locator("figure svg").last.wait_for()
    return page


def keep(page: Any, name: str) -> None:
    """Write what is in view as a picture of 256 colours."""
    file = DOCS / f"report-{name}.png"
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def draw(browser: Any, report: Path) -> None:
    page = opened(browser, report, 1200, 1330, "light")
    page.locator('figure svg [aria-roledescription="rect mark"][aria-label*="BN → LN"]').first.hover(
        position={"x": 20, "y": 8}
    )
    page.locator("#vg-tooltip-element.visible").wait_for()
    keep(page, "light")
    page = opened(browser, report, 1200, 1330, "dark")
    page.get_by_role("button", name="gelu", exact=True).click()
    page.locator("#chosen svg").wait_for()
    page.evaluate("document.querySelector('#runs h2').scrollIntoView()")
    keep(page, "dark")
    page = opened(browser, report, 390, 1250, "light", 1.5)
    page.evaluate("document.querySelector('.comparison').scrollIntoView()")
    keep(page, "phone")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "report.html"
        if main(["report", str(DOCS.parent / "runs" / "examples" / "nano-digits.runs.jsonl.gz"), "-o", str(report)]):
            raise SystemExit(1)
        draw(playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"]), report)
