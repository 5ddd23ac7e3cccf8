"""``roadmap run until=decided``: further seeds for the steps whose gaps they decide, within a budget.

train the starting seeds of all steps
while gaps are undecided and the budget lasts: choose the next seeds, train them, test all gaps

The rule depends on the runs' records alone, in the order in which it asks for them, so that a command that was killed
takes the same decisions when it is started again.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from roadmap.config.compose import Composed
from roadmap.errors import RequestError
from roadmap.formatting import aligned, duration
from roadmap.runs.sweep_plan import UNTIL
from roadmap.statistics.sequential import MOST_SEEDS, SequentialGaps, in_order
from roadmap.steps.path import Step

if TYPE_CHECKING:
    from roadmap.training.many_runs import Failures

Summary = dict[str, Any]
Train = Callable[[Sequence[Composed]], "tuple[list[Summary], Failures]"]
UNITS = {"h": 3600, "m": 60, "min": 60}


@dataclass(frozen=True)
class Budget:
    """A number of ``runs``, or ``seconds`` of training, summed over runs; the other is infinite."""

    runs: float = np.inf
    seconds: float = np.inf

    @classmethod
    def of(cls, value: int | str | None) -> "Budget":
        """Return the budget of a setting such as ``2h``, ``90m`` or ``60``. Raises RequestError."""
        if value is None:
            raise RequestError("until=decided needs budget=: hours, minutes or a number of runs (2h, 90m or 60)")
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(h|m|min)", str(value))
        if found and float(found[1]) > 0:
            return cls(seconds=float(found[1]) * UNITS[found[2]])
        if isinstance(value, int) and value > 0:
            return cls(runs=value)
        raise RequestError(f"budget must be hours, minutes or a number of runs, such as 2h, 90m or 60 (got {value})")

    def __str__(self) -> str:
        return f"{self.runs:.0f} runs" if self.runs < np.inf else f"{duration(self.seconds)} of training"


@dataclass(frozen=True)
class Decided:
    """The gaps of a path after some runs. Steps with the same design and recipe are one group."""

    gaps: SequentialGaps
    labels: list[str]  # of each gap
    runs: int
    seconds: float

    @property
    def spent(self) -> str:
        """What has been spent so far, in words."""
        return f"{self.runs} runs, {duration(self.seconds)} of training"

    def sentences(self, before: "Decided | None") -> list[str]:
        """A sentence on each gap that is decided now and was not ``before``."""
        old = np.zeros(len(self.labels), bool) if before is None else before.gaps.decided
        low, high = self.gaps.intervals
        return [
            f"decided: {self.labels[gap]}: {self.gaps.outcomes[gap]}, {self.gaps.delta[gap]:+.2f} "
            f"({low[gap]:+.2f} to {high[gap]:+.2f}) with {self.gaps.n[gap]} seeds; {self.spent}"
            for gap in np.flatnonzero(self.gaps.decided & ~old)
        ]

    def table(self) -> str:
        """The gaps with intervals, p-values and outcomes, and how many are decided."""
        gaps = self.gaps
        equal = gaps.equivalence is not None
        header = ["gap", "n", "Δ", "95 % of all Δ", "p (corrected)", *["p of equality"] * equal, "outcome"]
        rows = [
            [
                label,
                str(gaps.n[gap]),
                f"{gaps.delta[gap]:+.2f}",
                f"{gaps.intervals[0][gap]:+.2f} to {gaps.intervals[1][gap]:+.2f}",
                *[f"{p[gap]:.3f}" for p in (gaps.corrected, *[gaps.equal_corrected] * equal)],
                gaps.outcomes[gap],
            ]
            for gap, label in enumerate(self.labels)
        ]
        counts = f"{gaps.decided.sum()} of {len(rows)} gaps decided with {self.spent}"
        note = "intervals hold for all gaps together; they and the p-values are valid however seeds were chosen"
        return f"{aligned(header, rows)}\n{counts}\n{note}"


@dataclass(frozen=True)
class UntilDecided:
    """A path's ``steps`` with the seeds to start with, a ``budget`` and the number of runs ``at_a_time``."""

    steps: list[Step]
    budget: Budget
    at_a_time: int = 1
    summaries: dict[str, Summary] = field(default_factory=dict)
    requests: list[Composed] = field(default_factory=list)  # all runs asked for so far

    @classmethod
    def of(cls, steps: list[Step], workers: int) -> "UntilDecided":
        """Check the settings. Raises RequestError."""
        settings = steps[0].composed.settings
        study = cls(steps, Budget.of(settings.budget), max(workers, 1) * settings.packed)
        if len(study.start) < 2:
            raise RequestError("until=decided starts with at least 2 seeds (seeds=[0,1,2]), which a variance needs")
        if not len(study.pairs):
            raise RequestError("until=decided needs at least one gap: two steps of the path that follow each other")
        if len(study.groups) * len(study.start) > study.budget.runs:
            raise RequestError(
                f"budget={settings.budget} is below the number of runs to start with, {study.first_runs}"
            )
        return study

    @property
    def start(self) -> list[int]:
        """The seeds that all steps start with."""
        return self.steps[0].composed.seeds

    @property
    def first_runs(self) -> str:
        """The starting runs, in words."""
        steps, seeds = len(self.groups), len(self.start)
        return f"{steps * seeds} ({steps} steps with {seeds} seeds)"

    @cached_property
    def groups(self) -> dict[str, Step]:
        """The first step of each design and recipe, by the run_id of its first seed."""
        found: dict[str, Step] = {}
        for step in self.steps:
            found.setdefault(self._run_id(step, 0), step)
        return found

    @cached_property
    def pairs(self) -> np.ndarray:
        """Positions in ``groups`` of each gap's step and the one before it."""
        place = {run_id: number for number, run_id in enumerate(self.groups)}
        of_step = {step.name: place[self._run_id(step, 0)] for step in self.steps}
        found = [(of_step[step.name], of_step[step.parent]) for step in self.steps if step.parent]
        return np.array([pair for pair in dict.fromkeys(found) if pair[0] != pair[1]], int).reshape(-1, 2)

    def _run(self, step: Step, number: int) -> Composed:
        """A step with its seed of that number: the starting seeds, then those after the largest of them."""
        past = number - len(self.start)
        return step.composed.with_seed(self.start[number] if past < 0 else max(self.start) + 1 + past)

    def _run_id(self, step: Step, number: int) -> str:
        return self._run(step, number).experiment().run_id

    def announcement(self) -> str:
        """What the command is going to do."""
        equivalence = self.steps[0].composed.settings.equivalence
        equal = "" if equivalence is None else f", or equal within ± {equivalence:g} points"
        return (
            f"starting runs: {self.first_runs}; then seeds where they decide one of {len(self.pairs)} gaps soonest, "
            f"until each is better or worse{equal}, or {self.budget} are spent; at most {MOST_SEEDS} seeds of a step; "
            "family-wise error 5 %"
        )

    def plan(self) -> tuple[list[Composed], dict[str, Any]]:
        """The starting runs and the study of their plan, which says that further seeds are chosen by results."""
        requests = [self._run(step, number) for number in range(len(self.start)) for step in self.groups.values()]
        settings = requests[0].settings
        study = {"name": UNTIL, "start": self.start, "equivalence": settings.equivalence, "budget": settings.budget}
        return requests, study

    def train(self, train: Train, say: Callable[[str], None]) -> "tuple[Decided | None, Failures]":
        """Train runs with ``train`` until all gaps are decided or the budget is spent, or a run fails.

        ``say`` is called with a sentence on each decision. Returns the gaps, None if a starting run failed.
        """
        seeds = [len(self.start)] * len(self.groups)
        found: Decided | None = None
        while True:
            new = [
                self._run(step, number)
                for number in range(max(seeds))
                for step, count in zip(self.groups.values(), seeds, strict=True)
                if number < count and self._run_id(step, number) not in self.summaries
            ]
            self.requests.extend(new)
            summaries, failures = train(new)
            self.summaries.update({summary["run_id"]: summary for summary in summaries})
            if failures:
                return found, failures
            before, found = found, self._decided(seeds)
            for sentence in found.sentences(before):
                say(sentence)
            if found.seconds >= self.budget.seconds:
                return found, []
            chosen = found.gaps.next_steps(self.at_a_time, self.budget.runs - found.runs)
            if not chosen:
                return found, []
            for step in chosen:
                seeds[step] += 1

    def _decided(self, seeds: Sequence[int]) -> Decided:
        groups = [*self.groups.values()]
        records = [
            [self.summaries[self._run_id(step, number)] for number in range(count)]
            for step, count in zip(groups, seeds, strict=True)
        ]
        values = in_order([[record["top1"] for record in of_step] for of_step in records])
        gaps = SequentialGaps(values, self.pairs, len(self.start), self.steps[0].composed.settings.equivalence)
        labels = [f"{groups[own].name} − {groups[other].name}" for own, other in self.pairs]
        seconds = sum(record["train_seconds"] for of_step in records for record in of_step)
        return Decided(gaps, labels, sum(seeds), seconds)
