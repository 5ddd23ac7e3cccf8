"""Real JPEGs of ImageNet's size without a download, for measuring loaders."""

import random
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image


def make_photos(root: Path, count: int, val: int = 2) -> None:
    """Class folders of 500x375 JPEGs, each another part of one of scikit-learn's two photographs at another scale.

    ``root/train`` gets ``count`` of them, ``root/val`` ``val``; the same each time.
    """
    draw = random.Random(0)
    for split, images in (("train", count), ("val", val)):
        for name in ("china", "flower"):
            photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
            (root / split / name).mkdir(parents=True)
            for index in range(images // 2):
                width = draw.uniform(400, 565)
                height = width * 0.75
                left, top = draw.uniform(0, photo.width - width), draw.uniform(0, photo.height - height)
                part = photo.resize((500, 375), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
                part.save(root / split / name / f"{index}.jpg", quality=90)
