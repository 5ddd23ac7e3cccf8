"""Runs in the files that W&B's client wrote: segments of a run joined, as a summary and lines of metrics."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from roadmap.errors import RequestError
from roadmap.tracking.wandb_fields import Keys, is_ours, merged_rows, our_summary, their_summary
from roadmap.tracking.wandb_files import Segment, iso

STATES = {0: "finished", 255: "killed", None: "crashed"}  # by the exit code; others have failed


@dataclass(frozen=True)
class Imported:
    """A run as its folder will have it; ``name`` is what the folder is called by."""

    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    name: tuple[str, ...]


def joined(segments: Iterable[Segment]) -> list[list[Segment]]:
    """The segments of each run, the earliest first; those that hold no run are left out."""
    runs: dict[tuple[str, str, str], list[Segment]] = {}
    for segment in sorted(segments, key=lambda segment: segment.started):
        if segment.run_id:
            runs.setdefault((segment.entity, segment.project, segment.run_id), []).append(segment)
    return list(runs.values())


def imported(segments: list[Segment], keys: Keys) -> Imported:
    """One run from its segments; of what two of them say differently the later one's word counts.

    Raises RequestError where the accuracies do not fit ``keys``.
    """
    first, last = segments[0], segments[-1]
    config, logged = ({}, {})  # type: dict[str, Any], dict[str, Any]
    for segment in segments:
        config |= segment.config
        logged |= segment.summary
    state = STATES.get(last.exit_code, "failed")
    rows = [row for segment in segments for row in segment.rows.values()]
    if is_ours(config):
        with suppress(ValueError):
            summary = our_summary(first.run_id, state, config, logged)
            name = (*(str(summary[key]) for key in ("regime", "data", "variant")), f"s{summary['seed']}")
            return Imported(summary, merged_rows(rows, Keys()), (*name, first.run_id))
    lines = merged_rows(rows, keys)
    summary = their_summary(first.run_id, state, config, logged)
    summary |= {"variant": last.name or first.run_id, "started": iso(first.started)}
    if last.exit_code is not None:
        summary["ended"] = last.last_heard
    accuracies = [line["top1"] for line in lines if keys.percent(line.get("top1")) is not None] if keys.top1 else []
    if keys.share and max(accuracies, default=0.0) > 100:
        raise RequestError(
            f"{keys.top1} of run {first.run_id} reaches {max(accuracies) / 100:g}, which is no share of 1; "
            "leave out --share where it is percent"
        )
    if accuracies and summary["status"] == "finished":
        summary |= {"top1": accuracies[-1], "best_top1": max(accuracies)}
    return Imported(summary, lines, ("wandb", first.project or "run", summary["variant"], first.run_id))
