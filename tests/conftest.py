"""Fixtures that several test modules share."""

import logging
import os
from pathlib import Path

# before numpy and torch are imported: pytest-xdist runs a worker per core, and tests' subprocesses inherit it
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

SLOW_SECONDS, LONG_SECONDS = 900, 3600


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark long tests as slow, and give slow and long tests a longer time limit."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker("slow")
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS if item.get_closest_marker("long") else SLOW_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def one_thread_per_worker() -> None:
    """Keep torch to one thread where OMP_NUM_THREADS allows more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def messages_reach_caplog() -> None:
    """Hydra leaves the root logger at the level ERROR."""
    logging.getLogger("roadmap").setLevel(logging.INFO)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders with JPEGs cut from scikit-learn's two photographs, of different sizes and modes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for name in ("china", "flower"):
            photo = load_sample_image(f"{name}.jpg")
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                top, left = rng.integers(0, 200), rng.integers(0, 300)
                height, width = rng.integers(120, 220, size=2)
                crop = Image.fromarray(photo[top : top + height, left : left + width])
                # a grey one among them, as ImageNet has
                crop = crop.convert("L") if index == 0 else crop
                crop.save(root / split / name / f"{index}.jpg")
    return root
