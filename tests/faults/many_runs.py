"""Many runs in one process, as `roadmap run` trains them, and what the process holds after each of them.

    python tests/faults/many_runs.py                    # 50 runs, a minute on one core
    python tests/faults/many_runs.py --hold trainer     # what a leak of each run's trainer looks like

Prints one JSON object a run: ``memory`` (resident, MiB), ``files`` (open descriptors), ``threads`` (the system's), and
``objects`` (of Python's, that its garbage collector knows).
"""

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from roadmap.config.compose import compose  # noqa: E402
from roadmap.training import many_runs, run  # noqa: E402

HELD = {"trainer": "build_trainer"}


def look() -> dict[str, float]:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "objects": len(gc.get_objects()),
    }


def after(function: Callable[..., Any], act: Callable[[Any], None]) -> Callable[..., Any]:
    """A function that hands what it returns to ``act`` too."""

    def both(*arguments: Any, **options: Any) -> Any:
        found = function(*arguments, **options)
        act(found)
        return found

    return both


def train(count: int, held: str | None, runs_dir: str) -> None:
    """Train so many runs of one epoch, and print what is held after each; ``held`` of each run is never let go."""
    kept: list[Any] = []
    if held:
        setattr(run, HELD[held], after(getattr(run, HELD[held]), kept.append))
    train_run = many_runs.train_run

    def looked(*arguments: Any) -> Generator[None, None, Any]:
        found = yield from train_run(*arguments)
        print(json.dumps(look()), flush=True)
        return found

    many_runs.train_run = looked
    request = compose(["step=layer_norm", "epochs=1", "device=cpu", f"runs_dir={runs_dir}"])
    _, failures = many_runs.run_all([request.with_seed(seed) for seed in range(count)])
    assert not failures, failures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--hold", choices=HELD)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train(options.runs, options.hold, folder)
