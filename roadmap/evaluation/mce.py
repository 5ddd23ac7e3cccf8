"""Mean corruption error (mCE; Hendrycks & Dietterich, arXiv:1903.12261, section 4).

All errors are top-1 errors in percent. ``errors`` maps a corruption to its errors by severity.
"""

import csv
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.corruptions import CORRUPTIONS, SEVERITIES

Errors = Mapping[str, Mapping[int, float]]


@cache
def alexnet_errors() -> dict[str, float]:
    """AlexNet's mean error over the severities of each of ImageNet-C's corruptions."""
    file = Path(__file__).parent.parent / "paper" / "alexnet_corruption_errors.csv"
    with open(file, newline="", encoding="utf-8") as lines:
        return {row["corruption"]: 100 * float(row["top1_error"]) for row in csv.DictReader(lines)}


def by_severity(top1: Mapping[str, float]) -> dict[str, dict[int, float]]:
    """Errors by corruption and severity, from the accuracies of parts such as "gaussian_noise/3"; skips other parts."""
    errors: dict[str, dict[int, float]] = {}
    for part, accuracy in top1.items():
        name, _, severity = part.rpartition("/")
        if name and severity.isdigit():
            errors.setdefault(name, {})[int(severity)] = 100 - accuracy
    return errors


def missing(errors: Errors, required: Iterable[str] = CORRUPTIONS) -> list[str]:
    """The ``required`` corruptions or severities without an error, such as "frost" or "fog/5"."""
    lacking = []
    for name in required:
        absent = [severity for severity in SEVERITIES if severity not in errors.get(name, {})]
        lacking += [name] if len(absent) == len(SEVERITIES) else [f"{name}/{severity}" for severity in absent]
    return lacking


def corruption_errors(errors: Errors, baseline: Mapping[str, float] | None = None) -> dict[str, float]:
    """Each corruption's mean error relative to the baseline's (default: AlexNet's), in percent.

    Raises RequestError unless ``errors`` holds exactly the baseline's corruptions at all severities.
    """
    baseline = alexnet_errors() if baseline is None else baseline
    if lacking := missing(errors, baseline):
        raise RequestError(f"mCE requires all corruptions at all severities; not evaluated: {', '.join(lacking)}")
    if unknown := sorted(set(errors) - set(baseline)):
        raise RequestError(f"corruption {unknown[0]} is not part of mCE (choose {listed(baseline)})")
    return {name: 100 * sum(errors[name].values()) / len(errors[name]) / baseline[name] for name in baseline}


def mce(errors: Errors, baseline: Mapping[str, float] | None = None) -> float:
    """The mean of ``corruption_errors``."""
    relative = corruption_errors(errors, baseline)
    return sum(relative.values()) / len(relative)
