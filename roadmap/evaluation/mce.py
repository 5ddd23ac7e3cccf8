"""Mean corruption errors (Hendrycks & Dietterich, arXiv:1903.12261, section 4) from the errors of evaluated parts.

All errors are in percent. ``errors`` holds, by corruption, the top-1 errors at severities 1 to 5.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.corruptions import CORRUPTIONS, SEVERITIES

Errors = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class CorruptionErrors:
    """A mean over corruptions in percent, and what it is the mean of."""

    mean: float
    by_corruption: dict[str, float]


@cache
def alexnet_errors() -> dict[str, float]:
    """AlexNet's mean top-1 error over the severities of each of ImageNet-C's corruptions."""
    file = Path(__file__).parent.parent / "paper" / "alexnet_corruption_errors.csv"
    with open(file, newline="", encoding="utf-8") as lines:
        return {row["corruption"]: 100 * float(row["top1_error"]) for row in csv.DictReader(lines)}


def by_severity(top1: Mapping[str, float]) -> dict[str, dict[int, float]]:
    """Errors by corruption and severity from the accuracies of parts called "gaussian_noise/3"; others are left out."""
    errors: dict[str, dict[int, float]] = {}
    for part, accuracy in top1.items():
        name, _, severity = part.rpartition("/")
        if name and severity.isdigit():
            errors.setdefault(name, {})[int(severity)] = 100 - accuracy
    return errors


def missing(errors: Mapping[str, Mapping[int, float]], wanted: Sequence[str] = CORRUPTIONS) -> list[str]:
    """What a mean over all ``wanted`` corruptions lacks: "frost", "fog/5"."""
    lacking = []
    for name in wanted:
        absent = [severity for severity in SEVERITIES if severity not in errors.get(name, {})]
        lacking += [name] if len(absent) == len(SEVERITIES) else [f"{name}/{severity}" for severity in absent]
    return lacking


def complete(errors: Mapping[str, Mapping[int, float]], wanted: Sequence[str] = CORRUPTIONS) -> dict[str, list[float]]:
    """The errors of all ``wanted`` corruptions at severities 1 to 5; RequestError where one was not evaluated."""
    lacking = missing(errors, wanted)
    if lacking:
        others = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise RequestError(
            f"no mean over the {len(wanted)} corruptions: {', '.join(lacking[:3])}{others} not evaluated; "
            f"a part of them is not to be compared with a published mean"
        )
    return {name: [errors[name][severity] for severity in SEVERITIES] for name in wanted}


def mce(errors: Errors, baseline: Mapping[str, float] | None = None) -> CorruptionErrors:
    """Mean corruption error: the mean over corruptions of the error's ratio to the baseline's, AlexNet's unless given.

    Raises RequestError where ``errors`` are not those of the baseline's corruptions at all severities.
    """
    baseline = alexnet_errors() if baseline is None else baseline
    means = _means(errors, baseline)
    return _averaged({name: 100 * means[name] / baseline[name] for name in baseline})


def _averaged(values: dict[str, float]) -> CorruptionErrors:
    return CorruptionErrors(sum(values.values()) / len(values), values)


def _means(errors: Errors, wanted: Mapping[str, object]) -> dict[str, float]:
    if set(errors) != set(wanted):
        odd = sorted(set(errors) ^ set(wanted))[0]
        where = "was not evaluated" if odd in wanted else "is none of those to average over"
        raise RequestError(f"corruption {odd} {where}; this mean is over {listed(wanted)}")
    for name, values in errors.items():
        if len(values) != len(SEVERITIES):
            raise RequestError(f"corruption {name} has errors at {len(values)} severities; the mean wants all five")
    return {name: sum(values) / len(values) for name, values in errors.items()}
