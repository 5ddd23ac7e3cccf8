"""Kill a sweep or a roadmap at random moments, rerun it each time, and check what became of every run.

    python tests/faults/kill_commands.py                         # a sweep of 42 runs, two processes, killed twice
    python tests/faults/kill_commands.py run --kills 40          # the paper's 17 steps x 3 seeds, one process
    python tests/faults/kill_commands.py packed --kills 20       # the same with three runs at a time
    python tests/faults/kill_commands.py sweep --compare all     # compare every run with an undisturbed one
    python tests/faults/kill_commands.py trace FILE COMMAND …    # a command, with its writes to run folders traced

Each process appends what it writes into run folders to a trace (time, process, run, and ``epoch`` or the status of the
summary), so that a run trained twice is detected even if its folder looks the same at the end.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from roadmap.runs.run_folder import METRICS, SUMMARY, read_metrics  # noqa: E402
from tests.faults.kill_and_resume import differences  # noqa: E402

EPOCHS = 2
COMMON = [f"epochs={EPOCHS}", "seeds=[0,1,2]", "checkpoint_minutes=0.002"]
# the command, its overrides, the number of processes and of runs
COMMANDS = {
    "sweep": ("sweep", ["study=add_one_in", *COMMON], 2, 42),
    "run": ("run", COMMON, 1, 51),
    "packed": ("run", ["packed=3", *COMMON], 1, 51),
}
Event = dict[str, Any]


@dataclass
class Killed:
    """A command that is killed: when each of its processes was, and the files of runs that had finished by then."""

    runs_dir: Path
    command: str = "sweep"
    overrides: list[str] = field(default_factory=list)
    processes: int = 2
    runs: int = 4
    killed_at: dict[int, float] = field(default_factory=dict)
    finished: dict[str, dict[str, tuple[int, bytes]]] = field(default_factory=dict)

    @property
    def log(self) -> str:
        return (self.runs_dir.parent / "log").read_text()

    @property
    def events(self) -> list[Event]:
        """What was traced, in the order of writing."""
        trace = self.runs_dir.parent / "trace.jsonl"
        return [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []

    def start(self) -> list[subprocess.Popen[bytes]]:
        """Start the processes, each in a process group of its own."""
        self.runs_dir.parent.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "tests.faults.kill_commands", "trace", str(self.runs_dir.parent / "trace.jsonl")]
        words += [self.command, *self.overrides, f"runs_dir={self.runs_dir}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(self.runs_dir.parent / "log", "ab") as log:
            return [
                subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True, cwd=ROOT, env=environment)
                for _ in range(self.processes)
            ]

    def kill(self, draw: random.Random, most: int) -> None:
        """Start the processes, and kill each some time after they have written up to ``most`` more events."""
        wanted = len(self.events) + draw.randint(1, most)
        processes = self.start()
        while len(self.events) < wanted and all(process.poll() is None for process in processes):
            time.sleep(0.05)
        for process in processes:
            time.sleep(draw.uniform(0, 1))
            if process.poll() is not None:
                raise RuntimeError(f"ended before it was killed:\n{self.log}")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.killed_at[process.pid] = time.time()
        for run, event in {event["run"]: event for event in self.events}.items():
            if event["event"] == "finished":
                self.finished.setdefault(run, files_of(self.runs_dir / run))

    def finish(self) -> None:
        """Start the processes once more and wait for their end."""
        statuses = [process.wait() for process in self.start()]
        if any(statuses):
            raise RuntimeError(self.log)


def files_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The time of writing and the content of each file."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def faults(killed: Killed) -> list[str]:
    """What is wrong with the runs; each has to be trained once, and left alone once it has finished."""
    events: dict[str, list[Event]] = defaultdict(list)
    for event in killed.events:
        events[event["run"]].append(event)
    found = []
    for folder in sorted(file.parent for file in killed.runs_dir.glob(f"*/{SUMMARY}")):
        run_faults = faults_of_folder(folder) + faults_of_training(events.pop(folder.name, []), killed.killed_at)
        found += [f"{folder.name} {fault}" for fault in run_faults]
    found += [f"{run} has no summary" for run in events]
    touched = [run for run, files in killed.finished.items() if files_of(killed.runs_dir / run) != files]
    return [*found, *(f"{run} was written to after it had finished" for run in touched)]


def faults_of_folder(folder: Path) -> list[str]:
    """A finished run has each of its epochs once, and the last one's checkpoint."""
    found = []
    epochs = [row["epoch"] for row in read_metrics(folder / METRICS)]
    if epochs != list(range(1, EPOCHS + 1)):
        found.append(f"has epochs {epochs}")
    if partials := [file.name for file in folder.glob(".*.json*")]:
        found.append(f"has half-written files {partials}")
    if torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["epoch"] != EPOCHS:
        found.append("has a last checkpoint that is not its last epoch's")
    return found


def faults_of_training(events: list[Event], killed_at: dict[int, float]) -> list[str]:
    """A run is trained by one process at a time and finished once; it is started again only after a kill."""
    found, starts = [], 1
    for before, after in pairwise(events):
        if before["process"] != after["process"]:
            starts += 1
            if killed_at.get(before["process"], float("inf")) > after["time"]:
                found.append(f"was taken from process {before['process']}, which lived, by {after['process']}")
    counts = Counter(event["event"] for event in events)
    if counts["finished"] != 1 or events[-1]["event"] != "finished":
        found.append(f"was finished {counts['finished']} times")
    if counts["running"] != starts or not EPOCHS <= counts["epoch"] < EPOCHS + starts:
        found.append(f"was started {counts['running']} times by {starts} processes, {counts['epoch']} epochs logged")
    return found


def compare(killed: Killed, runs: list[str]) -> list[str]:
    """In what runs differ from the same ones trained without a kill by `roadmap train`."""
    from omegaconf import OmegaConf

    from roadmap.config.compose import compose
    from roadmap.training.run import run_experiment

    found = []
    for run in runs:
        words = [str(word) for word in OmegaConf.load(killed.runs_dir / run / ".hydra" / "overrides.yaml")]
        words = [word for word in words if not word.startswith(("runs_dir=", "seeds=", "study=", "path="))]
        _, folder = run_experiment(compose([*words, f"runs_dir={killed.runs_dir.parent / 'whole'}"]))
        found += [f"{run} differs in {part}" for part in differences(folder.path, killed.runs_dir / run)]
    return found


def kill_repeatedly(killed: Killed, kills: int, seed: int, compared: str = "some") -> list[str]:
    """Kill a command ``kills`` times, let it finish, and return what is wrong with its runs."""
    draw = random.Random(seed)
    events = killed.runs * (EPOCHS + 2)
    for number in range(1, kills + 1):
        killed.kill(draw, most=max(1, events // (kills + 2)))
        print(f"killed, {number} of {kills}: {len(killed.finished)} runs were finished", flush=True)
    killed.finish()
    found = faults(killed)
    counts = Counter(event["event"] for event in killed.events)
    print(
        f"{counts['finished']} runs finished in {counts['running']} starts; {counts['epoch']} epochs logged; "
        f"{len(found)} faults",
        flush=True,
    )
    starts = Counter(event["run"] for event in killed.events if event["event"] == "running")
    resumed = [run for run, times in starts.items() if times > 1]
    runs = sorted(starts if compared == "all" else {*resumed[:4], *draw.sample(sorted(starts), 4)})
    differing = compare(killed, runs)
    print(f"{len(runs)} runs compared with undisturbed ones: {len(differing)} differences", flush=True)
    return found + differing


def trace(file: Path) -> None:
    """Append what this process writes into run folders to a file; whole lines, also of several processes."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(path: Path, event: str) -> None:
        line = {"time": time.time(), "process": os.getpid(), "run": path.parent.name, "event": event}
        os.write(descriptor, (json.dumps(line) + "\n").encode())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and arguments[1] == "a" and Path(arguments[0]).name == METRICS:
            write(Path(arguments[0]), "epoch")
        elif event == "os.rename" and Path(arguments[1]).name == SUMMARY:
            write(Path(arguments[1]), json.loads(Path(arguments[0]).read_text())["status"])

    sys.addaudithook(hook)


def main() -> int:
    if sys.argv[1:2] == ["trace"]:
        trace(Path(sys.argv[2]))
        from roadmap.__main__ import main

        return main(sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="sweep")
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", choices=["some", "all"], default="some")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed = Killed(Path(folder) / "work" / "runs", *COMMANDS[options.command])
        found = kill_repeatedly(killed, options.kills, options.seed, options.compare)
    print("\n".join(found) or "every run was trained once, and equals an undisturbed one to the bit")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
