"""Kill a run at random moments, start it again each time, and compare it bit for bit with an undisturbed one.

    python tests/faults/kill_and_resume.py                        # 20 kills in each scenario, some minutes
    python tests/faults/kill_and_resume.py --kills 3 memory       # fewer, in one scenario
    python tests/faults/kill_and_resume.py --kills 3 photographs  # ConvNeXt-T at 224 pixels, by name only

A third of the kills fall anywhere from the start of Python on, a third into training, and a third are sent as soon as a
half-written checkpoint is seen. Of two processes now both are killed, with torchrun, and now one of them alone.
Equal means: the same metrics.jsonl but for its times, and the same network, average, optimizer and scaler to the bit.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from roadmap.runs.run_folder import read_metrics

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.photos import make_photos
from tests.records import timeless_metrics

COMMON = ["step=separate_downsampling", "recipe.ema_decay=0.9", "checkpoint_minutes=0.002"]


@dataclass(frozen=True)
class Scenario:
    """A run long enough to be killed ``kills`` times."""

    overrides: Callable[[int, Path], list[str]]
    processes: int = 1
    slow: bool = False


def photos(root: Path) -> list[str]:
    """Overrides for a class folder of small JPEGs cut from scikit-learn's photographs."""
    if not root.exists():
        from PIL import Image
        from sklearn.datasets import load_sample_image

        draw = random.Random(0)
        for split, count in (("train", 60), ("val", 11)):
            for name in ("china", "flower"):
                photo = Image.fromarray(load_sample_image(f"{name}.jpg"))
                (root / split / name).mkdir(parents=True)
                for index in range(count):
                    left, top = draw.randrange(400), draw.randrange(250)
                    photo.crop((left, top, left + 160, top + 120)).save(root / split / name / f"{index}.jpg")
    return ["data=imagefolder", f"data.root={root}", "image_size=64", "batch_size=24", "num_workers=2"]


def photographs(root: Path) -> list[str]:
    """Overrides for ConvNeXt-T with the enhanced recipe on a few hundred JPEGs of ImageNet's size."""
    if not root.exists():
        make_photos(root, 320, val=42)
    return [
        "regime=tiny",
        "recipe=enhanced",
        "data=imagefolder",
        f"data.root={root}",
        "batch_size=32",
        "recipe.batch_norm_images=16",
        "num_workers=1",
    ]


SCENARIOS = {
    # GradScaler, EMA, MixUp, CutMix and stochastic depth
    "memory": Scenario(
        lambda kills, data: ["precision=fp16", "recipe.network.stochastic_depth=0.2", f"epochs={2 + kills // 2}"]
    ),
    "files": Scenario(lambda kills, data: [*photos(data), "in_memory=false", f"epochs={4 + 2 * kills}"]),
    "decoded": Scenario(lambda kills, data: [*photos(data), f"epochs={4 + 6 * kills}"]),
    "two_processes": Scenario(
        lambda kills, data: ["norm=batch", "recipe.batch_norm_images=16", f"epochs={4 + 3 * kills}"], processes=2
    ),
    "photographs": Scenario(
        lambda kills, data: [*photographs(data), f"epochs={1 + kills // 3}"], processes=2, slow=True
    ),
}
QUICK = [name for name, scenario in SCENARIOS.items() if not scenario.slow]


def command(scenario: Scenario, kills: int, data: Path, runs_dir: Path) -> list[str]:
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={scenario.processes}", "--master-port=0"]
    launcher += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    module = [*(launcher if scenario.processes > 1 else []), "-m", "roadmap", "train"]
    return [sys.executable, *module, *COMMON, *scenario.overrides(kills, data), f"runs_dir={runs_dir}"]


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, so that all of it can be killed."""
    with open(log, "wb") as file:
        return subprocess.Popen(
            words, stdout=file, stderr=file, start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )


def descendants(pid: int) -> list[int]:
    """A process and all below it, itself last."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [one for child in children for one in descendants(int(child))] + [pid]


def kill_at_random(words: list[str], runs_dir: Path, log: Path, draw: random.Random, processes: int) -> str | None:
    """Start a command and kill it; how and when in words, or None where it ended by itself before."""
    process = start(words, log)
    way = draw.choice(["at any time", "in training", "while it writes a checkpoint"])
    if way == "at any time":
        wait_for(lambda: False, process, draw.uniform(0, 6))
    else:
        wait_for(lambda: b"batch_size" in log.read_bytes(), process, 60)
        wait_for(lambda: False, process, draw.uniform(0, 1.0))
    if way == "while it writes a checkpoint":
        wait_for(lambda: any(runs_dir.glob("*/checkpoints/.last.pt.*")), process, 30)
    if process.poll() is not None:
        return None
    family = descendants(process.pid)
    workers = [pid for pid in family if pid != process.pid and b"roadmap" in cmdline(pid)]
    if processes > 1 and workers and draw.random() < 0.5:
        victim = draw.choice(workers[:processes])
        kill(victim)
        process.wait(timeout=60)
        way += ", one process of several"
    for pid in family:
        kill(pid)
    process.wait()
    return way


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    """Until the condition holds, the process has ended or the time is over."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends and process.poll() is None and not condition():
        time.sleep(0.0005)


def differences(one: Path, other: Path) -> list[str]:
    """In what two runs differ, apart from their times."""
    rows = [timeless_metrics(folder / "metrics.jsonl") for folder in (one, other)]
    found = [] if rows[0] == rows[1] else ["metrics.jsonl"]
    states = [torch.load(folder / "checkpoints" / "last.pt", weights_only=True) for folder in (one, other)]
    for part in ("epoch", "updates", "best_top1", "network", "ema", "optimizer", "schedule", "scaler"):
        if not equal(states[0][part], states[1][part]):
            found.append(part)
    return found


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


def run_folder(runs_dir: Path) -> Path:
    (folder,) = (path for path in runs_dir.iterdir() if (path / "summary.json").exists())
    return folder


def undisturbed(scenario: Scenario, kills: int, work: Path) -> Path:
    """The run from its start to its end in one go."""
    subprocess.run(
        command(scenario, kills, work / "data", work / "whole"),
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return run_folder(work / "whole")


def try_scenario(name: str, kills: int, seed: int, work: Path) -> list[str]:
    """Kill a scenario's run ``kills`` times, finish it, and say in what it differs from the undisturbed one."""
    scenario, draw = SCENARIOS[name], random.Random(seed)
    whole = undisturbed(scenario, kills, work)
    words = command(scenario, kills, work / "data", work / "killed")
    done = 0
    while done < kills:
        way = kill_at_random(words, work / "killed", work / "log", draw, scenario.processes)
        if way is None:
            raise RuntimeError(f"{name}: ended after {done} kills:\n{(work / 'log').read_text()}")
        done += 1
        folders = list((work / "killed").glob("*/metrics.jsonl"))
        epochs = len(read_metrics(folders[0])) if folders else 0
        print(f"{name}: kill {done} of {kills} {way}; {epochs} epochs logged", flush=True)
    process = start(words, work / "log")
    if process.wait() != 0:
        raise RuntimeError(f"{name}: did not finish:\n{(work / 'log').read_text()}")
    return differences(whole, run_folder(work / "killed"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=QUICK, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    failed = False
    for name in options.scenarios:
        work = Path(tempfile.mkdtemp())
        found = try_scenario(name, options.kills, options.seed, work)
        failed |= bool(found)
        print(f"{name}: {options.kills} kills; " + (f"DIFFERS in {', '.join(found)}" if found else "equal to the bit"))
        shutil.rmtree(work)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
