"""Gaps of runs whose seeds were chosen by results (``roadmap run until=decided``), which need sequential tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from roadmap.errors import RequestError
from roadmap.runs.sweep_plan import UNTIL, Sweep
from roadmap.statistics.gaps import GapTest, Sample
from roadmap.statistics.sequential import SequentialGaps, in_order


def with_sequential(
    gaps: pd.DataFrame,
    plans: Sequence[Sweep],
    run_ids: Sequence[set[str]],
    parents: Sequence[int | None],
    samples: Sequence[Sample],
    test: GapTest,
    family: int,
) -> pd.DataFrame:
    """Replace the tests of ``gaps`` whose two groups are in a plan of ``until=decided`` by those of ``SequentialGaps``.

    Their corrected p-values, outcome and interval, which holds for all of them together, are valid whenever the command
    stopped; ``delta`` and its standard error stay those over all seeds; ``delta_p`` and ``more_seeds`` are NaN. The
    column ``sequential`` marks them. Raises RequestError for tests that do not exist for such runs.
    """
    gaps = gaps.assign(sequential=False)
    for plan in plans:
        if plan.header["study"].get("name") != UNTIL:
            continue
        ids = {run["run_id"] for run in plan.runs}
        mine = [row for row, own in enumerate(run_ids) if not own.isdisjoint(ids)]
        rows = [row for row in mine if parents[row] in mine]
        start = [int(seed) for seed in plan.header["seeds"]]
        if not rows or any(not samples[row].keys() >= {*start} for row in mine):
            continue
        if test.paired or test.correction != "holm":
            option = "--paired" if test.paired else "--correction bh"
            raise RequestError(f"{option} does not go with runs of until=decided, whose seeds were chosen by results")
        found = _tested(mine, rows, start, parents, samples, test.equivalence, family)
        low, high = found.intervals
        columns: dict[str, Any] = {"delta_n": found.n, "delta_low": low, "delta_high": high}
        columns |= {"delta_p_holm": found.corrected, "outcome": found.outcomes, "sequential": True}
        unknown = ("delta_p", "more_seeds", "more_seeds_low", "more_seeds_high")
        columns |= dict.fromkeys((name for name in unknown if name in gaps), np.nan)
        if test.equivalence is not None:
            columns |= {"equal_p": np.nan, "equal_p_corrected": found.equal_corrected}
        for name, values in columns.items():
            gaps.loc[rows, name] = values
    return gaps


def _tested(
    mine: Sequence[int],
    rows: Sequence[int],
    start: Sequence[int],
    parents: Sequence[int | None],
    samples: Sequence[Sample],
    equivalence: float | None,
    family: int,
) -> SequentialGaps:
    """Test the gaps of ``rows`` over the seeds in their order: those of the start, then the others."""
    place = {row: number for number, row in enumerate(mine)}
    values = in_order(
        [[samples[row][seed] for seed in [*start, *sorted(samples[row].keys() - {*start})]] for row in mine]
    )
    pairs = np.array([(place[row], place[parent]) for row in rows if (parent := parents[row]) is not None])
    return SequentialGaps(values, pairs, len(start), equivalence, family)
