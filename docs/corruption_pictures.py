"""Draw docs/corruptions.png: every corruption that is made on the fly, of a photograph and of a digit.

`python docs/corruption_pictures.py`, with the package installed; the same picture each time.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_image

from roadmap.config.compose import compose
from roadmap.data.corruptions import corrupt
from roadmap.data.memory import read_images
from roadmap.schema.corruptions import WITHOUT_PHOTOGRAPHS

SEVERITIES = (1, 3, 5)
CELL, GAP, TITLE = 76, 4, 14  # pixels


def main() -> None:
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
    sheet.quantize(256).save(Path(__file__).parent / "corruptions.png", optimize=True)


if __name__ == "__main__":
    main()
