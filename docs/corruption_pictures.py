"""Draw docs/corruptions.png: every corruption that is made on the fly, of a photograph and of a digit.

`python docs/corruption_pictures.py`, with the package installed; the same picture each time.
"""

from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from roadmap.config.compose import compose
from roadmap.data.memory import read_images
from roadmap.data.weather import corrupt
from roadmap.records.corruptions import WITHOUT_PHOTOGRAPHS

SEVERITIES = (1, 3, 5)


def main() -> None:
    photograph = cv2.resize(load_sample_image("china.jpg")[:427, 100:527], (224, 224), interpolation=cv2.INTER_AREA)
    _, test = read_images(compose([]).experiment().data, 32)
    digit = np.ascontiguousarray(test.pixels[10].permute(1, 2, 0).numpy())
    columns = [(image, severity) for image in (photograph, digit) for severity in SEVERITIES]
    half = -(-len(WITHOUT_PHOTOGRAPHS) // 2)
    figure, axes = plt.subplots(half, 2 * len(columns), figsize=(9.6, 6.6), dpi=100)
    for axis in axes.flat:
        axis.axis("off")
    for number, name in enumerate(WITHOUT_PHOTOGRAPHS):
        row, left = number % half, number // half * len(columns)
        for offset, (image, severity) in enumerate(columns):
            axis = axes[row, left + offset]
            corrupted = corrupt(image, name, severity, np.random.default_rng(0))
            axis.imshow(corrupted, interpolation="antialiased" if image is photograph else "nearest")
            if offset == 0:
                axis.set_title(name.replace("_", " "), fontsize=8, loc="left", pad=2)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.97, 0.04, 0.22)
    file = Path(__file__).parent / "corruptions.png"
    figure.savefig(file)
    # a palette is enough for a page, at a third of the size
    Image.open(file).convert("RGB").quantize(256).save(file, optimize=True)


if __name__ == "__main__":
    main()
