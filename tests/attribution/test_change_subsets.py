"""Sets of changes: each is what Hydra composes from its overrides, by another way."""

import random
from pathlib import Path

import pytest

from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.config.compose import compose
from roadmap.config.overrides import TOGGLES
from roadmap.errors import RequestError
from roadmap.steps.path import compose_path


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
