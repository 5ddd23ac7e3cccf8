"""What a check is, and how a list of them is gone through: one that fails does not keep the others from running."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from roadmap.errors import StoppedError, WorkError
from roadmap.textual import aligned


@dataclass(frozen=True)
class Scale:
    """How much the proof does: numbers that a GPU and a CPU differ in."""

    seconds: float  # no check begins that would end later than this
    matrix: int  # rows and columns of the products that measure the peak
    batch: int  # of the measured steps
    image_size: int
    warmup: int  # rounds
    cell_seconds: float  # of measuring one cell, after its warm-up
    most_rounds: int
    photos: int  # that the loader is measured with
    photo_run: tuple[str, ...]  # overrides of the run on them
    compiled: bool  # whether compiled networks are measured


GPU = Scale(
    seconds=570,
    matrix=8192,
    batch=128,
    image_size=224,
    warmup=3,
    cell_seconds=4,
    most_rounds=50,
    photos=2048,
    photo_run=("regime=tiny", "image_size=224", "batch_size=64", "precision=bf16"),
    compiled=True,
)
CPU = Scale(
    seconds=1800,
    matrix=1024,
    batch=4,
    image_size=96,
    warmup=1,
    cell_seconds=3,
    most_rounds=10,
    photos=200,
    photo_run=("regime=nano", "image_size=64", "batch_size=32"),
    compiled=False,
)


@dataclass(frozen=True)
class Subject:
    """A device under proof; ``folder`` is for files that nobody keeps, ``peaks`` FLOP/s by precision, once measured."""

    device: torch.device
    scale: Scale
    folder: Path
    peaks: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def ask_for(self, seconds: float) -> None:
        """Raises SkippedError where a check of so many seconds would end after the proof should."""
        if time.monotonic() - self.began + seconds > self.scale.seconds:
            raise SkippedError(
                f"about {seconds:.0f} s, but the proof ends within {self.scale.seconds:.0f} s; started again it gets "
                "further: torch keeps what it has compiled"
            )


@dataclass(frozen=True)
class Verdict:
    """What a check found; ``ok`` is None where something was measured and nothing can be wrong with it."""

    ok: bool | None
    sentence: str
    numbers: dict[str, Any] = field(default_factory=dict)


class SkippedError(Exception):
    """A check that this machine, or the time, has no room for; the message says why."""


@dataclass(frozen=True)
class Check:
    """A name and what finds out; ``run`` may raise whatever it likes."""

    name: str
    run: Callable[[Subject], Verdict]


@dataclass(frozen=True)
class Row:
    """One check's outcome: pass, fail, skipped or measured."""

    check: str
    outcome: str
    sentence: str
    numbers: dict[str, Any]
    seconds: float


def go_through(checks: Sequence[Check], subject: Subject) -> list[Row]:
    """Each check's row, told on stderr as it comes. Raises WorkError when interrupted."""
    rows = []
    for number, check in enumerate(checks, 1):
        row = _row(check, subject)
        rows.append(row)
        print(
            f"[{number}/{len(checks)}] {row.check}: {row.outcome}, {row.sentence} ({row.seconds:.1f} s)",
            file=sys.stderr,
            flush=True,
        )
    return rows


def _row(check: Check, subject: Subject) -> Row:
    began = time.perf_counter()
    try:
        verdict = check.run(subject)
        outcome = "measured" if verdict.ok is None else "pass" if verdict.ok else "fail"
    except SkippedError as reason:
        outcome, verdict = "skipped", Verdict(None, str(reason))
    except (KeyboardInterrupt, StoppedError) as error:
        raise WorkError(f"interrupted in the check '{check.name}'; nothing is kept of the proof") from error
    # a proof goes on: whatever torch, a driver or a compiler comes up with is this check's finding
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        outcome, verdict = "fail", Verdict(False, f"{type(error).__name__}: {first}")
    return Row(check.name, outcome, verdict.sentence, verdict.numbers, time.perf_counter() - began)


def render(rows: Sequence[Row]) -> str:
    """The table, and how many rows of each outcome there are."""
    lines = [[row.check, row.outcome, f"{row.seconds:.1f}", row.sentence] for row in rows]
    # the seconds flush right, the sentence flush left as the last column
    width = max(len(line[2]) for line in lines)
    lines = [[name, outcome, seconds.rjust(width), sentence] for name, outcome, seconds, sentence in lines]
    counts = [f"{sum(row.outcome == kind for row in rows)} {kind}" for kind in ("pass", "fail", "skipped", "measured")]
    return "\n".join([aligned(["check", "outcome", "s".rjust(width), "found"], lines), ", ".join(counts)])
