"""What reaches the network: which images, how often, in which order, normalised how."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data import image_dataset, open_loaders
from roadmap.data.image_dataset import ImageFileBatches, UnreadableImages, worker_count

CPU = torch.device("cpu")
PLAIN = ["recipe.augment.crop_scale=[1.0,1.0]", "recipe.augment.crop_aspect=[1.0,1.0]"]


def experiment(*overrides: str):
    return compose(list(overrides)).experiment()


def test_epochs_shuffle_by_seed_and_drop_incomplete_updates() -> None:
    loaders = open_loaders(experiment(*PLAIN, "norm=layer", "batch_size=100"), CPU)
    first, again, second = ([labels for _, labels in loaders.train.batches(epoch)] for epoch in (0, 0, 1))
    assert [len(labels) for labels in first] == [100] * 3
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(second))
    other = open_loaders(experiment(*PLAIN, "norm=layer", "batch_size=100", "seed=1"), CPU)
    assert not torch.equal(torch.cat(first), torch.cat([labels for _, labels in other.train.batches(0)]))


@pytest.mark.parametrize("micro", [7, 64, 1])
def test_evaluation_has_each_image_once_for_any_batch_size(micro: int, photo_folder: Path) -> None:
    request = experiment("data=imagefolder", f"data.root={photo_folder}", f"batch_size={micro % 24}", "num_workers=0")
    loaders = open_loaders(request, CPU)
    assert sum(len(labels) for _, labels in loaders.val.batches()) == loaders.val_images == 10


def test_batches_are_normalised_and_channels_last() -> None:
    loaders = open_loaders(experiment(*PLAIN, "channels_last=true"), CPU)
    images = torch.cat([images for images, _ in loaders.val.batches()])
    assert images.is_contiguous(memory_format=torch.channels_last)
    # the data's own mean and std are those of all 1,797 images before they were enlarged
    assert images.mean().item() == pytest.approx(0, abs=0.05)
    assert images.std().item() == pytest.approx(1, abs=0.15)


def test_evaluated_image_files_equal_torchvisions(photo_folder: Path) -> None:
    request = experiment(
        "data=imagefolder", f"data.root={photo_folder}", "image_size=96", "batch_size=4", "num_workers=0"
    )
    loaders = open_loaders(request, CPU)
    ours = torch.cat([images for images, _ in loaders.val.batches()])
    reference = v2.Compose(
        [
            v2.Resize(110),
            v2.CenterCrop(96),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    files = sorted((photo_folder / "val").glob("*/*.jpg"))
    theirs = torch.stack([reference(Image.open(file).convert("RGB")) for file in files])
    # one grey level, where the two round the resampling otherwise
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1 / 255 / 0.224 + 1e-4)
    assert (ours - theirs).abs().mean() < 1e-3


class Numbered:
    """Ten images, each its number; number 3 and 6 to 8 cannot be read."""

    labels = tuple(range(10))

    def name(self, index: int) -> str:
        return str(index)

    def read(self, index: int) -> bytes:
        if index in (3, 6, 7, 8):
            raise OSError("gone")
        return bytes([index])


def with_worker(content: bytes) -> torch.Tensor:
    worker = torch.utils.data.get_worker_info()
    return torch.tensor([content[0], worker.id if worker else 0, 0], dtype=torch.uint8)[:, None, None]


def test_workers_share_each_batch_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_dataset, "CHUNK", 3)
    source = ImageFileBatches(Numbered(), with_worker, UnreadableImages(9), seed=None, num_workers=2, device=CPU)
    batches = list(
        source.batches(0, [torch.tensor([9, 2, 1, 0, 3, 4, 8, 5]), torch.tensor([6, 7, 8]), torch.arange(2)])
    )
    assert [labels.tolist() for _, labels in batches] == [[9, 2, 1, 0, 4, 5], [], [0, 1]]
    pixels, _ = batches[0]
    assert pixels[:, 0, 0, 0].tolist() == [9, 2, 1, 0, 4, 5]
    assert pixels[:, 1, 0, 0].tolist() == [0, 0, 0, 1, 1, 0]
    assert source.unread == [3, 8, 6, 7, 8]


@pytest.mark.parametrize(
    ("environment", "cores", "expected"),
    [
        ({}, 1, 0),
        ({}, 8, 7),
        ({}, 64, 16),
        ({"LOCAL_WORLD_SIZE": "8"}, 64, 7),
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "32"}, 64, 3),
        # eight tasks of one submitit job, each with its own cores, which Slurm may or may not have bound
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "6", "SUBMITIT_EXECUTOR": "slurm"}, 6, 5),
        ({"LOCAL_WORLD_SIZE": "8", "SLURM_CPUS_PER_TASK": "6", "SUBMITIT_EXECUTOR": "slurm"}, 64, 5),
    ],
)
def test_automatic_workers_take_the_cores_but_one(
    environment: dict[str, str], cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_WORLD_SIZE", "SLURM_CPUS_PER_TASK", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert worker_count("auto") == expected
    assert worker_count(3) == 3
    assert worker_count("auto", runs=100) == (expected if "SUBMITIT_EXECUTOR" in environment else 0)
