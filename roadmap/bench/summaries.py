"""Medians and quartiles of what rounds measured, and of the ratios between two networks round by round."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Numbers = Mapping[str, Any]


def spread(values: Sequence[float]) -> dict[str, float]:
    """``median``, and the quartiles ``low`` and ``high``: a quarter of the values lies below the one, above the other.

    Quartiles lie between the values where they fall between two, as NumPy's do.
    """
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def rates(outcome: Numbers) -> list[float]:
    """Images a second of each round."""
    return [outcome["batch"] / seconds for seconds in outcome["seconds"]]


def relative(outcome: Numbers, reference: Numbers) -> dict[str, float]:
    """How many times as fast as the reference, in images a second, over the ratios of each round."""
    return spread([one / other for one, other in zip(rates(outcome), rates(reference), strict=True)])


def summarised(rows: Sequence[dict[str, Any]], modes: Sequence[str], reference: str) -> None:
    """Add to each row's outcomes ``images_per_second``, of latency ``milliseconds``, and what they are to others.

    ``relative`` is how many times as fast as the row ``reference`` it is, ``against`` how many times as fast the row is
    that it names, if it does. What has an error has none of them.
    """
    for mode in modes:
        known = {row["name"]: row[mode] for row in rows if "error" not in row[mode]}
        for row in rows:
            outcome = known.get(row["name"])
            if outcome is None:
                continue
            outcome["images_per_second"] = spread(rates(outcome))
            if mode == "latency":
                outcome["milliseconds"] = spread([1000 * seconds for seconds in outcome["seconds"]])
            if reference in known:
                outcome["relative"] = relative(outcome, known[reference])
            if row["against"] in known:
                outcome["against"] = relative(known[row["against"]], outcome)
