"""Medians and quartiles over rounds, of speeds and of ratios of speeds."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Numbers = Mapping[str, Any]


def median_and_quartiles(values: Sequence[float]) -> dict[str, float]:
    """``median`` and the quartiles ``low`` and ``high``, interpolated as in NumPy."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def rates(outcome: Numbers) -> list[float]:
    """Images per second of each round."""
    return [outcome["batch"] / seconds for seconds in outcome["seconds"]]


def relative(outcome: Numbers, reference: Numbers) -> dict[str, float]:
    """Speed relative to the reference, from the ratio of each round."""
    return median_and_quartiles([one / other for one, other in zip(rates(outcome), rates(reference), strict=True)])


def add_summaries(rows: Sequence[dict[str, Any]], modes: Sequence[str], reference: str) -> None:
    """Add ``images_per_second``, for latency ``milliseconds``, and ratios to each row's outcomes without an error.

    ``relative`` is the speed relative to the row ``reference``; ``against`` is the speed of the row that the row's
    ``against`` names, relative to the row itself.
    """
    for mode in modes:
        known = {row["name"]: row[mode] for row in rows if "error" not in row[mode]}
        for row in rows:
            outcome = known.get(row["name"])
            if outcome is None:
                continue
            outcome["images_per_second"] = median_and_quartiles(rates(outcome))
            if mode == "latency":
                outcome["milliseconds"] = median_and_quartiles([1000 * seconds for seconds in outcome["seconds"]])
            if reference in known:
                outcome["relative"] = relative(outcome, known[reference])
            if row["against"] in known:
                outcome["against"] = relative(known[row["against"]], outcome)
