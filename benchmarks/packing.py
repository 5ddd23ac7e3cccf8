"""How many small runs side by side on one device give the most images a second, against one run that has it alone.

Every arrangement is so many processes, each of which trains a nano network on digits with its share of the threads; the
arrangements take turns, so that whatever else the machine does hits all alike. Above 1, packing is faster.

    python benchmarks/packing.py                                   # CPU: 1 run, 2 and 4, the cores shared
    python benchmarks/packing.py --device cuda --workers 1 2 4 8   # one GPU; the arguments after -- are the runs' own
    python benchmarks/packing.py -- step=resnet50 batch_size=128
"""

import argparse
import os
import statistics
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection


def train(orders: Connection, overrides: list[str], device: str, threads: int) -> None:
    """One run: an epoch as warm-up, then as many as each message asks for, answered with the images seen."""
    # the second as roadmap's commands set it
    os.environ |= {"OMP_NUM_THREADS": str(threads), "GOMP_SPINCOUNT": "100000"}
    import torch

    from roadmap.config.compose import compose
    from roadmap.data import open_loaders
    from roadmap.training.build import build_trainer
    from roadmap.training.trainer import TrainState

    torch.set_num_threads(threads)
    experiment, where = compose(overrides).experiment(), torch.device(device)
    loaders = open_loaders(experiment, where)
    trainer = build_trainer(experiment, loaders, where)

    def epoch() -> int:
        for _ in trainer.train_epoch():
            pass
        trainer.state = TrainState()
        return trainer.loaders.train.images

    orders.send(epoch())
    while epochs := orders.recv():
        images = sum(epoch() for _ in range(epochs))
        if where.type == "cuda":
            torch.cuda.synchronize()
        orders.send(images)


class Arrangement:
    """So many runs side by side, which wait until it is their turn."""

    def __init__(self, workers: int, options: argparse.Namespace):
        self.threads = max(1, options.threads // workers)
        self.runs: list[Connection] = []
        context = get_context("spawn")
        for _ in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, options.overrides, options.device, self.threads)
            context.Process(target=train, args=arguments, daemon=True).start()
            self.runs.append(ours)
        for run in self.runs:
            run.recv()

    def images_per_second(self, epochs: int) -> float:
        """Of all runs together, from the common start to the end of the last."""
        began = time.perf_counter()
        for run in self.runs:
            run.send(epochs)
        images = sum(run.recv() for run in self.runs)
        return images / (time.perf_counter() - began)

    def end(self) -> None:
        """Let the processes go."""
        for run in self.runs:
            run.send(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="the first is what the others beat")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of all runs together")
    parser.add_argument("--epochs", type=int, default=4, help="of a turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("overrides", nargs="*", default=["step=separate_downsampling"])
    options = parser.parse_args()

    arrangements = {workers: Arrangement(workers, options) for workers in options.workers}
    speeds: dict[int, list[float]] = {workers: [] for workers in options.workers}
    for _ in range(options.rounds):
        for workers, arrangement in arrangements.items():
            speeds[workers].append(arrangement.images_per_second(options.epochs))
    for arrangement in arrangements.values():
        arrangement.end()
    first = speeds[options.workers[0]]
    print(f"{' '.join(options.overrides)} on {options.device}, {options.rounds} rounds")
    for workers, found in speeds.items():
        ratios = [mine / one for mine, one in zip(found, first, strict=True)]
        print(
            f"{workers} x {arrangements[workers].threads} threads: {statistics.median(found):.0f} images/s, "
            f"{statistics.median(ratios):.2f} of the first ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
