"""``roadmap sweep``: designs off the path × seeds; a plan of runs first, then Hydra jobs that work it off."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from roadmap.commands.arguments import checked_overrides, override_parser
from roadmap.commands.search import is_search, search
from roadmap.confdir import config_dir
from roadmap.config import hydra_errors, searchpath
from roadmap.errors import WorkError
from roadmap.plan import Sweep
from roadmap.planning import Plan, planned, write_plan
from roadmap.runfolder import now, run_folders


def main(arguments: list[str]) -> int:
    parser = override_parser("sweep", "train the designs of a study × seeds, or what is missing of it")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it costs, and train nothing")
    options = parser.parse_intermixed_args(arguments)
    overrides = checked_overrides(options.overrides)
    if is_search(overrides, options.config_dir):
        return search(overrides, options.config_dir, options.dry_run)
    plan = planned(overrides, options.config_dir)
    sweep = write_plan(plan, overrides, training_images(plan))
    for note in plan.study.notes:
        print(note, file=sys.stderr)
    print(f"{sweep.path}: {len(plan.study.members)} designs × {len(plan.asked.seeds)} seeds, {len(sweep.runs)} runs")
    if options.dry_run:
        return 0
    start(overrides, options.config_dir, plan.asked.values["workers"])
    return finish(sweep)


def training_images(plan: Plan) -> int:
    """How many images an epoch of the plan's runs has; the data has to be there for it."""
    import torch

    from roadmap.data import open_loaders

    return open_loaders(plan.requests[0].experiment(), torch.device("cpu")).train_images


def start(overrides: Sequence[str], config_dirs: Sequence[str], workers: int) -> None:
    """Start the workers as jobs of Hydra's launcher, and wait for them."""
    import hydra

    since = now()

    @hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")
    def job(config: Any) -> None:
        work(overrides, config_dirs, since)

    numbers = f"worker={','.join(map(str, range(workers)))}"
    # without it Hydra prints errors itself and exits with 1 whatever they are
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = ["roadmap sweep", "--multirun", *overrides, *searchpath(config_dirs), numbers]
    with hydra_errors(overrides):
        job()


def work(overrides: Sequence[str], config_dirs: Sequence[str], since: str) -> None:
    """One worker: the sweep's runs that are neither finished nor another's."""
    from roadmap.worker import carry_out

    plan = planned(overrides, config_dirs)
    carry_out(plan.requests, plan.asked.values["retries"], since)


def finish(sweep: Sweep) -> int:
    """Say how the sweep stands. Raises WorkError where a run failed or is missing."""
    folders = run_folders(sweep.runs_dir)
    failed, missing = 0, 0
    for run in sweep.runs:
        summary = folders[run["run_id"]].read_summary() if run["run_id"] in folders else None
        status = (summary or {}).get("status")
        missing += status not in ("finished", "failed")
        if status == "failed":
            failed += 1
            print(f"failed: {run['regime']} {run['variant']} seed {run['seed']}: {summary['error']}", file=sys.stderr)
    print(f"{len(sweep.runs) - failed - missing} of {len(sweep.runs)} runs are finished")
    if failed or missing:
        raise WorkError(f"{failed} of {len(sweep.runs)} runs failed, {missing} are missing; the same command goes on")
    return 0
