"""What the charts of any runs share."""

import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.identity import EVERYWHERE, check_comparable, differences


def check_one_comparison(runs: pd.DataFrame) -> None:
    """Raise RequestError, naming what differs, for runs whose accuracies cannot be compared.

    Runs of one regime as on a roadmap; of several regimes, whose recipes differ, on the same data all the same.
    """
    for _, group in runs.groupby("regime"):
        check_comparable(group)
    if found := differences(runs, EVERYWHERE):
        raise RequestError(
            f"these runs differ in {found[0]}, so one picture of them would compare what is not equal; "
            "name the folders of one kind only, or choose with regime= and data="
        )


def seeds_words(counts: pd.Series) -> str:
    """Return how many seeds a mean is over, in words."""
    low, high = int(counts.min()), int(counts.max())
    if high == 1:
        return "one seed each"
    return f"mean over {low} to {high} seeds" if low < high else f"mean over {high} seeds"
