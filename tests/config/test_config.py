"""Composition: toggles, records, messages, and what a composed config may contain."""

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose as hydra_compose
from omegaconf import DictConfig, OmegaConf, flag_override

from roadmap.config import trust
from roadmap.config.compose import compose
from roadmap.config.hydra_errors import hydra_errors, initialized
from roadmap.errors import RequestError
from roadmap.schema.design import AXES, Design

CONVNEXT_T = Design(
    depths=(3, 3, 9, 3),
    width=96,
    stem="patchify",
    conv="depthwise",
    bottleneck="inverted",
    depthwise_position="first",
    kernel=7,
    activation="gelu",
    activations="one_per_block",
    norms="one_per_block",
    norm="layer",
    downsampling="separate",
)


def test_the_last_step_is_convnext_and_a_toggle_takes_one_change_back() -> None:
    assert compose(["regime=tiny", "step=separate_downsampling"]).design == CONVNEXT_T
    toggled = compose(["regime=tiny", "step=separate_downsampling", "norm=batch"]).design
    assert toggled.to_dict() == CONVNEXT_T.to_dict() | {"norm": "batch"}


def test_toggles_win_over_the_step_whatever_their_order() -> None:
    assert compose(["kernel=k3", "step=gelu"]).design == compose(["step=gelu", "kernel=k3"]).design
    assert compose(["kernel=k3", "step=gelu"]).design.kernel == 3


def test_all_toggles_by_hand_are_the_last_step() -> None:
    options = ("swin", "patchify", "depthwise", "swin", "inverted", "first", "k7", "gelu")
    options += ("one_per_block", "one_per_block", "layer", "separate", "pyramid", "p4")
    toggles = [f"{axis}={option}" for axis, option in zip(AXES, options, strict=True)]
    by_hand = compose([*toggles, "recipe=enhanced", "seed=1"]).experiment()
    by_step = compose(["step=separate_downsampling", "seed=1"]).experiment()
    assert by_hand.design == by_step.design
    assert by_hand.run_id == by_step.run_id


@pytest.mark.parametrize(
    ("overrides", "variant"),
    [
        (["step=gelu"], "gelu"),
        (["step=gelu", "epochs=2", "seed=5", "regime=tiny"], "gelu"),
        (["step=gelu", "kernel=k7"], "gelu"),
        (["step=gelu", "kernel=k3"], "gelu kernel=k3"),
        (["step=gelu", "recipe=original", "norm=layer"], "gelu norm=layer recipe=original"),
        (["step=gelu", "design.width=20"], "gelu design.width=20"),
    ],
)
def test_a_variant_is_named_by_what_changed_in_words(overrides: list[str], variant: str) -> None:
    assert compose(overrides).variant == variant


@pytest.mark.parametrize(
    ("override", "defines"),
    [
        *((word, True) for word in ("seed=1", "epochs=7", "batch_size=32", "image_size=48", "norm=layer")),
        *((word, True) for word in ("recipe.optimizer.lr=0.2", "data.holdout=0.2", "recipe.batch_norm_images=32")),
        *((word, False) for word in ("device=cpu", "num_workers=7", "runs_dir=elsewhere", "compile=true")),
        *((word, False) for word in ("channels_last=false", "resume=never", "micro_batch_size=64")),
        ("recipe.batch_norm_images=128", False),  # more than the batch
    ],
)
def test_only_what_defines_the_result_changes_the_run_id(override: str, defines: bool) -> None:
    assert (compose([override]).experiment().run_id != compose([]).experiment().run_id) == defines


def test_the_precision_of_the_blocks_sums_defines_a_run_where_it_has_an_effect() -> None:
    for words, defines in (("bf16 recipe=enhanced", True), ("bf16 recipe=original", False), ("fp32", False)):
        base = ["step=separate_downsampling", *f"precision={words}".split()]
        fp32, autocast = (
            compose([*base, f"recipe.network.residual={residual}"]).experiment() for residual in ("fp32", "autocast")
        )
        assert "residual" not in fp32.definition["recipe"]["network"]
        assert (fp32.run_id != autocast.run_id) == defines


ON_IMAGENET = ["regime=tiny", "data=imagenet", "data.root=x"]


@pytest.mark.parametrize(
    ("ceiling", "processes", "first", "others"),
    [
        ("null", 1, 256, 4096),
        ("null", 8, 32, 512),
        ("128", 1, 128, 128),
        ("128", 8, 32, 128),
        ("300", 1, 256, 256),
        ("300", 2, 128, 256),
    ],
)
def test_one_ceiling_serves_all_batches(ceiling: str, processes: int, first: int, others: int) -> None:
    """The largest part of whole groups: of 32 images in the first step's batch of 256, of 128 in 4,096."""
    for step, micro in (("resnet50", first), ("gelu", others), ("separate_downsampling", others)):
        request = [*ON_IMAGENET, f"step={step}", f"micro_batch_size={ceiling}"]
        assert compose(request).experiment().micro_batch_size(processes) == micro


def test_without_batch_norm_and_mixing_any_part_will_do() -> None:
    request = [*ON_IMAGENET, "step=separate_downsampling", "recipe=finetune_22k_224", "micro_batch_size=50"]
    assert compose(request).experiment().micro_batch_size(4) == 32
    with pytest.raises(RequestError, match="batch_size=512 must be a multiple of the number of processes, 3"):
        compose(request).experiment().micro_batch_size(3)
    with pytest.raises(
        RequestError,
        match=r"^16 processes cannot share batch_size=256 in .*=32 \(their number must be 1, 2, 4 or 8, or",
    ):
        compose([*ON_IMAGENET, "step=resnet50"]).experiment().micro_batch_size(16)
    with pytest.raises(
        RequestError, match=r"micro_batch_size=64 must be at least recipe.batch_norm_images=128, or null"
    ):
        compose([*ON_IMAGENET, "step=gelu", "micro_batch_size=64"]).experiment()


def test_data_scales_the_recipe_and_the_command_line_has_the_last_word() -> None:
    paper = compose(["recipe=enhanced", "data=imagenet", "data.root=x"]).recipe
    small = compose(["recipe=enhanced", "data=digits"]).recipe
    assert (paper.optimizer.lr, paper.schedule.epochs, paper.batch_size) == (4e-3, 300, 4096)
    assert small.schedule.epochs < 100
    for ingredient in ("randaugment", "mixup", "cutmix", "random_erasing"):
        assert getattr(small.augment, ingredient)
        assert getattr(paper.augment, ingredient)
    assert small.network.layer_scale == paper.network.layer_scale
    assert compose(["recipe=enhanced", "recipe.optimizer.lr=0.5"]).recipe.optimizer.lr == 0.5
    # a setting of the user's own that others are made of
    assert compose(["+rate=0.5", "recipe.optimizer.lr=${rate}"]).recipe.optimizer.lr == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("norm=gn", "unknown norm 'gn' (choose batch or layer)"),
        ("step=nope", "unknown step 'nope' (choose depthwise_conv, enhanced_recipe,"),
        ("kernel=7", "unknown kernel '7' (choose k3, k5, k7, k9 or k11)"),
        ("size=m", "unknown size 'm' (choose b, iso_b, iso_l, iso_s, l, s, t or xl)"),
        ("experiment=cifar", "unknown experiment 'cifar' (choose cifar100, imagenet100_64, imagenet_base or"),
        ("norm=[batch,layer]", "norm= takes one option; write norm=NAME"),
        ("epoch=3", "unknown setting 'epoch' (choose epochs)"),
        ("+epoch=3", "'+epoch=3' adds a setting that nothing reads; did you mean epochs?"),
        ("++a.b=3", "'++a.b=3' adds a setting that nothing reads; `roadmap train --cfg job` shows every setting"),
        (
            "recipe.foo=1",
            "unknown setting 'recipe.foo' (choose name, batch_size, batch_norm_images, image_size, optimizer,",
        ),
        ("recipe.foo.bar=1", "unknown setting 'recipe.foo.bar' (choose name, batch_size,"),
        ("design=7", "design must be a mapping (got 7)"),
        ("+regime.y=1", "unknown key regime.y (choose name,"),
        ("hydra.run.dir=x", "hydra.run.dir cannot be changed"),
        ("seeds.x=1", "invalid config: invalid literal for int() with base 10: 'x'"),
        ("+seeds.a=1", "invalid config: Error merging override +seeds.a=1: Index 'a' (str) is not an int"),
        ("epochs=ten", "epochs must be an integer (got 'ten')"),
        ("image_size=16", "image_size must be at least 32 (got 16)"),
        ("compile=on", "unknown compile 'on' (choose auto, true or false)"),
        ("compile=1", "compile must be true or false or auto (got 1)"),
        ("design.kernel=4", "design.kernel must be odd (got 4)"),
        ("design.depths=[1,2]", "design.depths must be a list of length 4 (got [1, 2])"),
        ("design.depths=[1,1,1,1025]", "design.depths[3] must be at most 1024 (got 1025)"),
        ("precision=fp8", "unknown precision 'fp8' (choose bf16, fp16 or fp32)"),
        ("recipe.optimizer.lr=-1", "recipe.optimizer.lr must be above 0 (got -1)"),
        ("recipe.label_smoothing=1", "recipe.label_smoothing must be below 1 (got 1)"),
        ("recipe.augment.crop_scale=[0.1,3]", "recipe.augment.crop_scale[1] must be at most 1 (got 3)"),
        ("recipe.augment.crop_aspect=[2,1]", "recipe.augment.crop_aspect must be [least, most] (got [2, 1])"),
        (
            "micro_batch_size=7",
            "micro_batch_size=7 must be at least recipe.batch_norm_images=64, or null: BN normalises",
        ),
        (
            "batch_size=100",
            "batch_size=100 must be a multiple of recipe.batch_norm_images=64: BN normalises, and MixUp",
        ),
        ("data=imagefolder", "data.root is not set (add data.root=…)"),
        ("model=timm", "name is not set (add name=…)"),
        (
            "pretrained=runs/a=b",
            "invalid override 'pretrained=runs/a=b' (quote a value with = in it",
        ),
        ("+data.classes=5", "data.classes does not go with data=digits, which has no image files"),
        ("recipe=isotropic", "recipe isotropic has no values for a network of size nano (choose size s, b or l)"),
    ],
)
def test_bad_requests_get_one_sentence(override: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        compose([override]).experiment()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert error.value.exit_status == 2


def test_a_design_made_in_python_is_checked_as_well() -> None:
    with pytest.raises(RequestError, match=r"unknown design\.norm 'gn' \(choose batch or layer\)"):
        Design.from_mapping(CONVNEXT_T.to_dict() | {"norm": "gn"})
    with pytest.raises(RequestError, match=r"unknown key design\.foo \(choose depths, stem"):
        Design.from_mapping(CONVNEXT_T.to_dict() | {"foo": 1})
    with pytest.raises(RequestError, match=r"design\.norm is missing"):
        Design.from_mapping({k: v for k, v in CONVNEXT_T.to_dict().items() if k != "norm"})
    assert Design.from_mapping(CONVNEXT_T.to_dict()) == CONVNEXT_T
    assert len({CONVNEXT_T, Design.from_mapping(CONVNEXT_T.to_dict())}) == 1


def test_an_option_that_misses_its_header_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel" / "k13.yaml").write_text("# mine\n# @package design\nkernel: 13\n")
    with pytest.raises(RequestError, match=r"kernel/k13.yaml sets nothing of the design: .* '# @package design'"):
        compose(["kernel=k13"], [str(tmp_path)])


def test_config_files_of_the_users_own(tmp_path: Path) -> None:
    folder = tmp_path / "my own, conf"
    (folder / "width").mkdir(parents=True)
    (folder / "width" / "wide.yaml").write_text("# @package design\nwidth: 40\n")
    assert compose(["width=wide"], [str(folder)]).design.width == 40
    (folder / "width" / "wide.yaml").write_text("# @package design\nwidth: 48\n")
    assert compose(["width=wide"], [str(folder)]).design.width == 48
    with pytest.raises(RequestError, match="is not a folder"):
        compose([], [str(tmp_path / "nowhere")])


CALL = {"_target_": "io.open"}


@pytest.fixture(scope="module")
def whole() -> DictConfig:
    """A config with Hydra's own node, as its loader gives it."""
    with hydra_errors([]), initialized():
        return hydra_compose("config", return_hydra_config=True)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"extra": {"deep": [CALL]}}, "extra.deep.0._target_=io.open"),
        ({"hydra": {"launcher": {"_target_": "${extra}"}}, "extra": "io.open"}, "hydra.launcher._target_=${extra}"),
        ({"hydra": {"sweeper": {"_target_": "hydra_plugins.other.Sweeper"}}}, "hydra.sweeper._target_=hydra_plugins."),
        ({"hydra": {"callbacks": {"x": CALL}}}, "hydra.callbacks.x._target_=io.open"),
        ({"extra": "${oc.create:'{_target_: io.open}'}"}, "extra=${oc.create:"),
        ({"extra": "${oc.decode:${text}}", "text": "{_target_: io.open}"}, "extra=${oc.decode:"),
        ({"extra": "${oc.${verb}:x}", "verb": "create"}, "extra=${oc.${verb}"),
        ({"extra": "${oc.select:nowhere,{_target_: io.open}}"}, "extra=${oc.select:"),
        ({"hydra": {"job_logging": {"filters": {"x": {"()": "io.open"}}}}}, "hydra.job_logging cannot be changed"),
        ({"hydra": {"hydra_logging": "${extra}"}, "extra": {}}, "hydra.hydra_logging cannot be changed"),
        ({"hydra": {"job": {"env_set": {"PATH": "/evil"}}}}, "hydra.job.env_set cannot be changed"),
        ({"hydra": {"output_subdir": "../elsewhere"}}, "hydra.output_subdir cannot be changed"),
        ({"hydra": {"run": {"dir": "elsewhere"}}}, "hydra.run.dir cannot be changed"),
    ],
)
def test_of_a_composed_config_nothing_is_called(values: dict[str, Any], place: str, whole: DictConfig) -> None:
    changed = whole.copy()
    with flag_override(changed, ["struct", "readonly"], False):
        for key, value in values.items():
            OmegaConf.update(changed, key, value, merge=True, force_add=True)
    trust.check_trusted(whole)
    with pytest.raises(RequestError, match=f"^{re.escape(place)}"):
        trust.check_trusted(changed)
