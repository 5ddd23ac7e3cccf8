"""``roadmap sweep --dry-run``: the planned runs, their cost and the estimated time."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from roadmap.formatting import aligned
from roadmap.runs.sweep_plan import Sweep
from roadmap.sweeps.planning import PlannedSweep


def show(plan: PlannedSweep, sweep: Sweep, train_images: int, val_images: int) -> None:
    """Print the runs of a sweep; nothing is written."""
    import pandas as pd

    from roadmap.sweeps.estimate import describe, estimate
    from roadmap.sweeps.sweep_status import read_records

    runs = read_records(str(sweep.runs_dir), [sweep])[0] if os.path.isdir(sweep.runs_dir) else pd.DataFrame()
    status = dict(zip(runs["run_id"], runs["status"], strict=True)) if len(runs) else {}
    print(aligned(("run_id", "run", "GMACs", "GMACs × images", "record"), [_cells(run, status) for run in sweep.runs]))
    settings = plan.asked.settings
    like = {"data": plan.asked.data_name, "precision": settings.precision, "image_size": settings.image_size}
    estimated = estimate(sweep.runs, runs, like) if len(runs) else None
    if estimated is None or pd.isna(estimated.seconds).any():
        estimated = estimate(sweep.runs, measured(plan, train_images, val_images))
        estimated = replace(estimated, basis="a rough estimate from a few training steps of three designs")
    done = {run_id for run_id, recorded in status.items() if recorded == "finished"}
    print("\n".join([f"{sweep.name}:", *describe(sweep.runs, done, estimated, settings.workers)]))


def _cells(run: dict[str, Any], status: dict[str, str]) -> Sequence[str]:
    name = f"{run['variant']} seed {run['seed']}"
    work = f"{run['gmacs'] * run['images']:.3g}"
    return run["run_id"], name, f"{run['gmacs']:.4g}", work, status.get(run["run_id"], "missing")


def measured(plan: PlannedSweep, train_images: int, val_images: int) -> Any:
    """Time a few steps of three designs on the chosen device, for sweeps without a finished run."""
    import pandas as pd

    from roadmap.bench.timing import spot_records
    from roadmap.runtime.device import choose_device

    device = choose_device(plan.asked.settings.device)
    return pd.DataFrame(spot_records(plan.requests, device, train_images, val_images))
