"""The path: each step one change, as Hydra composes it."""

from pathlib import Path

import pytest

from roadmap.config import config_dir
from roadmap.config.compose import compose
from roadmap.errors import RequestError
from roadmap.paper.published import SCALED_FROM, TABLES, published_steps
from roadmap.steps.path import compose_path
from tests.records import steps_of

# The paper's changes in their order: step -> what it changes of the adopted step before it.
CHANGES = {
    "resnet50": {},
    "enhanced_recipe": {"recipe": "enhanced"},
    "stage_ratio": {"stage_ratio": "swin"},
    "patchify_stem": {"stem": "patchify"},
    "depthwise_conv": {"conv": "depthwise"},
    "increase_width": {"width": "swin"},
    "inverted_bottleneck": {"bottleneck": "inverted"},
    "move_up_depthwise": {"depthwise_position": "first"},
    "kernel_5": {"kernel": "k5"},
    "kernel_7": {"kernel": "k7"},
    "kernel_9": {"kernel": "k9"},
    "kernel_11": {"kernel": "k11"},
    "gelu": {"activation": "gelu"},
    "fewer_activations": {"activations": "one_per_block"},
    "fewer_norms": {"norms": "one_per_block"},
    "layer_norm": {"norm": "layer"},
    "separate_downsampling": {"downsampling": "separate"},
}


@pytest.mark.parametrize("regime", ["nano", "nano_base", "cifar", "tiny", "base"])
def test_every_step_is_the_adopted_one_before_it_plus_one_change(regime: str) -> None:
    steps = steps_of(regime)
    expected = {name: dict(changes) for name, changes in CHANGES.items()}
    if "base" in regime:  # Table 11: stage ratio and increase width
        expected["stage_ratio"]["width"] = "between"
    assert {step.name: step.changes for step in steps} == expected
    assert [step.name for step in steps if not step.adopted] == ["kernel_5", "kernel_9", "kernel_11"]
    parents = {step.name: step.parent for step in steps}
    assert parents["kernel_9"] == parents["kernel_11"] == parents["gelu"] == "kernel_7"
    assert parents["kernel_7"] == "move_up_depthwise"


@pytest.mark.parametrize(("small", "large"), SCALED_FROM.items())
def test_the_nano_regimes_have_a_third_of_the_blocks_and_a_quarter_of_the_width(small: str, large: str) -> None:
    for mine, theirs in zip(steps_of(small), steps_of(large), strict=True):
        design, published = mine.composed.design, theirs.composed.design
        assert design.depths == tuple(blocks // 3 for blocks in published.depths)
        assert design.width * 4 == published.width


def test_the_order_is_the_papers() -> None:
    for regime in TABLES:
        assert [name for name in published_steps(regime) if name != "swin"] == list(CHANGES)


def test_every_step_file_is_on_the_path() -> None:
    assert {file.stem for file in (config_dir() / "step").glob("*.yaml")} == set(CHANGES)


def test_toggles_win_on_every_row() -> None:
    steps = compose_path(["norm=layer", 'path.steps=[{change: "step=gelu"},{change: "step=layer_norm"}]'])
    assert {step.composed.design.norm for step in steps} == {"layer"}
    assert steps[1].changes == {"activations": "one_per_block", "norms": "one_per_block"}


def test_a_path_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text(
        "name: mine\n"
        "steps:\n"
        "  - {change: recipe=enhanced, name: start, label: Start}\n"
        "  - norm=layer\n"
        "  - {change: activation=gelu, adopted: false}\n"
        "  - {change: [conv=depthwise, kernel=k7], section: both}\n"
    )
    steps = compose_path(["path=mine", "regime=tiny"], [str(tmp_path)])
    assert [step.name for step in steps] == ["start", "norm=layer", "activation=gelu", "conv=depthwise+kernel=k7"]
    assert steps[3].changes == {"conv": "depthwise", "kernel": "k7"}
    assert steps[3].parent == "norm=layer"
    assert steps[3].composed.design == compose(["regime=tiny", "norm=layer", "conv=depthwise", "kernel=k7"]).design


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[depthwise_position=first]", "step depthwise_position=first: depthwise_position=first does not go with"),
        ("[norm=gn]", "step norm=gn: unknown norm 'gn' (choose batch or layer)"),
        ("[norm=layer, norm=layer]", "path mine has two steps named 'norm=layer'"),
        ("[{chnge: norm=layer}]", "unknown key path.steps[0].chnge (choose change, name"),
        ("[]", "path mine has no steps"),
    ],
)
def test_bad_paths_get_one_sentence(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "mine.yaml").write_text(f"name: mine\nsteps: {rows}\n")
    with pytest.raises(RequestError) as error:
        compose_path(["path=mine"], [str(tmp_path)])
    assert str(error.value).startswith(message)
