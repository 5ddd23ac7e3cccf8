"""What the trainer costs beside the training itself: an epoch of in-memory data against two bare loops, in turns.

`steps`: forward, backward and update of one ready batch, over and over. `loop`: the same on the loader's batches. The
trainer does all that, and schedules, logs, checks losses and asks for signals. Same network, weights, batch and number
of updates; the median over the rounds of time / time.

    python benchmarks/trainer_overhead.py
    python benchmarks/trainer_overhead.py --cases "regime=tiny data=cifar100 batch_size=64" --rounds 5
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# before torch is imported; as the command line sets them, for all three alike
os.environ |= {"GOMP_SPINCOUNT": "100000", "THP_MEM_ALLOC_ENABLE": "1"}

import torch

from roadmap.config.compose import compose
from roadmap.data import open_loaders
from roadmap.runtime.device import choose_device
from roadmap.training.build import build_trainer
from roadmap.training.trainer import Trainer, TrainState

CASES = [
    "regime=nano data=digits step=separate_downsampling",
    "regime=nano data=digits step=enhanced_recipe",
    "regime=tiny data=digits step=separate_downsampling image_size=64 batch_size=32",
]


def trainer(words: str) -> Trainer:
    experiment = compose(words.split()).experiment()
    device = choose_device(experiment.settings.device)
    return build_trainer(experiment, open_loaders(experiment, device), device)


def steps(trainer: Trainer) -> Callable[[], None]:
    images, targets = next(trainer.loaders.train.batches(0))

    def epoch() -> None:
        trainer.parts.network.train()
        for _ in range(trainer.loaders.train.share.updates):
            trainer.parts.loss(trainer.parts.network(images), targets).backward()
            trainer.parts.optimizer.step()
            trainer.parts.optimizer.zero_grad(set_to_none=True)

    return epoch


def loop(trainer: Trainer) -> Callable[[], None]:
    train = trainer.loaders.train

    def epoch() -> None:
        trainer.parts.network.train()
        for images, targets in train.batches(0):
            trainer.parts.loss(trainer.parts.network(images), targets).backward()
            trainer.parts.optimizer.step()
            trainer.parts.optimizer.zero_grad(set_to_none=True)

    return epoch


def whole(trainer: Trainer) -> Callable[[], None]:
    def epoch() -> None:
        trainer.state = TrainState()
        for _ in trainer.train_epoch():
            pass

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; the trainer's time over that of")
    print(f"{'':82}{'loop':>7}{'steps':>8}   ms an update")
    results = []
    for words in options.cases:
        epochs = {name: make(trainer(words)) for name, make in (("whole", whole), ("loop", loop), ("steps", steps))}
        updates = trainer(words).loaders.train.share.updates
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        for turn in range(1 + options.rounds):
            for name in list(epochs) if turn % 2 else reversed(epochs):
                began = time.perf_counter()
                epochs[name]()
                if turn:
                    seconds[name].append((time.perf_counter() - began) / updates)
        ratios = {
            name: statistics.median(w / bare for w, bare in zip(seconds["whole"], seconds[name], strict=True))
            for name in ("loop", "steps")
        }
        milliseconds = 1000 * statistics.median(seconds["whole"])
        results.append({"case": words, **ratios, "milliseconds_an_update": milliseconds})
        print(f"{words:82}{ratios['loop']:7.3f}{ratios['steps']:8.3f}{milliseconds:15.1f}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
