"""Subsets of changes, compared with what Hydra composes; and ``roadmap attribution`` on the example runs."""

import io
import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roadmap.__main__ import main
from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.config.compose import compose
from roadmap.config.overrides import TOGGLES
from roadmap.errors import RequestError
from roadmap.runs.sweep_plan import write_sweep
from roadmap.steps.path import compose_path
from tests.records import EXAMPLES, with_todays_recipes


@pytest.fixture(scope="module")
def subsets() -> ChangeSubsets:
    return ChangeSubsets.of(compose_path(["regime=nano_base", "data=digits"]))


def check_against_hydra(subsets: ChangeSubsets, mask: int) -> None:
    point = subsets.point(mask)
    composed = compose(point.overrides, subsets.config_dirs)
    assert composed.values == point.values
    assert composed.variant == point.variant
    assert (composed.design, composed.recipe) == (point.design, point.recipe)
    assert [composed.choices[group] for group in TOGGLES] == [point.choices[group] for group in TOGGLES]
    assert composed.experiment().run_id == point.experiment().run_id


def test_sets_are_what_hydra_composes(subsets: ChangeSubsets) -> None:
    masks = subsets.masks()
    for mask in [0, subsets.full, *random.Random(5).sample(masks, 4)]:
        check_against_hydra(subsets, mask)


def test_a_quarter_of_the_sets_is_refused_by_the_designs_own_rule(subsets: ChangeSubsets) -> None:
    masks = subsets.masks()
    assert len(subsets.changes) == 13
    assert len(masks) == 2**13 * 3 // 4
    lone = subsets.mask(["move_up_depthwise"])
    assert lone not in masks
    with pytest.raises(RequestError, match=r"^move_up_depthwise: depthwise_position=first does not go with conv=dense"):
        subsets.point(lone)


def test_beginnings_of_the_path_are_its_steps(subsets: ChangeSubsets) -> None:
    for length, step in enumerate(subsets.steps):
        point = subsets.point(2**length - 1)
        assert point.variant == step.name
        assert point.experiment().run_id == step.composed.experiment().run_id


def test_sets_are_named_from_the_nearest_step(subsets: ChangeSubsets) -> None:
    assert subsets.point(subsets.full - subsets.mask(["layer_norm"])).variant == "separate_downsampling norm=batch"
    assert subsets.point(subsets.mask(["gelu"])).variant == "resnet50 activation=gelu"


def test_some_changes_with_the_others_or_without(subsets: ChangeSubsets) -> None:
    names = ["gelu", "layer_norm"]
    within, without = (ChangeSubsets.of(subsets.steps, names, keep_others=keep) for keep in (True, False))
    assert within.point(within.full).variant == "separate_downsampling"
    assert within.point(0).variant == "separate_downsampling activation=relu norm=batch"
    assert without.point(0).variant == "resnet50"
    with pytest.raises(RequestError, match=r"unknown change 'glu' in study.changes \(choose enhanced_recipe, "):
        ChangeSubsets.of(subsets.steps, ["glu"])


def subsets_of(folder: Path, rows: str, *overrides: str) -> ChangeSubsets:
    """The subsets of a path of the user's own."""
    (folder / "path").mkdir()
    (folder / "path" / "mine.yaml").write_text(f"name: mine\nsteps:{rows}")
    steps = compose_path(["path=mine", *overrides], [str(folder)])
    return ChangeSubsets.of(steps, config_dirs=[str(folder)])


def test_a_change_that_the_command_line_has_taken_away_is_none(tmp_path: Path) -> None:
    rows = "\n  - step=resnet50\n  - conv=depthwise\n  - kernel=k7\n  - activation=gelu\n"
    subsets = subsets_of(tmp_path, rows, "kernel=k5")
    assert [change.name for change in subsets.changes] == ["conv=depthwise", "activation=gelu"]
    assert {subsets.point(mask).design.kernel for mask in range(4)} == {5}
    check_against_hydra(subsets, 2)


def test_a_path_of_the_users_own(tmp_path: Path) -> None:
    rows = "\n  - step=stage_ratio\n  - [conv=depthwise, kernel=k7]\n  - design.width=24\n"
    subsets = subsets_of(tmp_path, f"{rows}  - {{change: norm=layer, adopted: false}}\n  - activation=gelu\n")
    assert subsets.masks() == list(range(8))
    for mask in (1, 2, 4, 7):
        check_against_hydra(subsets, mask)


def test_sizes_reach_recipes_so_hydra_composes_those_sets(tmp_path: Path) -> None:
    rows = "\n  - step=resnet50\n  - size=s\n  - recipe=enhanced\n"
    subsets = subsets_of(tmp_path, rows, "data=imagenet", "data.root=images", "regime=tiny")
    rates = {mask: subsets.point(mask).recipe.network.stochastic_depth for mask in subsets.masks()}
    assert rates == {0: 0.0, 1: 0.0, 2: 0.1, 3: 0.4}
    check_against_hydra(subsets, 2)


# three steps of the paper's path, which compose in a fifth of the time
PATH = """name: short
steps:
  - {change: step=kernel_7, label: start}
  - {change: step=gelu, label: GELU, section: micro}
  - {change: step=fewer_activations, label: fewer activations, section: micro}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example runs of three steps, and a sweep's plan of the one order that they are."""
    folder = tmp_path_factory.mktemp("short")
    steps = ("kernel_7", "gelu", "fewer_activations")
    with_todays_recipes([run for step in steps for run in EXAMPLES.glob(f"nano-digits-{step}-s*")], folder)
    (folder / "conf" / "path").mkdir(parents=True)
    (folder / "conf" / "path" / "short.yaml").write_text(PATH)
    plan(folder, "ours", ["gelu", "fewer_activations"])
    plan(folder, "other", ["gelu"])
    return folder


def plan(folder: Path, name: str, changes: list[str]) -> None:
    study: dict[str, Any] = {
        "name": "orders",
        "changes": changes,
        "keep_others": False,
        "orders": "random",
        "n": 1,
        "seed": 0,
    }
    header = {"name": name, "study": study, "regime": "nano", "data": "digits", "path": "short", "seeds": [0, 1, 2]}
    write_sweep(folder, header | {"planned": "", "runs": 0, "changes": changes, "orders": [changes]}, [])


def path(runs: Path) -> list[str]:
    return ["path=short", "--config-dir", str(runs / "conf")]


def test_costs_alone_take_no_run(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribution", "path=short", "regime=tiny", "--config-dir", str(runs / "conf"), "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [row["change"] for row in read["changes"]] == ["gelu", "fewer_activations"]
    assert read["changes"][0]["gmacs_shapley"] == pytest.approx(0)
    assert "4.146 without these changes" in read["notes"][0]


def test_runs_make_a_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attribution", str(runs), *path(runs)]) == 0
    printed = capsys.readouterr().out
    # the gap of the two steps in the README, its interval by Welch's test with the variances of these sets
    assert "+0.94 +0.67 to +1.22 3" in next(
        " ".join(line.split()) for line in printed.splitlines() if line.startswith("gelu")
    )
    assert "Shapley: mean over 1 of 2 orders, from 9 runs" in printed


def test_runs_make_csv_and_a_figure(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "attribution.svg"
    assert main(["attribution", str(runs), *path(runs), "--csv", "-o", str(figure)]) == 0
    assert pd.read_csv(io.StringIO(capsys.readouterr().out))["aoi"].iloc[0] == pytest.approx(0.944, abs=0.001)
    words = " ".join(" ".join(ET.parse(figure).getroot().itertext()).split())
    assert "What each change is worth, from nano ResNet to nano ConvNeXt" in words
    assert "add-one-in (mean over 3 seeds)" in words


def test_figure_draws_interactions(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "interactions.svg"
    assert main(["figure", "--kind", "interactions", str(runs), *path(runs), "-o", str(file)]) == 0
    words = " ".join(" ".join(ET.parse(file).getroot().itertext()).split())
    assert "How changes depend on each other" in words
    assert "above the diagonal: MFLOPs (MACs)" in words


def test_some_of_the_changes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["study=orders", "study.changes=[gelu]"]
    assert main(["attribution", str(runs), *path(runs), *chosen]) == 0
    assert "mean over all orders, from 6 runs; they sum to +0.94" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["step=gelu"], "step= and seed= do not go with an attribution"),
        (["study=leave_one_out"], "study=leave_one_out does not go with an attribution"),
        (["study=orders", "study.changes=[glu]"], "unknown change 'glu' in study.changes"),
        (["-o", "a.png"], "--where and --output need runs"),
        (["RUNS", "-o", "a.bmp"], "cannot draw a figure as '.bmp'"),
        (["RUNS", "regime=tiny"], "none of these runs is of regime tiny"),
        (
            ["RUNS", "--where", "step == 'gelu'", "path=paper", "regime=nano_base"],
            "none of these runs is of regime nano_base",
        ),
    ],
)
def test_wrong_requests_are_one_sentence(
    runs: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(runs) if word == "RUNS" else word for word in words]
    assert main(["attribution", *path(runs), *words]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
