"""Images per second and core of the enhanced recipe's whole input pipeline: ours, timm's and torchvision's, in turns.

Decode, random resized crop (bicubic), flip, RandAugment, normalise, erase; float32 batches of 64 in one process and one
thread, from 500x375 JPEGs cut out of scikit-learn's two photographs. The rounds alternate, so that whatever else the
machine does hits all alike, and the process's own CPU time counts; a ratio is the median over the rounds, above 1 ours
is faster.

Ours and timm's with the enhanced recipe's RandAugment, which is timm's rand-m9-mstd0.5-inc1 for both; then ours and
torchvision's with torchvision's operations, every one carried out.

timm 1.0.31's RandAugment fails with Pillow 13: `pip install 'pillow<13' timm` in an environment of its own.

    python benchmarks/loader.py                    # four minutes
    python benchmarks/loader.py --rounds 15 --json loader.json
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# before torch is imported; the second as the command line sets it, here for all alike
os.environ |= {"OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}

import PIL
import torch
import torchvision
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.data.image import EvalImageTransform, TrainImageTransform, decode
from roadmap.schema.experiment import EvalTransform
from roadmap.schema.recipe import Recipe

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.photos import make_photos

BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def request(root: Path) -> list[str]:
    words = ["regime=tiny", "step=separate_downsampling", "data=imagenet", f"data.root={root}", "data.num_classes=2"]
    # as they come from timm's loader, which does not mix
    mixing = ["recipe.augment.mixup=null", "recipe.augment.cutmix=null"]
    return [*words, *mixing, f"batch_size={BATCH}", "num_workers=0"]


def ours(root: Path, *words: str) -> Callable[[], Iterator[Any]]:
    loaders = open_loaders(compose([*request(root), *words]).experiment(), torch.device("cpu"))
    return lambda: loaders.train.batches(0)


def timms(root: Path) -> Callable[[], Iterator[Any]]:
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", str(root / "train")),
        (3, 224, 224),
        BATCH,
        is_training=True,
        no_aug=False,
        re_prob=0.25,
        re_mode="pixel",
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=0.0,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=0,
        use_prefetcher=False,
        persistent_workers=False,
    )
    return lambda: iter(loader)


def torchvisions(root: Path) -> Callable[[], Iterator[Any]]:
    """The PIL preset of torchvision's own training reference, with this recipe's numbers."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(224, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.RandAugment(2, 27, interpolation=v2.InterpolationMode.BILINEAR),  # 27 of 30: nine tenths
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            v2.RandomErasing(0.25, value="random"),
        ]
    )
    loader = DataLoader(ImageFolder(str(root / "train"), transform), BATCH, shuffle=True, drop_last=True)
    return lambda: iter(loader)


def seconds_an_image(batches: Iterator[Any]) -> float:
    began, images = time.process_time(), 0
    for pixels, labels in batches:
        assert pixels.shape[1:] == (3, 224, 224)
        assert pixels.dtype == torch.float32
        images += len(labels)
    return (time.process_time() - began) / images


def stages(root: Path, recipe: Recipe) -> dict[str, float]:
    """Seconds an image of each part of ours."""
    files = [file.read_bytes() for file in sorted((root / "train").glob("*/*.jpg"))]
    transform = TrainImageTransform(recipe.augment, 224, MEAN)

    def timed(act: Callable[[bytes], object]) -> float:
        began = time.process_time()
        for data in files:
            act(data)
        return (time.process_time() - began) / len(files)

    decoding, whole = timed(decode), timed(transform)
    transform.operations = {}
    cropped = timed(transform)
    interpolation = recipe.augment.interpolation
    centre = EvalTransform(
        image_size=224, crop_ratio=recipe.eval_crop_ratio, interpolation=interpolation, mean=MEAN, std=STD
    )
    evaluation = timed(EvalImageTransform(centre))
    return {
        "decode": decoding,
        "crop, resize, flip": cropped - decoding,
        "RandAugment": whole - cropped,
        "(evaluation: decode, resize, crop)": evaluation,
    }


def in_turns(contenders: dict[str, Callable[[], Iterator[Any]]], rounds: int) -> dict[str, list[float]]:
    """Seconds an image of each, round by round; the first round warms up, and who begins changes."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(1 + rounds):
        for name in list(contenders) if turn % 2 else reversed(contenders):
            spent = seconds_an_image(contenders[name]())
            times[name] += [spent] if turn else []
    return times


def compared(title: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Print a table; the first row is ours."""
    print(f"{title:40}images/s   ours is faster by (rounds from - to)")
    first, *_ = times.values()
    rows = []
    for name, spent in times.items():
        ratios = [theirs / mine for mine, theirs in zip(first, spent, strict=True)]
        speed, ratio = 1 / statistics.median(spent), statistics.median(ratios)
        rows.append({"of": title, "loader": name, "images_per_second": speed, "ratio": ratio, "rounds": ratios})
        print(f"  {name:38}{speed:8.0f}   {ratio:.2f} ({min(ratios):.2f} - {max(ratios):.2f})")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--without-timm", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_photos(root, options.images)
        randaugment = "recipe.augment.randaugment"
        recipe = {"ours": ours(root)} | ({} if options.without_timm else {"timm": timms(root)})
        every = {
            "ours": ours(root, f"{randaugment}.operations=torchvision", f"{randaugment}.probability=1.0"),
            "torchvision, PIL preset": torchvisions(root),
        }
        print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Pillow {PIL.__version__}, one core")
        rows = compared("timm's operations, probability 0.5", in_turns(recipe, options.rounds))
        rows += compared("torchvision's operations, every one", in_turns(every, options.rounds))
        parts = stages(root, compose(request(root)).recipe)
    parts["normalise, erase, collate"] = 1 / rows[0]["images_per_second"] - sum(
        seconds for name, seconds in parts.items() if not name.startswith("(")
    )
    print("ours, milliseconds an image: " + ", ".join(f"{name} {1000 * spent:.2f}" for name, spent in parts.items()))
    if options.json:
        Path(options.json).write_text(json.dumps({"loaders": rows, "seconds_an_image": parts}, indent=1))


if __name__ == "__main__":
    main()
