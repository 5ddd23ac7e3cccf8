"""Kill two processes at one sweep of 42 runs, twice, enter it again each time, and look what became of every run.

    python tests/faults/kill_a_sweep.py                  # about two minutes on two free cores
    python tests/faults/kill_a_sweep.py --kills 10       # more often
    python tests/faults/kill_a_sweep.py --compare all    # every run against an undisturbed one

Both processes are started at once and killed with SIGKILL at random moments. What they write into run folders is noted
as it happens (traced.py), so that a run trained twice would be seen even if its folder looked the same at the end.
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
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from roadmap.runs.run_folder import read_metrics  # noqa: E402
from roadmap.runs.sweep_plan import Sweep, read_sweeps  # noqa: E402
from roadmap.sweeps.status_command import status_report  # noqa: E402
from tests.faults import traced  # noqa: E402
from tests.faults.kill_and_resume import differences  # noqa: E402

EPOCHS, PROCESSES = 2, 2
ASKED = ["study=add_one_in", f"epochs={EPOCHS}", "seeds=[0,1,2]", "checkpoint_minutes=0.002"]
State = dict[str, tuple[int, bytes]]  # file -> when it was written, and what


@dataclass
class Story:
    """What happened: when each process was killed, and how the runs looked that had finished by then."""

    runs_dir: Path
    dead: dict[int, float] = field(default_factory=dict)
    finished: dict[str, State] = field(default_factory=dict)

    @property
    def trace(self) -> Path:
        return self.runs_dir.parent / "trace.jsonl"


def start(story: Story, overrides: list[str], command: str = "sweep") -> subprocess.Popen[bytes]:
    """A process at the sweep, or at another command, in a process group of its own."""
    words = ["-m", "tests.faults.traced", str(story.trace), command, *overrides, f"runs_dir={story.runs_dir}"]
    log = open(story.runs_dir.parent / "log", "ab")  # noqa: SIM115
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *words], stdout=log, stderr=log, start_new_session=True, cwd=ROOT, env=environment
    )


def kill_at_random(story: Story, draw: random.Random, most: int) -> None:
    """Start the processes, and kill one after the other once they have begun, logged and finished a few things."""
    before = len(events(story))
    processes = [start(story, ASKED) for _ in range(PROCESSES)]
    wait_for_events(story, before + draw.randint(1, most), processes)
    time.sleep(draw.uniform(0, 1))
    for process in processes:
        if process.poll() is not None:
            raise RuntimeError(f"ended before it was killed:\n{(story.runs_dir.parent / 'log').read_text()}")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        story.dead[process.pid] = time.time()
        time.sleep(draw.uniform(0, 1))
    note_finished(story)


def note_finished(story: Story) -> None:
    """Keep how the runs look that have finished by now."""
    for run, last in last_events(story).items():
        if last["event"] == "finished":
            story.finished.setdefault(run, state(story.runs_dir / run))


def events(story: Story) -> list[dict[str, Any]]:
    return traced.read(story.trace) if story.trace.exists() else []


def last_events(story: Story) -> dict[str, dict[str, Any]]:
    return {event["run"]: event for event in events(story)}


def wait_for_events(story: Story, count: int, processes: list[subprocess.Popen[bytes]]) -> None:
    while len(events(story)) < count and all(process.poll() is None for process in processes):
        time.sleep(0.05)


def state(folder: Path) -> State:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def finish(story: Story) -> None:
    """Start the processes once more and let them come to their end."""
    processes = [start(story, ASKED) for _ in range(PROCESSES)]
    if statuses := [process.wait() for process in processes if process.wait() != 0]:
        raise RuntimeError(f"ended with {statuses}:\n{(story.runs_dir.parent / 'log').read_text()}")


def faults(story: Story, planned: list[str]) -> list[str]:
    """What is not as it should be; each run trained once, none lost, none touched after it had finished."""
    folders = [file.parent for file in sorted(story.runs_dir.glob("*/summary.json"))]
    found = []
    if sorted(folder.name.rpartition("-")[2] for folder in folders) != sorted(planned):
        found.append(f"run folders are {[folder.name for folder in folders]}, planned were {planned}")
    for folder in folders:
        found += [f"{folder.name} {fault}" for fault in faults_of_folder(folder)]
    told = defaultdict(list)
    for event in events(story):
        told[event["run"]].append(event)
    for run, own in told.items():
        found += [f"{run} {fault}" for fault in faults_of_training(own, story)]
    touched = [run for run, files in story.finished.items() if state(story.runs_dir / run) != files]
    return [*found, *(f"{run} was touched after it had finished" for run in touched)]


def faults_of_folder(folder: Path) -> list[str]:
    """A finished run has each of its epochs once, and the last one's checkpoint."""
    found = []
    epochs = [row["epoch"] for row in read_metrics(folder / "metrics.jsonl")]
    if epochs != list(range(1, EPOCHS + 1)):
        found.append(f"has epochs {epochs}")
    if partials := [file.name for file in folder.glob(".*.json*")]:
        found.append(f"has half-written files {partials}")
    files = {file.name for file in (folder / "checkpoints").iterdir()}
    if files != {"last.pt", "previous.pt", "best.pt"}:
        found.append(f"has checkpoints {files}")
    elif torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["epoch"] != EPOCHS:
        found.append("has another last checkpoint than that of its last epoch")
    return found


def faults_of_training(own: list[dict[str, Any]], story: Story) -> list[str]:
    """One process at a time, finished once; begun again, and an epoch logged again, only after a kill."""
    found = []
    turns = [own[0]["process"]]
    for before, after in pairwise(own):
        if before["process"] != after["process"]:
            turns.append(after["process"])
            if story.dead.get(before["process"], float("inf")) > after["time"]:
                found.append(f"was taken from process {before['process']}, which lived, by {after['process']}")
    counts = Counter(one["event"] for one in own)
    if counts["finished"] != 1 or own[-1]["event"] != "finished":
        found.append(f"was finished {counts['finished']} times")
    if counts["running"] != len(turns) or not EPOCHS <= counts["epoch"] < EPOCHS + len(turns):
        found.append(f"was begun {counts['running']} times by {len(turns)} processes, {counts['epoch']} epochs logged")
    return found


def compare(story: Story, sweep: Sweep, which: list[str]) -> list[str]:
    """In what runs differ from the same ones trained undisturbed, by `roadmap train` of what the plan says."""
    from roadmap.config.compose import compose
    from roadmap.training.run import run_experiment

    rows = {row["run_id"]: row for row in sweep.runs}
    found = []
    for run in which:
        run_id = run.rpartition("-")[2]
        request = [*rows[run_id]["overrides"], f"runs_dir={story.runs_dir.parent / 'whole'}"]
        summary, folder = run_experiment(compose(request))
        if summary["run_id"] != run_id:
            found.append(f"{run} is {summary['run_id']} by its overrides")
        found += [f"{run} differs in {part}" for part in differences(folder.path, story.runs_dir / run)]
    return found


def counts_of(story: Story) -> str:
    """What `roadmap status` says, as a line."""
    counts = status_report([str(story.runs_dir)]).statuses[0].counts
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def try_sweep(kills: int, seed: int, compared: str, work: Path) -> list[str]:
    """Kill the sweep so often, let it finish, and say what is wrong with it."""
    story, draw = Story(work / "runs"), random.Random(seed)
    for number in range(kills):
        kill_at_random(story, draw, most=100 // kills)
        print(f"both killed, {number + 1} of {kills}: {counts_of(story)}", flush=True)
    finish(story)
    print(f"entered again: {counts_of(story)}", flush=True)
    (sweep,) = read_sweeps(story.runs_dir)
    found = faults(story, [run["run_id"] for run in sweep.runs])
    counts = Counter(event["event"] for event in events(story))
    print(
        f"{len(sweep.runs)} runs planned, {counts['finished']} finished; {counts['running']} beginnings, so "
        f"{counts['running'] - len(sweep.runs)} of them after a kill; {counts['epoch']} epochs logged, wanted are "
        f"{EPOCHS * len(sweep.runs)}; {len(story.finished)} runs had finished when the last kill came: "
        f"{len(found)} faults",
        flush=True,
    )
    begun = Counter(event["run"] for event in events(story) if event["event"] == "running")
    cut = [run for run, times in begun.items() if times > 1]
    which = sorted(begun if compared == "all" else {*cut, *draw.sample(sorted(begun), 4)})
    differing = compare(story, sweep, which)
    print(f"{len(which)} runs beside undisturbed ones: {len(differing)} differences", flush=True)
    return found + differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", choices=["some", "all"], default="some")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    found = try_sweep(options.kills, options.seed, options.compare, work)
    print("\n".join(found) or "every run exactly once, none lost, equal to the bit")
    shutil.rmtree(work)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
