"""How ``roadmap sweep`` ends: what failed and is missing, and the study's own table and picture."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from roadmap.errors import WorkError
from roadmap.formatting import printable
from roadmap.runs.sweep_plan import Sweep
from roadmap.sweeps.planning import PlannedSweep, of_runs

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SUFFIXES = ("png", "svg")


def report(plan: PlannedSweep, sweep: Sweep, config_dirs: Sequence[str]) -> None:
    """Print and draw what a sweep has found so far. Raises WorkError where a run of it failed or is missing."""
    from roadmap.sweeps.sweep_status import read_records

    records = read_records(str(sweep.runs_dir), [sweep])[0]
    planned = {run["run_id"] for run in sweep.runs}
    own = records[records["run_id"].isin(planned)]
    finished = own[own["status"] == "finished"]
    if len(finished):
        if plan.study.changes is not None:
            _attribute(plan, sweep, _same_conditions(records, own), config_dirs)
        else:
            _list(finished)
            (_draw_space if sweep.header["study"]["name"] == "random" else _draw_tradeoff)(finished, sweep)
    failed = own[own["status"] == "failed"]
    for run in failed.to_dict("records"):
        name = f"{run['regime']} {run['variant']} seed {run['seed']:g}"
        logger.error(f"failed: {name}: {run['error']}")
    missing = len(sweep.runs) - len(finished) - len(failed)
    print(f"{len(finished)} of {len(sweep.runs)} runs are finished: {sweep.path}")
    if len(failed) or missing:
        raise WorkError(
            f"{len(failed)} of {len(sweep.runs)} runs failed and {missing} are missing; the same command goes on"
        )


def _same_conditions(records: "pd.DataFrame", own: "pd.DataFrame") -> "pd.DataFrame":
    """The ``records`` of any study that differ from one of the sweep's own runs only in design and seed."""
    from roadmap.runs.identity import condition_keys

    conditions = set(condition_keys(own["definition"]))
    return records[[key in conditions for key in condition_keys(records["definition"])]]


def _attribute(plan: PlannedSweep, sweep: Sweep, runs: "pd.DataFrame", config_dirs: Sequence[str]) -> None:
    from roadmap.attribution.command import attributed, draw
    from roadmap.attribution.text import text
    from roadmap.plots.charts import save

    words = [word for word in plan.asked.overrides if of_runs(word)]
    study = sweep.header["study"]
    if study["name"] == "orders" and plan.study.changes is not None:
        chosen = ",".join(plan.study.changes)
        words += ["study=orders", f"study.changes=[{chosen}]", f"study.keep_others={str(study['keep_others']).lower()}"]
    found, steps = attributed(runs, [str(sweep.runs_dir)], words, list(config_dirs))
    print(printable(text(found)))
    if found.table[["loo", "aoi", "shapley"]].notna().any(axis=None):
        chart = draw(found, steps)
        for file in _files(sweep, "attribution"):
            save(chart, file)


def _list(runs: "pd.DataFrame") -> None:
    """Print the designs by their accuracy, the best first."""
    from roadmap.comparison.baseline_step import OwnPath
    from roadmap.comparison.groups import summarise
    from roadmap.comparison.text import accuracy_cells, shared
    from roadmap.formatting import aligned

    table = summarise(runs, OwnPath({})).sort_values("top1", ascending=False, kind="stable")
    print("\n".join([shared(table), aligned(*accuracy_cells(table))]))
    if (table["n"] == 1).all():
        print("one seed each: the best of many is so by luck in part")


def _draw_space(runs: "pd.DataFrame", sweep: Sweep) -> None:
    from roadmap.design_spaces.command import conditions
    from roadmap.design_spaces.design_samples import design_sample
    from roadmap.design_spaces.edf_plot import draw_edf
    from roadmap.design_spaces.scatter_plot import draw_scatter
    from roadmap.design_spaces.text import words
    from roadmap.plots.charts import save

    space = design_sample(sweep.name, runs)
    print(words([space], None))
    chart = draw_edf([space], None, conditions(runs))
    for file in _files(sweep, "edf"):
        save(chart, file)
    if len(space.designs) > 1:
        chart = draw_scatter(space, conditions(runs))
        for file in _files(sweep, "scatter"):
            save(chart, file)


def _draw_tradeoff(runs: "pd.DataFrame", sweep: Sweep) -> None:
    from roadmap.comparison.tradeoff_plot import draw_tradeoff
    from roadmap.plots.charts import save

    chart = draw_tradeoff(runs, "gmacs")
    for file in _files(sweep, "tradeoff"):
        save(chart, file)


def _files(sweep: Sweep, kind: str) -> list[Path]:
    files = [sweep.path / f"{kind}.{suffix}" for suffix in SUFFIXES]
    logger.info(f"figure: {files[0]}")
    return files
