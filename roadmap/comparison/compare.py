"""Logged runs compared: refused where they are not equal, else one table with all that is to be known beside it."""

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
    """``table``, a row a group of seeds, with the paper's numbers; and what is to be known of it.

    ``unequal`` is what makes it no fair comparison (empty unless forced), ``cautions`` what does not forbid it, and
    ``agreements`` how the steps of the paper's path stand to the paper's.
    """

    table: pd.DataFrame
    unequal: list[Difference]
    cautions: list[str]
    agreements: list[Agreement]


def compare(runs: Folders | pd.DataFrame, path: Parents | None = None, *, force: bool = False) -> Comparison:
    """Compare the runs of folders, or of a table of ``load_runs``, grouped by everything but the seed.

    Accuracies are those after the last epoch, in percent; the table's columns are described at ``groups.summarise``,
    ``statistics.gaps`` and ``verdict.with_paper``. ``path`` says what each design is compared with: the step before on
    the paper's path, if none is given. Raises RequestError where there is no run or no such baseline, and, unless
    forced, where finished runs differ in recipe, data, epochs, image size or evaluation crop. A change of recipe that
    is a step of the path, with runs on both sides of it, is no such difference.
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
    known = cautions(runs[runs["status"] == "finished"])
    return Comparison(table, unequal, known, [] if unequal else agreements(runs, table))


def check_equal(runs: pd.DataFrame, path: Parents, *, force: bool) -> list[Difference]:
    """The differences that make gaps between finished runs unfair; RequestError if there are any, unless forced."""
    unequal = unequal_conditions(runs, path)
    if unequal and not force:
        raise not_comparable(unequal, ", or compare them anyway with --force")
    return unequal
