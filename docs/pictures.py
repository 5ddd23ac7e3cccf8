"""Make the pictures of docs/ that are not output of a command: python docs/pictures.py [corruptions|report]…

corruptions: every corruption that is made on the fly, of a photograph and of a digit. report: the report of the example
runs in Chromium, which has to be on the PATH; needs the dev extra.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from roadmap.__main__ import main
from roadmap.config.compose import compose
from roadmap.data.corruptions import corrupt
from roadmap.data.memory import read_images
from roadmap.schema.corruptions import WITHOUT_PHOTOGRAPHS

DOCS = Path(__file__).parent
SEVERITIES = (1, 3, 5)
CELL, GAP, TITLE = 76, 4, 14  # pixels


def corruptions() -> None:
    photograph = cv2.resize(load_sample_image("china.jpg")[:427, 100:527], (224, 224), interpolation=cv2.INTER_AREA)
    _, test = read_images(compose([]).experiment().data, 32)
    digit = np.ascontiguousarray(test.pixels[10].permute(1, 2, 0).numpy())
    columns = [(image, severity) for image in (photograph, digit) for severity in SEVERITIES]
    half = -(-len(WITHOUT_PHOTOGRAPHS) // 2)
    width, height = CELL + GAP, CELL + TITLE
    sheet = Image.new("RGB", (2 * len(columns) * width - GAP, half * height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(WITHOUT_PHOTOGRAPHS):
        left, top = number // half * len(columns) * width, number % half * height
        draw.text((left, top + 1), name.replace("_", " "), "black", font_size=10)
        for offset, (image, severity) in enumerate(columns):
            corrupted = Image.fromarray(corrupt(image, name, severity, np.random.default_rng(0)))
            method = Image.Resampling.LANCZOS if image is photograph else Image.Resampling.NEAREST
            sheet.paste(corrupted.resize((CELL, CELL), method), (left + offset * width, top + TITLE - 1))
    # a palette is enough for a page, at a third of the size
    sheet.quantize(256).save(DOCS / "corruptions.png", optimize=True)


def open_page(browser: Any, report: Path, scheme: str) -> Any:
    page = browser.new_page(viewport={"width": 1200, "height": 1330}, color_scheme=scheme)
    page.goto(report.as_uri())
    page.locator("figure svg").last.wait_for()
    return page


def save_view(page: Any, name: str) -> None:
    file = DOCS / f"report-{name}.png"
    page.screenshot(path=file)
    Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def report() -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = Path(folder) / "report.html"
        if main(["report", str(DOCS.parent / "runs" / "examples" / "nano-digits.runs.jsonl.gz"), "-o", str(file)]):
            raise SystemExit(1)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = open_page(browser, file, "light")
        bar = page.locator('figure svg [aria-roledescription="rect mark"][aria-label*="BN → LN"]').first
        bar.hover(position={"x": 20, "y": 8})
        page.locator("#vg-tooltip-element.visible").wait_for()
        save_view(page, "light")
        page = open_page(browser, file, "dark")
        page.get_by_role("button", name="gelu", exact=True).click()
        page.locator("#chosen svg").wait_for()
        page.evaluate("document.querySelector('#runs h2').scrollIntoView()")
        save_view(page, "dark")


if __name__ == "__main__":
    makers = {"corruptions": corruptions, "report": report}
    for name in sys.argv[1:] or makers:
        makers[name]()
