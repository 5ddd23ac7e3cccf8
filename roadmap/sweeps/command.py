"""``roadmap sweep``: designs off the path × seeds; a plan of runs first, then Hydra jobs that work it off."""

import logging
from collections.abc import Sequence
from functools import partial

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.runs.sweep_plan import write_sweep
from roadmap.runtime.launcher import launch
from roadmap.sweeps.planning import PlannedSweep, described, planned
from roadmap.sweeps.search import is_search

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    parser = override_parser("sweep", "train the designs of a study × seeds, or what is missing of it")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and what they cost, and train nothing")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    if is_search(overrides, options.config_dir):
        from roadmap.sweeps.search_command import search

        return search(overrides, options.config_dir, options.dry_run)
    plan = planned(overrides, options.config_dir)
    train_images, val_images = images(plan)
    sweep = described(plan, overrides, train_images)
    say_choices(plan.requests)
    for note in plan.study.notes:
        logger.info(note)
    if options.dry_run:
        from roadmap.sweeps.dry_run import show

        show(plan, sweep, train_images, val_images)
        return 0
    sweep = write_sweep(sweep.runs_dir, sweep.header, sweep.runs)
    print(f"{sweep.path}: {len(plan.study.members)} designs × {len(plan.asked.seeds)} seeds = {len(sweep.runs)} runs")
    job = partial(work, overrides, options.config_dir)
    launch(job, overrides, options.config_dir, plan.asked.settings.workers)
    from roadmap.sweeps.sweep_report import report

    report(plan, sweep, options.config_dir)
    return 0


def images(plan: PlannedSweep) -> tuple[int, int]:
    """How many images the plan's runs train on and are evaluated on; the data has to be there for it."""
    import torch

    from roadmap.data import open_loaders

    loaders = open_loaders(plan.requests[0].experiment(), torch.device("cpu"))
    return loaders.train_images, loaders.val_images


def work(overrides: Sequence[str], config_dirs: Sequence[str], worker: int, since: str) -> None:
    """One worker: the sweep's runs that are neither finished nor another's."""
    from roadmap.runtime.device import share_gpus
    from roadmap.runtime.distributed import world_from_env
    from roadmap.training.run_queue import run_all

    plan = planned(overrides, config_dirs)
    if world_from_env().size == 1:
        share_gpus(plan.asked.settings.device, worker)
    run_all(plan.requests, plan.asked.settings.retries, since)
