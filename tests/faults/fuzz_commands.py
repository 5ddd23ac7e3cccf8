"""Runs random command lines over every command and checks how each ends and what it leaves behind.

    python tests/faults/fuzz_commands.py                      # 2,000 lines, about 20 minutes on two cores
    python tests/faults/fuzz_commands.py --seed 7 --lines 500
    python tests/faults/fuzz_commands.py --seed 7 --only 123  # one of them again, with its whole output

A line passes if its exit status is 0, 1 or 2 (trainings are sent SIGTERM after some seconds: 75, or killed by it), an
error takes at most three lines on stderr and has no traceback, every run folder can be read, and nothing is written
outside ``runs_dir`` and the file of -o. Lines run in forks of one process that has imported everything; thirty also run
in a Python of their own and must print the same.
"""

import argparse
import importlib
import os
import pickle
import pkgutil
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import roadmap  # noqa: E402
from roadmap.__main__ import COMMANDS, main  # noqa: E402
from tests.faults.leavings import contents, mess  # noqa: E402
from tests.faults.lines import draw_line  # noqa: E402
from tests.faults.places import damage, furnish  # noqa: E402

# seconds until SIGTERM, for other commands too, and from then on until SIGKILL: only a hang takes the last two
SECONDS, PATIENCE, GRACE = {"train": 12.0, "run": 12.0, "sweep": 12.0}, 240.0, 120.0
MEMORY = 12 << 30  # bytes of writable memory; V8, which draws charts, reserves far more addresses
STOPPED, ALONE = 75, 30
BESIDE = re.compile(r"skipped |batch_size \d|\[\d+/\d+\]|and \d+ more|\x1b|\S.*\d s(, |$)|.*\bepoch\b.*\d")


@dataclass(frozen=True)
class Outcome:
    """How a line ended: ``status`` None where it had to be killed."""

    status: int | None
    stdout: str
    stderr: str
    stopped: bool
    seconds: float


@dataclass(frozen=True)
class Tried:
    """A line, how it ended, and what is wrong with it."""

    number: int
    words: list[str]
    outcome: Outcome
    faults: list[str]


def forked(words: list[str], folder: Path) -> Outcome:
    """A line in a child of this process, in ``folder``, with its streams in files beside it."""
    streams = [folder.parent / name for name in ("stdout", "stderr")]
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(words, folder, streams)
    stopped, patience = False, SECONDS.get(words[0] if words else "", PATIENCE)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        spent = time.monotonic() - began
        if spent > patience and not stopped:
            stopped = True
            os.kill(child, signal.SIGTERM)
        if spent > patience + GRACE:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Outcome(None, *(_text(file) for file in streams), stopped, spent)
        time.sleep(0.005)
    status = os.waitstatus_to_exitcode(ended[1])
    return Outcome(status, *(_text(file) for file in streams), stopped, time.monotonic() - began)


def _become(words: list[str], folder: Path, streams: list[Path]) -> None:
    """The child's life: it never returns."""
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ |= surroundings(folder)
        tempfile.tempdir = None
        for number, file in zip((1, 2), streams, strict=True):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", errors=errors) for number, errors in STREAMS)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        status = main(words)
    except SystemExit as exit:
        status = exit.code if isinstance(exit.code, int) else int(bool(exit.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


STREAMS = ((1, "surrogateescape"), (2, "backslashreplace"))  # Python's own ways with what cannot be encoded


def surroundings(folder: Path) -> dict[str, str]:
    """Where a line finds home and the place for temporary files, so that what it leaves there is seen."""
    for name in ("home", "tmp"):
        (folder.parent / name).mkdir(exist_ok=True)
    places = {"HOME": str(folder.parent / "home"), "TMPDIR": str(folder.parent / "tmp")}
    return places | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "PYTHONUTF8": "1"}


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def alone(words: list[str], folder: Path) -> Outcome:
    """A line in a Python of its own."""
    environment = {**os.environ, **surroundings(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "roadmap", *words]
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, env=environment, timeout=300, check=False)
    texts = [stream.decode(errors="replace") for stream in (done.stdout, done.stderr)]
    return Outcome(done.returncode, *texts, False, time.monotonic() - began)


def faults(outcome: Outcome) -> list[str]:
    """What is wrong with how a line ended."""
    found = []
    if outcome.status is None:
        found.append(f"did not end within {GRACE:g} s after SIGTERM")
    elif outcome.stopped and outcome.seconds > PATIENCE and outcome.status not in (STOPPED, 0, 1, 2):
        found.append(f"took {PATIENCE:g} s")
    # before and after training nothing handles SIGTERM
    elif outcome.status not in (0, 1, 2) and not (outcome.stopped and outcome.status in (STOPPED, -signal.SIGTERM)):
        found.append(f"exit status {outcome.status}")
    if "Traceback" in outcome.stdout + outcome.stderr:
        found.append("a traceback")
    said = [line for line in outcome.stderr.splitlines() if line.strip() and not BESIDE.match(line)]
    if outcome.status in (1, 2) and not said:
        found.append("failed without a word")
    if outcome.status != 0 and len(said) > 3:
        found.append(f"{len(said)} lines on stderr")
    return found


def plain(text: str) -> list[str]:
    """What was said without its numbers and times, which differ from one time to the next."""
    return [re.sub(r"\d+(\.\d+)?", "N", line) for line in text.splitlines()]


def try_line(number: int, seed: int, template: Path, work: Path, twice: bool) -> Tried:
    """The line of this number, once or in both ways, in a folder that is damaged anew."""
    words = draw_line(random.Random(f"{seed}/{number}"))
    outcomes: list[Outcome] = []
    found: list[str] = []
    for way in (forked, alone) if twice else (forked,):
        place = work / str(os.getpid())
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template, place / "line")
        damage(random.Random(f"damage {seed}/{number}"), place / "line")
        before = contents(place)
        outcome = way(words, place / "line")
        found += faults(outcome) + mess(words, place, before, outcome.status)
        outcomes.append(outcome)
        if outcome.stopped:
            break
    if len(outcomes) == 2:
        one, other = outcomes
        if one.status != other.status:
            found.append(f"ended with {one.status} when forked, with {other.status} alone")
        elif plain(one.stderr) != plain(other.stderr):
            found.append(f"says something else alone: {other.stderr[-300:]}")
    return Tried(number, words, outcomes[0], found)


def prepare() -> None:
    """Import everything, once for all lines."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(roadmap.__path__, "roadmap."):
        if module.name != "roadmap.__main__":
            importlib.import_module(module.name)


def fuzz(numbers: Sequence[int], seed: int, jobs: int = 1, twice: Sequence[int] = ()) -> Iterator[Tried]:
    """Try these lines, those of ``twice`` in a Python of their own too."""
    prepare()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        template = furnish(work / "template" / "line")
        run = ["train", "step=gelu", "epochs=1", "runs_dir=trained"]
        if forked(run, template).status != 0:
            raise RuntimeError(_text(template.parent / "stderr"))
        shares = [numbers[job::jobs] for job in range(jobs)]
        pipes = [
            _share(share, lambda number: try_line(number, seed, template, work, number in twice)) for share in shares
        ]
        for at in range(len(numbers)):
            yield pickle.load(pipes[at % jobs])


def _share(numbers: Sequence[int], one: Callable[[int], Tried]) -> IO[bytes]:
    """Lines for a process of their own; where it says how they ended. Forked plainly: multiprocessing has its signs."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return os.fdopen(reading, "rb")
    try:
        with os.fdopen(writing, "wb") as pipe:
            for number in numbers:
                pickle.dump(one(number), pipe)
                pipe.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def main_fuzz() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, action="append")
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--training-seconds", type=float, default=12.0, help="until SIGTERM is sent to a training")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    SECONDS.update(dict.fromkeys(SECONDS, options.training_seconds))
    began = time.monotonic()
    numbers = options.only or range(options.first, options.lines)
    twice = () if options.only or options.lines < 200 else range(0, options.lines, options.lines // ALONE)
    counts: Counter[tuple[str, str]] = Counter()
    offenders = 0
    for one in fuzz(numbers, options.seed, options.jobs, twice):
        command = one.words[0] if one.words and one.words[0] in COMMANDS else "none"
        counts[command, str(one.outcome.status)] += 1
        offenders += bool(one.faults)
        if one.faults or options.only:
            print(f"--seed {options.seed} --only {one.number}: roadmap {shlex.join(one.words)!a}")
            print(f"  {'; '.join(one.faults) or 'right'}; {one.outcome.status}, {one.outcome.seconds:.1f} s")
            lines = one.outcome.stderr.strip().splitlines()
            print("".join(f"  {line[:300]}\n" for line in (lines if options.only else lines[-7:])), flush=True)
        if options.only:
            print(one.outcome.stdout)
    show(counts)
    print(f"{len(numbers)} lines, {offenders} with faults, {(time.monotonic() - began) / 60:.1f} minutes")
    return int(bool(offenders))


def show(counts: Counter[tuple[str, str]]) -> None:
    """A table of how often each command ended with each status."""
    statuses = sorted({status for _, status in counts})
    print(f"{'command':14}" + "".join(f"{status:>8}" for status in statuses))
    for command in sorted({command for command, _ in counts}):
        print(f"{command:14}" + "".join(f"{counts[command, status]:8}" for status in statuses))


if __name__ == "__main__":
    sys.exit(main_fuzz())
