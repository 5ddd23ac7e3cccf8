"""How long ``roadmap sweep --dry-run`` and ``roadmap status`` take for 500, 5,000 and 50,000 runs, and their memory.

    python benchmarks/sweeping.py [--runs 500 5000 50000] [--folder DIR]

Planned are 512 designs × seeds, to the next whole number of seeds. For status a plan is made up, and six of ten planned
runs have a record, made from the example runs': finished but for one in 37 that failed and one in 41 that was killed.
Each measurement is a process of its own; times are wall-clock from command to end, memory is the process's peak.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.comparing import measure  # noqa: E402
from tests.records import make_run, make_sweep, summary_of  # noqa: E402

STEPS = ("resnet50", "stage_ratio", "gelu", "layer_norm", "separate_downsampling")
RECORDED = 0.6  # of the planned runs
AXES = (
    "{stage_ratio:[resnet,swin],stem:[resnet,patchify],width:[resnet,swin],bottleneck:[standard,inverted],"
    "kernel:[k3,k7],activation:[relu,gelu],activations:[every_layer,one_per_block],norms:[every_layer,one_per_block],"
    "norm:[batch,layer]}"
)
DESIGNS = 512


def make(runs_dir: Path, runs: int) -> None:
    """A sweep of that many runs and what is there of them."""
    planned = []
    for number in range(runs):
        seed, step = number // len(STEPS), STEPS[number % len(STEPS)]
        run_id = f"{number:010x}"
        planned.append(summary_of(step) | {"seed": seed, "run_id": run_id})
        if number % 10 < 10 * RECORDED:
            folder = runs_dir / f"nano-digits-{step}-s{seed}-{run_id}"
            make_run(folder, step, seed, **_unfinished(number))
    make_sweep(runs_dir, "made-nano-digits-abc123", planned)


def _unfinished(number: int) -> dict[str, Any]:
    if number % 37 == 0:
        return {"status": "failed", "top1": None, "error": f"the loss became nan in update {number} of epoch 1"}
    return {"status": "running", "top1": None} if number % 41 == 0 else {}


def _commands(runs: int, folder: Path) -> dict[str, list[str]]:
    seeds = ",".join(map(str, range(-(-runs // DESIGNS))))
    plans = f"runs_dir={folder.with_name(f'plans-{runs}')}"
    return {
        "sweep --dry-run": ["sweep", "--dry-run", "study=factorial", f"study.axes={AXES}", f"seeds=[{seeds}]", plans],
        "status": ["status", str(folder)],
        "status --json": ["status", "--json", str(folder)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[500, 5000, 50000])
    parser.add_argument("--folder", type=Path, help="where to make the run folders, and leave them")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    options = parser.parse_args()
    print(f"{'runs':>6}  {'what':15}  {'seconds':>7}  {'GiB':>5}")
    with tempfile.TemporaryDirectory() as scratch:
        for runs in options.runs:
            folder = (options.folder or Path(scratch)) / str(runs)
            if not folder.exists():
                make(folder, runs)
            for name, command in _commands(runs, folder).items():
                results = [measure([sys.executable, "-m", "roadmap", *command]) for _ in range(options.repeats)]
                seconds, memory = min(seconds for seconds, _ in results), max(memory for _, memory in results)
                print(f"{runs:6}  {name:15}  {seconds:7.2f}  {memory:5.2f}", flush=True)


if __name__ == "__main__":
    main()
