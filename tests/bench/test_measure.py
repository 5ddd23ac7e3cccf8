"""Training steps measured on the spot: against a training of the same design, and as what an estimate rests on."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from roadmap.bench.timing import image_seconds, spot_records
from roadmap.config.compose import compose
from roadmap.sweeps.estimate import estimate
from roadmap.training.run import run_experiment

CPU = torch.device("cpu")


@pytest.mark.long
def test_estimated_epoch_time_is_close_to_the_real_one(tmp_path: Path) -> None:
    """Within a factor of four, since other programs may be at work; a batch taken for an image would be one of 64."""
    summary, _ = run_experiment(compose(["step=gelu", "epochs=3", f"runs_dir={tmp_path}"]))
    training, evaluation = image_seconds(compose(["step=gelu"]), CPU)
    told = summary["train_images"] * training + summary["val_images"] * evaluation
    assert 0.25 < told / (summary["train_seconds"] / 3) < 4


def test_cheapest_median_and_dearest_designs_are_measured() -> None:
    requests = [compose([f"step={step}", f"seed={seed}"]) for seed in (0, 1) for step in ("resnet50", "gelu")]
    requests += [compose(["step=increase_width"])]
    records = spot_records(requests, CPU, 358, 1200)
    assert [record["variant"] for record in records] == ["gelu", "resnet50", "increase_width"]
    planned = {"regime": "nano", "variant": "kernel_7", "gmacs": 0.001825, "params_m": 0.5, "epochs": 2, "images": 716}
    (seconds,) = estimate([planned], pd.DataFrame(records), {"data": "digits"}).seconds
    assert seconds > 0
    assert len(spot_records(requests[:1], CPU, 358, 1200)) == 1
