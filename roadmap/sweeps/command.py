"""``roadmap sweep``: plans the runs of a study × seeds, trains what is missing, and reports the results."""

import logging
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.compose import options_of
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError, WorkError
from roadmap.formatting import aligned, duration, printable
from roadmap.runs.sweep_plan import Sweep, write_sweep
from roadmap.runtime.launcher import launch
from roadmap.sweeps.planning import PlannedSweep, count_train_images, of_runs, plan_sweep

if TYPE_CHECKING:
    import pandas as pd

    from roadmap.plots.charts import AnyChart

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    parser = override_parser("sweep", "train the designs of a study × seeds, or what is missing of it")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and what they cost, and train nothing")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    if _is_search(overrides, options.config_dir):
        from roadmap.sweeps.search_command import search

        return search(overrides, options.config_dir, options.dry_run)
    plan = plan_sweep(overrides, options.config_dir)
    jobs = plan.config.settings.jobs
    sweep = plan.record(overrides, count_train_images(plan.requests[0]))
    say_choices(plan.requests)
    for note in plan.study.notes:
        logger.info(note)
    if options.dry_run:
        print_plan(sweep, jobs)
        if plan.study.screening is not None:
            from roadmap.screening.text import design_text

            print(design_text(plan.study.screening))
        return 0
    sweep = write_sweep(sweep.runs_dir, sweep.header, sweep.runs)
    print(f"{sweep.path}: {_count(plan)} = {len(sweep.runs)} runs")
    launch(partial(work, overrides, options.config_dir), overrides, options.config_dir, jobs)
    report(plan, sweep, options.config_dir)
    return 0


def _count(plan: PlannedSweep) -> str:
    if plan.study.screening is not None:
        return f"{len(set(plan.study.screening.masks.tolist()))} combinations and replicates"
    return f"{len(plan.study.designs)} designs × {len(plan.config.seeds)} seeds"


def _is_search(overrides: Sequence[str], config_dirs: Sequence[str]) -> bool:
    """Whether the chosen study is a search. Raises RequestError if Optuna is not installed."""
    chosen = [word for word in overrides if key_of(word) == "study"]
    study = options_of(chosen, config_dirs).study if chosen else None
    if study is None or study.get("name") != "search":
        return False
    if find_spec("optuna") is None:
        raise RequestError("study=search needs Optuna; pip install 'convnext-roadmap[search]'")
    return True


def print_plan(sweep: Sweep, workers: int) -> None:
    """Print the planned runs, their cost and state, and the estimated time."""
    from roadmap.sweeps.status_command import read_records, status_of

    status = status_of(sweep, read_records(sweep.runs_dir)[0])
    rows = []
    for run in status.runs:
        gmacs, images = run.plan["gmacs"], run.plan["images"]
        rows.append((run.plan["run_id"], run.name, f"{gmacs:.4g}", f"{gmacs * images:.3g}", run.state))
    print(aligned(("run_id", "run", "GMACs", "GMACs × images", "state"), rows))
    counts = ", ".join(f"{count} {state}" for state, count in status.counts.items() if count)
    print(f"{sweep.name}: {len(rows)} runs: {counts}")
    seconds = status.seconds_left(workers)
    if seconds != seconds:
        print(f"time unknown: no finished run on {sweep.header['data']}")
    elif seconds:
        print(f"about {duration(seconds)} on {workers} workers" if workers > 1 else f"about {duration(seconds)}")


def work(overrides: Sequence[str], config_dirs: Sequence[str], worker: int, since: str) -> None:
    """One worker: the sweep's runs that are neither finished nor another's."""
    from roadmap.runtime.device import share_gpus
    from roadmap.runtime.distributed import world_from_env
    from roadmap.training.many_runs import run_all

    plan = plan_sweep(overrides, config_dirs)
    if world_from_env().size == 1:
        share_gpus(plan.config.settings.device, worker)
    run_all(plan.requests, plan.config.settings.retries, since)


def report(plan: PlannedSweep, sweep: Sweep, config_dirs: Sequence[str]) -> None:
    """Print and draw the results so far. Raises WorkError if a run failed or is missing."""
    from roadmap.runs.identity import condition_keys
    from roadmap.sweeps.status_command import read_records

    records = read_records(sweep.runs_dir)[0]
    own = records[records["run_id"].isin({run["run_id"] for run in sweep.runs})]
    finished, failed = own[own["status"] == "finished"], own[own["status"] == "failed"]
    if len(finished) and plan.study.changes is not None:
        # with the runs of other sweeps that differ only in design and seed
        conditions = set(condition_keys(own["definition"]))
        alike = records[[key in conditions for key in condition_keys(records["definition"])]]
        if plan.study.screening is None:
            _report_attribution(plan, sweep, alike, config_dirs)
        else:
            _report_screening(plan, sweep, alike)
    elif len(finished):
        _report_designs(finished, sweep)
    for run in failed.to_dict("records"):
        logger.error(f"failed: {run['regime']} {run['variant']} seed {run['seed']:g}: {run['error']}")
    missing = len(sweep.runs) - len(finished) - len(failed)
    print(f"{len(finished)} of {len(sweep.runs)} runs are finished: {sweep.path}")
    if len(failed) or missing:
        raise WorkError(
            f"{len(failed)} of {len(sweep.runs)} runs failed and {missing} are missing; rerun the command to train them"
        )


def _report_attribution(plan: PlannedSweep, sweep: Sweep, runs: "pd.DataFrame", config_dirs: Sequence[str]) -> None:
    from roadmap.attribution.command import attributed, draw
    from roadmap.attribution.text import text

    # the study of orders chooses the changes; the others do not go with an attribution
    orders = sweep.header["study"]["name"] == "orders"
    words = [word for word in plan.config.overrides if of_runs(word) or (orders and key_of(word).startswith("study"))]
    found, steps = attributed(runs, [str(sweep.runs_dir)], words, list(config_dirs))
    print(printable(text(found)))
    if found.table[["loo", "aoi", "shapley"]].notna().any(axis=None):
        _save(draw(found, steps), sweep, "attribution")


def _report_screening(plan: PlannedSweep, sweep: Sweep, runs: "pd.DataFrame") -> None:
    from roadmap.screening.command import draw, effects_of
    from roadmap.screening.text import effects_text

    try:
        found = effects_of(runs, plan.study)
    except RequestError as error:  # too few runs are finished, which the report says below
        logger.warning(f"no effects: {error}")
        return
    print(printable(effects_text(found)))
    _save(draw(found, plan.study), sweep, "effects")


def _report_designs(runs: "pd.DataFrame", sweep: Sweep) -> None:
    """Print the designs by accuracy, the best first, and draw them."""
    from roadmap.comparison.groups import OwnPath, summarise
    from roadmap.comparison.text import accuracy_cells, shared
    from roadmap.comparison.tradeoff_plot import draw_tradeoff
    from roadmap.design_spaces.edf import conditions, design_sample, edf_text
    from roadmap.design_spaces.plots import draw_edf, draw_scatter

    table = summarise(runs, OwnPath({})).sort_values("top1", ascending=False, kind="stable")
    print("\n".join([shared(table), aligned(*accuracy_cells(table))]))
    if sweep.header["study"]["name"] != "random":
        _save(draw_tradeoff(runs, "gmacs"), sweep, "tradeoff")
        return
    space = design_sample(sweep.name, runs)
    print(edf_text([space]))
    _save(draw_edf([space], conditions(runs)), sweep, "edf")
    if len(space.designs) > 1:
        _save(draw_scatter(space, conditions(runs)), sweep, "scatter")


def _save(chart: "AnyChart", sweep: Sweep, kind: str) -> None:
    from roadmap.plots.charts import save

    for suffix in ("svg", "png"):
        save(chart, sweep.path / f"{kind}.{suffix}")
    logger.info(f"figure: {sweep.path / kind}.png")
