"""Compare logged runs with each other and with the paper in one table."""

from dataclasses import dataclass

import pandas as pd

from roadmap.comparison.agreement import Agreement, agreements, with_paper
from roadmap.comparison.groups import Baseline, PaperPath, summarise
from roadmap.comparison.text import accuracy_cells, markup, notes, paper_cells, shared
from roadmap.errors import RequestError
from roadmap.formatting import aligned, listed
from roadmap.runs.identity import Difference, Parents, cautions, not_comparable, unequal_conditions
from roadmap.runs.reading import Folders, load_runs
from roadmap.runs.sweep_plan import plans_of
from roadmap.statistics.gaps import DEFAULT_TEST, GapTest


@dataclass(frozen=True)
class Comparison:
    """``table`` has one row per group of seeds, with the paper's values.

    ``unequal`` holds the differences that make the comparison unfair (empty unless forced), ``cautions`` sentences on
    harmless differences, and ``agreements`` the agreement with the paper for each regime and data set. ``test`` is how
    gaps were tested.
    """

    table: pd.DataFrame
    unequal: list[Difference]
    cautions: list[str]
    agreements: list[Agreement]
    test: GapTest = DEFAULT_TEST

    def __str__(self) -> str:
        """The text of ``roadmap compare``."""
        table = self.table
        parts = [shared(table), aligned(*accuracy_cells(table)), *notes(table, self.test, self.cautions)]
        if (table["paper_delta"].notna() & table["delta"].notna()).any():
            parts += ["\nagainst the paper", aligned(*paper_cells(table))]
        return "\n".join(part for part in [*parts, *self.sentences()] if part)

    def _repr_markdown_(self) -> str:
        """The table and its notes in a notebook."""
        return "\n\n".join([self.to_markdown(), *notes(self.table, self.test, self.cautions), *self.sentences()])

    def sentences(self) -> list[str]:
        """The verdicts on the agreement with the paper, and the numbers they rest on."""
        return [sentence for agreement in self.agreements for sentence in agreement.sentences()]

    def to_latex(self) -> str:
        """The table in LaTeX, with booktabs' rules."""
        return markup(*accuracy_cells(self.table), "latex_booktabs")

    def to_markdown(self) -> str:
        """The table in Markdown."""
        return markup(*accuracy_cells(self.table), "github")


def compare(
    runs: Folders | pd.DataFrame,
    path: Parents | None = None,
    *,
    paired: bool = False,
    equivalence: float | None = None,
    correction: str = "holm",
    force: bool = False,
) -> Comparison:
    """Compare runs, given as folders or as a table of ``load_runs``, averaged over seeds.

    Accuracies are those after the last epoch, in percent; the columns are described in ``groups.summarise``,
    ``statistics.gaps`` and ``with_paper``. ``path`` says which variant each one is compared with, by default the step
    before on the paper's path. ``paired``, ``equivalence`` and ``correction`` say how gaps are tested, as in
    ``statistics.gaps.GapTest``; p-values are corrected for the gaps that the plan of the runs declares, or without a
    plan for all gaps of the table. Raises RequestError if there is no run or no such baseline and, unless forced, if
    finished runs differ in data, epochs, batch size, image size, pretrained weights or recipe. Two recipes are accepted
    if a step of the path leads from one to the other.
    """
    test = GapTest(paired, equivalence, correction)
    runs = runs if isinstance(runs, pd.DataFrame) else load_runs(runs)
    path = path or PaperPath()
    if not len(runs):
        raise RequestError("there is no run to compare")
    known = sorted(set(runs["variant"]))
    if isinstance(path, Baseline) and path.variant not in known:
        raise RequestError(f"no variant '{path.variant}' among these runs (choose {listed(known)})")
    unequal = check_equal(runs, path, force=force)
    plans, skipped = plans_of(runs["path"])
    table = with_paper(summarise(runs, path, test, plans))
    found = cautions(runs[runs["status"] == "finished"]) + skipped
    return Comparison(table, unequal, found, [] if unequal else agreements(table), test)


def check_equal(runs: pd.DataFrame, path: Parents, *, force: bool) -> list[Difference]:
    """The differences that make gaps between finished runs unfair; RequestError if there are any, unless forced."""
    unequal = unequal_conditions(runs, path)
    if unequal and not force:
        raise not_comparable(unequal, ", or compare them anyway with --force")
    return unequal
