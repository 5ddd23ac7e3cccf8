"""Evaluation records: tables, robustness by step, and mean corruption errors."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from charts import drawn, texts, words
from records import record, write
from scipy import stats

import roadmap
from roadmap.__main__ import main
from roadmap.comparison.step_table import runs_of_steps
from roadmap.errors import RequestError
from roadmap.evaluation.text import accuracies, corruption_errors, mce, text
from roadmap.robustness.robustness_plot import robustness_chart
from roadmap.robustness.table import corrupted_runs, robust_comparison, robust_step_table
from roadmap.runs.reading import load_runs
from roadmap.schema.corruptions import CORRUPTIONS, WITHOUT_PHOTOGRAPHS
from roadmap.statistics.gaps import GapTest
from roadmap.steps.path import Step, compose_path

NAMES = ("gaussian_noise", "fog", "frost_synthetic")
PATH = """
name: short
steps:
  - {change: step=resnet50, label: ResNet, section: training}
  - {change: step=enhanced_recipe, section: training}
  - {change: step=stage_ratio, section: macro design}
  - {change: step=patchify_stem, label: patches, section: macro design}
  - {change: step=depthwise_conv, label: not evaluated, section: ResNeXt}
"""
STEPS = ("resnet50", "enhanced_recipe", "stage_ratio", "patchify_stem")


def accuracy(step: str, seed: int, name: str, severity: int) -> float:
    """Made up, and each one of its own."""
    place = STEPS.index(step)
    return 90 - 5 * severity - 3 * NAMES.index(name) + 2 * place + seed * (1 + 0.3 * place)


def evaluate(run: dict[str, Any], folder: Path, severities: Sequence[int] = (1, 3), **changes: Any) -> None:
    """An evaluation's record in a run's folder, as the command writes them."""
    corrupted = [
        {"part": f"{name}/{severity}", "top1": accuracy(run["step"], run["seed"], name, severity)}
        for name in NAMES
        for severity in severities
    ]
    made = {name: run[name] for name in ("run_id", "regime", "step", "variant", "recipe", "seed", "epochs")}
    made |= {"key": f"{run['run_id'][:4]}{len(severities)}", "conditions": f"c{len(severities)}", "data": "digits"}
    made |= {"checkpoint": {"file": "last.pt", "epoch": 30, "weights": "network"}, "image_size": 32}
    made |= {"crop_ratio": 1.0, "precision": "fp32", "label": f"{run['variant']} seed {run['seed']}"}
    made |= {"interpolation": "bicubic", "num_classes": 10, "chosen_on_these_images": False}
    made |= {"class_top1": [run["top1"]] * 10, "class_images": [120] * 10} | changes
    made["parts"] = [
        {"images": 1200, "left_out": 0, "top5": 99.0, "loss": 0.5, "ece": 3.0} | part
        for part in [{"part": "", "top1": run["top1"]}, *corrupted]
    ]
    file = folder / "evaluations" / f"{made['key']}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(made))


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of config files with a path of five steps."""
    folder = tmp_path_factory.mktemp("conf")
    (folder / "path").mkdir()
    (folder / "path" / "short.yaml").write_text(PATH)
    return folder


@pytest.fixture(scope="module")
def steps(conf: Path) -> list[Step]:
    return compose_path(["regime=nano", "path=short"], [str(conf)])


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Four steps with three seeds, all evaluated."""
    runs = [record(step, seed, 91.0 + place + seed / 4) for place, step in enumerate(STEPS) for seed in range(3)]
    write(tmp_path, *runs)
    for run in runs:
        evaluate(run, folder_of(tmp_path, run))
    return tmp_path


def folder_of(runs_dir: Path, run: dict[str, Any]) -> Path:
    (folder,) = runs_dir.glob(f"*-{run['run_id']}")
    return folder


def mean(step: str, seed: int) -> float:
    return float(np.mean([[accuracy(step, seed, name, severity) for severity in (1, 3)] for name in NAMES]))


def test_one_row_per_part(runs_dir: Path) -> None:
    table = roadmap.load_evaluations(runs_dir)
    assert len(table) == 12 * 7
    own = table[(table["step"] == "stage_ratio") & (table["seed"] == 2)]
    assert list(own["part"])[:3] == ["", "gaussian_noise/1", "gaussian_noise/3"]
    fog = own[(own["corruption"] == "fog") & (own["severity"] == 3)].iloc[0]
    assert fog["top1"] == accuracy("stage_ratio", 2, "fog", 3)
    assert (fog["checkpoint"], fog["epoch"], fog["weights"], fog["images"]) == ("last.pt", 30, "network", 1200)
    whole = own[own["part"] == ""].iloc[0]
    assert pd.isna(whole["corruption"])
    assert len(roadmap.load_evaluations(whole["path"])) == 7, "a file by itself"
    assert len(load_runs(runs_dir)) == 12, "no run is found in the records"


def test_unreadable_records_are_named(runs_dir: Path) -> None:
    file = next(runs_dir.glob("*/evaluations/*.json"))
    file.write_text(file.read_text()[:50])
    with pytest.warns(UserWarning, match=r"skipped .*json: .*\(char \d+\)"):
        assert len(roadmap.load_evaluations(runs_dir)) == 11 * 7
    with pytest.raises(RequestError, match="no folder nowhere"):
        roadmap.load_evaluations("nowhere")


def test_robustness_intervals_equal_scipys(runs_dir: Path, steps: list[Step]) -> None:
    robust, _ = corrupted_runs(load_runs(runs_dir))
    paired = GapTest(paired=True)
    table = robust_comparison(robust, test=paired).table.set_index("variant")
    ours, theirs = ([mean(step, seed) for seed in range(3)] for step in ("patchify_stem", "stage_ratio"))
    row = table.loc["patchify_stem"]
    assert row["top1"] == pytest.approx(np.mean(ours))
    interval = stats.t.interval(0.95, 2, np.mean(ours), stats.sem(ours))
    assert (row["top1_low"], row["top1_high"]) == pytest.approx(interval)
    test = stats.ttest_rel(ours, theirs)
    assert row["delta"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (row["delta_low"], row["delta_high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert row["delta_p"] == pytest.approx(test.pvalue)
    assert row["clean_top1"] == pytest.approx(94.25)
    assert row["clean_delta"] == pytest.approx(1)
    assert row["drop"] == pytest.approx(94.25 - np.mean(ours))
    row = robust_comparison(robust).table.set_index("variant").loc["patchify_stem"]
    road = robust_step_table(robust, steps).set_index("step")
    assert road.loc["patchify_stem", "delta_p_holm"] == row["delta_p_holm"]
    assert robust.words == (
        "data digits, 32 pixels, 3 corruptions at severities 1, 3 (frost_synthetic is drawn, not the published "
        "photographs)"
    )


def test_different_evaluations_are_not_compared(runs_dir: Path) -> None:
    runs = load_runs(runs_dir)
    for run in runs.to_dict("records")[:2]:
        evaluate(run, Path(run["path"]), severities=(1, 2, 3))
    with pytest.raises(RequestError, match=r"have 2 evaluations .* choose one with --conditions c2 \(12 runs\)"):
        corrupted_runs(runs)
    assert len(corrupted_runs(runs, "c2")[0].runs) == 12
    assert len(corrupted_runs(runs, "c3")[0].runs) == 2
    with pytest.raises(RequestError, match=r"have 0 evaluations .* --conditions c2 \(12 runs\) or c3 \(2 runs\)"):
        corrupted_runs(runs, "c4")
    assert main(["compare", str(runs_dir), "--robustness"]) == 2


def test_compare_prints_the_robustness_table(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--robustness", str(runs_dir)]) == 0
    out = capsys.readouterr().out
    assert f"{np.mean([mean('stage_ratio', seed) for seed in range(3)]):.1f} ±" in out
    assert "corrupted: top-1 on data digits, 32 pixels, 3 corruptions at severities 1, 3" in out
    assert "not normalised (no mCE); mean over n seeds" in out
    assert main(["compare", "--robustness", str(runs_dir), "--where", "seed == 0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == list(STEPS)
    assert rows[1]["corrupted_top1"] == pytest.approx(mean("enhanced_recipe", 0))
    assert rows[1]["corrupted_top1_low"] is None, "one seed has no interval"
    assert main(["compare", "--robustness", str(runs_dir), "--by", "step"]) == 2


def test_runs_without_evaluations_are_refused(tmp_path: Path) -> None:
    write(tmp_path, record("gelu", 0, 95.0))
    with pytest.raises(RequestError, match="roadmap evaluate RUNS… corruptions=all"):
        corrupted_runs(load_runs(tmp_path))


@pytest.mark.parametrize(("expression", "said"), [("seed < 3", "Means over 3 seeds"), ("seed == 1", "One seed each")])
def test_chart_values_equal_the_table(runs_dir: Path, steps: list[Step], expression: str, said: str) -> None:
    robust, _ = corrupted_runs(load_runs(runs_dir).query(expression))
    by_corruption = robust.means(runs_of_steps(robust.runs, steps))
    table = robust_step_table(robust, steps)
    chart = robustness_chart(table, by_corruption, title="Robustness", subtitle="digits", words=robust.words)
    points = [x for (x,) in drawn(chart, "point", "x")]
    evaluated = table[table["top1"].notna()]
    assert points[: 2 * len(evaluated)] == [*evaluated["top1"], *evaluated["clean_top1"]]
    assert set(evaluated["delta"].dropna()) <= set(points)
    heat = {(row, name): change for row, name, change in drawn(chart, "rect", "y", "x", "color")}
    expected = by_corruption.loc["stage_ratio"] - by_corruption.loc["resnet50"]
    assert {name.replace(" ", "_"): change for (row, name), change in heat.items() if row == 1.5} == pytest.approx(
        dict(expected)
    )
    assert len(heat) == 4 * 3, "a step was not evaluated"
    assert f"{round(expected['fog']):+d}" in texts(chart)
    assert said in words(chart)
    assert "not normalised (no mCE)" in words(chart)


def test_figure_command_draws_robustness(
    runs_dir: Path, conf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "robustness.svg"
    assert (
        main(
            ["figure", str(runs_dir), "path=short", "--config-dir", str(conf), "--kind", "robustness", "-o", str(file)]
        )
        == 0
    )
    assert file.stat().st_size > 10_000
    assert main(["figure", str(runs_dir), "--conditions", "c2", "-o", str(file)]) == 2
    assert "--conditions does not go with --kind roadmap" in capsys.readouterr().err


def made_record(data: str, names: Sequence[str], error: float) -> dict[str, Any]:
    parts = [{"part": f"{name}/{severity}", "top1": 100 - error} for name in names for severity in range(1, 6)]
    seen = {"data": data, "image_size": 224, "crop_ratio": 1.0, "interpolation": "bicubic", "precision": "fp32"}
    return {"key": data, "label": "a network", **seen, "chosen_on_these_images": False, "parts": parts}


def test_tables_have_mce_for_imagenet_c_only() -> None:
    whole = text([made_record("imagenet_c", CORRUPTIONS, 40.0)])
    # 40 % over AlexNet's errors, averaged: 100 * mean(40 / (88.6428, 89.4468, …))
    assert "mCE, normalised by AlexNet's errors: 51.7" in whole
    assert "40.00 %, not normalised (no mCE)" in whole
    assert "AlexNet" not in text([made_record("digits", CORRUPTIONS, 40.0)])
    header, _, first, _ = text([made_record("imagenet_c", CORRUPTIONS, 40.0)] * 2).splitlines()[2:6]
    assert header.split()[-1] == "mCE"
    assert first.split()[-1] == "51.74"


# torchvision's ResNet-50 (76.13 % clean) as a public evaluation on ImageNet-C logged it: top-1, corruption error
RESNET50 = {
    "gaussian_noise": (29.29, 79.77),
    "impulse_noise": (23.81, 82.58),
    "defocus_blur": (38.75, 74.71),
    "glass_blur": (26.79, 88.61),
    "frost": (38.14, 74.84),
    "fog": (45.83, 66.11),
    "brightness": (68.02, 56.64),
    "contrast": (39.06, 71.43),
    "elastic_transform": (45.25, 84.75),
}


def rows(names: tuple[str, ...], top1: float = 60.0, data: str = "imagenet_c", severities: int = 5) -> pd.DataFrame:
    grid = [(name, severity, top1 - severity) for name in names for severity in range(1, severities + 1)]
    return pd.DataFrame(grid, columns=["corruption", "severity", "top1"]).assign(data=data)


def test_resnet50_corruption_errors_equal_the_published_ones() -> None:
    """Nine of the fifteen: those published to two decimals."""
    top1 = pd.DataFrame({severity: {name: top1 for name, (top1, _) in RESNET50.items()} for severity in range(1, 6)})
    published = {name: error for name, (_, error) in RESNET50.items()}
    assert corruption_errors(top1).to_dict() == pytest.approx(published, abs=0.012)


def test_mce_is_the_mean_over_all_corruptions_and_severities() -> None:
    # 43 % over AlexNet's errors, averaged: 100 * mean(43 / (88.6428, 89.4468, …))
    assert mce(rows(CORRUPTIONS)) == pytest.approx(55.62, abs=0.01)
    assert accuracies(rows(CORRUPTIONS)).loc["fog"].tolist() == [59, 58, 57, 56, 55]


@pytest.mark.parametrize(
    "incomplete",
    [
        rows(CORRUPTIONS[:14]),
        rows(CORRUPTIONS, severities=4),
        rows(CORRUPTIONS, data="digits"),
        rows(WITHOUT_PHOTOGRAPHS),
        rows(CORRUPTIONS).drop(index=7),
    ],
    ids=["a corruption", "a severity", "other images", "synthetic frost", "one part"],
)
def test_mce_is_undefined_without_any_of(incomplete: pd.DataFrame) -> None:
    assert mce(incomplete) is None
