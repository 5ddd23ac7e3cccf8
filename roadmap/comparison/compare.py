"""Compare logged runs in one table; runs that are not comparable are refused."""

from dataclasses import dataclass

import pandas as pd

from roadmap.comparison.baseline_step import Baseline, PaperPath
from roadmap.comparison.groups import summarise
from roadmap.comparison.paper_agreement import Agreement, agreements, with_paper
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.runs.identity import Difference, Parents, cautions, not_comparable, unequal_conditions
from roadmap.runs.reading import Folders, load_runs


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row per group of seeds, with the paper's values.

    ``unequal`` holds the differences that make the comparison unfair (empty unless forced), ``cautions`` sentences on
    harmless differences, and ``agreements`` the agreement with the paper for each regime and data set.
    """

    table: pd.DataFrame
    unequal: list[Difference]
    cautions: list[str]
    agreements: list[Agreement]


def compare(runs: Folders | pd.DataFrame, path: Parents | None = None, *, force: bool = False) -> Comparison:
    """Compare runs, given as folders or as a table of ``load_runs``, averaged over seeds.

    Accuracies are those after the last epoch, in percent; the columns are described in ``groups.summarise``,
    ``statistics.gaps`` and ``paper_agreement.with_paper``. ``path`` says which variant each one is compared with, by
    default the step before on the paper's path. Raises RequestError if there is no run or no such baseline and, unless
    forced, if finished runs differ in data, epochs, batch size, image size, pretrained weights or recipe. Two recipes
    are accepted if a step of the path leads from one to the other.
    """
    runs = runs if isinstance(runs, pd.DataFrame) else load_runs(runs)
    path = path or PaperPath()
    if not len(runs):
        raise RequestError("there is no run to compare")
    if isinstance(path, Baseline) and path.variant not in set(runs["variant"]):
        raise RequestError(
            f"no variant '{path.variant}' among these runs (choose {listed(sorted(set(runs['variant'])))})"
        )
    unequal = check_equal(runs, path, force=force)
    table = with_paper(summarise(runs, path))
    found = cautions(runs[runs["status"] == "finished"])
    return Comparison(table, unequal, found, [] if unequal else agreements(runs, table))


def check_equal(runs: pd.DataFrame, path: Parents, *, force: bool) -> list[Difference]:
    """The differences that make gaps between finished runs unfair; RequestError if there are any, unless forced."""
    unequal = unequal_conditions(runs, path)
    if unequal and not force:
        raise not_comparable(unequal, ", or compare them anyway with --force")
    return unequal
