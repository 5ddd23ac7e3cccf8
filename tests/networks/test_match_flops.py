"""Designs at equal cost: against a search through every width, and as every command takes them."""

import random
from pathlib import Path

import pytest

from roadmap.attribution.change_subsets import ChangeSubsets
from roadmap.comparison.groups import OwnPath
from roadmap.config.build import build, network_cost
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.networks.flops import cost, count_flops
from roadmap.networks.match_flops import matched, scale
from roadmap.steps.path import Step, compose_path
from roadmap.sweeps.studies import study_of
from roadmap.training.run_command import unique_runs

WANTED = ["match_gmacs=0.003", "match_by=depth"]


ROWS = "step=stage_ratio, stem=patchify, conv=depthwise, bottleneck=inverted, kernel=k7, downsampling=separate"


def path_of(rows: str, folder: Path) -> list[str]:
    """A folder of configs with a path of its own; shorter than the paper's, since each row takes its time."""
    (folder / "path").mkdir()
    (folder / "path" / "short.yaml").write_text(f"name: short\nsteps: [{rows}]\n")
    return [str(folder)]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    return compose_path(["path=short", *WANTED], path_of(ROWS, tmp_path_factory.mktemp("conf")))


@pytest.mark.parametrize("by", ["width", "depth"])
def test_no_other_width_or_depth_is_nearer(by: str, steps: list[Step]) -> None:
    draw = random.Random(0)
    for step in steps:
        design = step.composed.asked
        gmacs = draw.uniform(0.003, 0.005)
        costs = {value: count_flops(scale(design, by, value), 32, 10, False).gmacs for value in range(1, 60)}
        nearest = min(costs, key=lambda value: abs(costs[value] - gmacs))
        assert matched(design, gmacs, by, 32, 10) == scale(design, by, nearest), step.name


@pytest.mark.parametrize("by", ["width", "depth"])
def test_the_cost_that_a_design_has_leaves_it_as_it_is(by: str, steps: list[Step]) -> None:
    for design in (step.composed.asked for step in steps):
        assert matched(design, count_flops(design, 64, 10, False).gmacs, by, 64, 10) == design


def test_the_built_network_costs_what_was_asked_for_at_the_runs_image_size() -> None:
    network = build("regime=tiny", "step=gelu", "match_gmacs=0.4", "image_size=64")
    assert network.design.width == 104
    assert cost(network, 64).gmacs == pytest.approx(0.4, rel=0.02)


def test_what_was_chosen_is_in_values_design_and_words() -> None:
    composed = compose(["regime=tiny", "step=gelu", "match_gmacs=4.5"])
    assert composed.design.width == composed.logged_values["design"]["width"] == 100
    assert composed.asked.width == 96
    assert composed.variant == "gelu match_gmacs=4.5"
    assert composed.choice == "gelu match_gmacs=4.5: width 100, 4.493 GMACs"
    assert compose(["regime=tiny", "step=gelu"]).choice is None
    deeper = compose(["regime=tiny", "step=gelu", "kernel=k3", "match_gmacs=4.5", "match_by=depth"])
    assert deeper.choice == ("gelu kernel=k3 match_gmacs=4.5 match_by=depth: 11 blocks in the third stage, 4.529 GMACs")


def test_the_run_is_the_one_of_the_design_that_was_found() -> None:
    found = compose(["step=gelu", "match_gmacs=0.00225"])
    assert found.design.width == 27
    assert found.experiment().run_id == compose(["step=gelu", "design.width=27"]).experiment().run_id


def test_a_step_that_is_a_width_alone_is_no_change_at_equal_cost(tmp_path: Path) -> None:
    rows = path_of("step=depthwise_conv, step=increase_width, step=inverted_bottleneck", tmp_path)
    steps = compose_path(["path=short", "match_gmacs=0.00225"], rows)
    before, widened, turned = (step.composed for step in steps)
    assert widened.design == before.design
    assert [step.changes for step in steps] == [{}, {}, {"bottleneck": "inverted"}]
    # the two are one run, known by the first's name, and the third's parent
    assert [request.variant for request in unique_runs(steps)[:2]] == [before.variant, turned.variant]
    assert OwnPath.of(steps).parent(turned.variant, []) == before.variant
    assert OwnPath.of(steps).parent(before.variant, []) is None


def test_sets_of_changes_are_matched_as_hydra_composes_them(steps: list[Step]) -> None:
    subsets = ChangeSubsets.of(steps)
    for mask in (0b10110, 0b00011, 0b11111):
        point = subsets.point(mask)
        assert abs(network_cost(point).gmacs - 0.003) < 0.0003
        own = [word for word in point.overrides if word != "path=short"]
        assert point.design == compose(own).design
        assert point.asked == compose([word for word in own if word not in WANTED]).design


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["match_gmacs=-1"], "match_gmacs must be above 0 (got -1)"),
        (["match_gmacs=x"], "match_gmacs must be a number or null (got 'x')"),
        (["match_by=height"], "unknown match_by 'height' (choose depth or width)"),
        (["match_gmacs=1e-7"], "10 %: width 1 costs 4.576e-05 GMACs; choose another match_gmacs or match_by=depth"),
        (["match_gmacs=7e-5"], "width 1 costs 4.576e-05 and width 2 costs 0.0001071 GMACs"),
        (["match_gmacs=0.001", "match_by=depth"], "third-stage depth 1 costs 0.002328 GMACs; choose another"),
        (["match_gmacs=1", "image_size=31"], "image_size must be at least 32 (got 31)"),
        (["match_gmacs=1", "image_size=big"], "image_size must be an integer (got 'big')"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError) as raised:
        compose(overrides)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_designs_of_a_space_are_matched_too_and_what_that_decides_is_not_drawn() -> None:
    asked = compose(["study=random", "study.n=4"]).study
    base = ["step=separate_downsampling", "match_gmacs=0.00225"]
    for key in ("gmacs", "space.width"):
        with pytest.raises(RequestError, match=f"study.{key} does not go with match_gmacs.*; add study.{key}=null"):
            study_of(asked, base)
        asked = asked | {"gmacs": None}
    members = study_of(asked | {"space": asked["space"] | {"width": None}}, base).designs
    assert len({member.composed.design for member in members}) == 4
    assert all(abs(network_cost(member.composed).gmacs - 0.00225) < 0.000225 for member in members)
    assert len({member.composed.design.width for member in members}) > 1
