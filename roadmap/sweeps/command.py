"""``roadmap sweep``: designs off the path × seeds; a plan of runs first, then Hydra jobs that work it off."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from roadmap.cli.arguments import checked_overrides, override_parser, say_choices
from roadmap.config.compose import launcher_of, searchpath
from roadmap.config.conf_dir import config_dir
from roadmap.config.hydra_errors import hydra_errors
from roadmap.console import console_level
from roadmap.runs.run_folder import now
from roadmap.runs.sweep_plan import write_sweep
from roadmap.runtime.launcher_job import scheduled
from roadmap.runtime.launching import check_gpus, launching
from roadmap.sweeps.planning import PlannedSweep, described, planned
from roadmap.sweeps.search_command import is_search, search

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    parser = override_parser("sweep", "train the designs of a study × seeds, or what is missing of it")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and what they cost, and train nothing")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    if is_search(overrides, options.config_dir):
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
    # before anything is written
    check_gpus(launcher_of(overrides, options.config_dir))
    sweep = write_sweep(sweep.runs_dir, sweep.header, sweep.runs)
    print(f"{sweep.path}: {len(plan.study.members)} designs × {len(plan.asked.seeds)} seeds = {len(sweep.runs)} runs")
    start(overrides, options.config_dir, plan.asked.values["workers"])
    from roadmap.sweeps.sweep_report import report

    report(plan, sweep, options.config_dir)
    return 0


def images(plan: PlannedSweep) -> tuple[int, int]:
    """How many images the plan's runs train on and are evaluated on; the data has to be there for it."""
    import torch

    from roadmap.data import open_loaders

    loaders = open_loaders(plan.requests[0].experiment(), torch.device("cpu"))
    return loaders.train_images, loaders.val_images


def start(overrides: Sequence[str], config_dirs: Sequence[str], workers: int) -> None:
    """Start the workers as jobs of Hydra's launcher, and wait for them."""
    import hydra

    since, here, level = now(), os.getcwd(), console_level()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: Any) -> None:
        with scheduled(here, level):
            work(overrides, config_dirs, config.worker, since)

    numbers = f"worker={','.join(map(str, range(workers)))}"
    # without it Hydra prints errors itself and exits with 1 whatever they are
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["roadmap sweep", "--multirun", *overrides, *searchpath(config_dirs), numbers]
    with hydra_errors(overrides), launching():
        job()


def work(overrides: Sequence[str], config_dirs: Sequence[str], worker: int, since: str) -> None:
    """One worker: the sweep's runs that are neither finished nor another's."""
    from roadmap.runtime.device import share_gpus
    from roadmap.runtime.distributed import launched
    from roadmap.training.run_queue import carry_out

    plan = planned(overrides, config_dirs)
    if launched().size == 1:
        share_gpus(plan.asked.values["device"], worker)
    carry_out(plan.requests, plan.asked.values["retries"], since)
