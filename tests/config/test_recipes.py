"""Recipes against the published numbers, written by hand; and the stated cost of each experiment."""

import math
import re
from functools import cache

import pytest

from roadmap.config import config_dir
from roadmap.config.compose import Composed, compose
from roadmap.networks.flops import count_flops
from roadmap.networks.network import Network
from roadmap.steps.path import Step, compose_path
from roadmap.training.optim import build_optimizer, build_schedule
from tests.records import summary_of

# Tables 5 and 6 of arXiv:2201.03545 and the authors' TRAINING.md: stochastic depth by size
DROP = {
    "enhanced": {"nano": 0.0, "t": 0.1, "s": 0.4, "b": 0.5, "l": 0.5, "xl": 0.5},
    "enhanced_ema": {"nano": 0.0, "t": 0.1, "s": 0.4, "b": 0.5, "l": 0.5, "xl": 0.5},
    "isotropic": {"s": 0.1, "b": 0.2, "l": 0.5},
    "pretrain_22k": {"nano": 0.0, "t": 0.0, "s": 0.0, "b": 0.1, "l": 0.1, "xl": 0.2},
    "finetune_22k_224": {"nano": 0.0, "t": 0.0, "s": 0.1, "b": 0.2, "l": 0.3, "xl": 0.4},
    "finetune_22k_384": {"nano": 0.0, "t": 0.0, "s": 0.1, "b": 0.2, "l": 0.3, "xl": 0.4},
    "finetune_1k_384": {"b": 0.8, "l": 0.95},
}
CASES = [(recipe, size) for recipe, sizes in DROP.items() for size in sizes]
# batch, rate, weight decay, epochs, warm-up, image size, evaluation crop
NUMBERS = {
    "enhanced": (4096, 4e-3, 0.05, 300, 20, 224, 0.875),
    "enhanced_ema": (4096, 4e-3, 0.05, 300, 20, 224, 0.875),
    "isotropic": (4096, 4e-3, 0.05, 300, 50, 224, 0.875),
    "pretrain_22k": (4096, 4e-3, 0.05, 90, 5, 224, 0.875),
    "finetune_22k_224": (512, 5e-5, 1e-8, 30, 0, 224, 0.875),
    "finetune_22k_384": (512, 5e-5, 1e-8, 30, 0, 384, 1.0),
    "finetune_1k_384": (512, 5e-5, 1e-8, 30, 0, 384, 1.0),
}
EMA = {("enhanced_ema", None): 0.9999, ("isotropic", None): 0.9999}
EMA |= {("finetune_22k_224", "xl"): 0.9999, ("finetune_22k_384", "xl"): 0.9999}
LAYER_DECAY = {"finetune_22k_224": 0.8, "finetune_22k_384": 0.8, "finetune_1k_384": 0.7}
DEPTHS = {"nano": (1, 1, 3, 1), "t": (3, 3, 9, 3)} | dict.fromkeys(("s", "b", "l", "xl"), (3, 3, 27, 3))


@cache
def composed(recipe: str, size: str) -> Composed:
    """A ConvNeXt with a recipe at full size."""
    which = "regime=nano" if size == "nano" else f"size={size}"
    return compose(["step=separate_downsampling", which, f"recipe={recipe}", "data=imagenet", "data.root=x"])


@cache
def network(recipe: str, size: str) -> Network:
    """As deep as asked for and narrow: groups of parameters and drop rates know nothing of width."""
    request = composed(recipe, size)
    return Network(request.design.replace(width=16), request.recipe.network, num_classes=1000)


def test_every_recipe_file_is_tested_and_names_its_source() -> None:
    texts = {file.stem: file.read_text() for file in (config_dir() / "recipe").glob("*.yaml")}
    assert set(texts) == {"original", *NUMBERS}
    assert all("of arXiv:2201.03545" in texts[name] for name in NUMBERS)
    assert "ema_decay: null  # off on the roadmap" in texts["enhanced"]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_published_numbers(name: str, size: str) -> None:
    request = composed(name, size)
    recipe, experiment = request.recipe, request.experiment()
    batch, lr, weight_decay, epochs, warmup, image_size, crop = NUMBERS[name]
    # nano is no size of the paper: 32 pixels unless the recipe is for others
    image_size = 32 if size == "nano" and image_size == 224 else image_size
    assert (experiment.batch_size, experiment.epochs, experiment.image_size) == (batch, epochs, image_size)
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.betas) == ("adamw", lr, (0.9, 0.999))
    assert (recipe.optimizer.weight_decay, recipe.optimizer.decay) == (weight_decay, "matrices")
    assert (recipe.optimizer.layer_decay, recipe.optimizer.layer_group) == (LAYER_DECAY.get(name), 3)
    assert (recipe.schedule.name, recipe.schedule.warmup_epochs, recipe.schedule.min_lr) == ("cosine", warmup, 1e-6)
    augment, tuned = recipe.augment, name in LAYER_DECAY
    assert (augment.mixup, augment.cutmix) == ((None, None) if tuned else (0.8, 1.0))
    assert augment.randaugment is not None
    assert (augment.randaugment.ops, augment.randaugment.magnitude, augment.randaugment.magnitude_std) == (2, 9, 0.5)
    assert (augment.randaugment.operations, augment.randaugment.probability) == ("timm", 0.5)
    assert (augment.random_erasing, recipe.label_smoothing, augment.horizontal_flip) == (0.25, 0.1, 0.5)
    assert (augment.crop_scale, augment.interpolation) == ((0.08, 1.0), "bicubic")
    assert (recipe.eval_crop_ratio, recipe.eval_resize) == (crop, "squeeze" if image_size == 384 else "shorter_side")
    assert recipe.ema_decay == EMA.get((name, None), EMA.get((name, size)))
    scale = None if (name, size) in {("isotropic", "s"), ("isotropic", "b")} else 1e-6
    assert (recipe.network.layer_scale, recipe.network.stochastic_depth) == (scale, DROP[name][size])
    assert recipe.network.head_init_scale == (0.001 if tuned else 1.0)


def test_older_definitions_are_those_without_timms_operations_and_squeezed_images() -> None:
    """Older runs had torchvision's operations and neither key, so they equal no run with timm's."""
    older = summary_of("gelu")["definition"]["recipe"]
    assert compose(["step=gelu", "data=digits"]).experiment().definition["recipe"]["augment"] == older["augment"]
    words = ["recipe=enhanced", "data=cifar10", "data.root=x"]
    timm, torchvision, squeezed = (
        compose([*words, *more]).experiment().definition["recipe"]
        for more in ([], ["recipe.augment.randaugment.operations=torchvision"], ["recipe.eval_resize=squeeze"])
    )
    assert timm["augment"]["randaugment"].pop("operations") == "timm"
    assert timm == torchvision
    assert "operations" not in older["augment"]["randaugment"]
    assert squeezed.pop("eval_resize") == "squeeze"
    assert "eval_resize" not in timm


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("stem.conv.weight", 0),
        ("stem.norm.bias", 0),
        ("stages.0.2.branch.pw_in.weight", 1),
        ("downsampling.1.conv.weight", 2),
        ("stages.1.0.scale.weight", 2),
        ("downsampling.2.norm.weight", 3),
        ("stages.2.2.branch.spatial.bias", 3),
        ("stages.2.3.branch.spatial.weight", 4),
        ("stages.2.26.branch.pw_out.weight", 11),
        ("downsampling.3.conv.bias", 12),
        ("stages.3.2.branch.norm.weight", 12),
        ("norm.weight", 13),
        ("head.weight", 13),
    ],
)
def test_the_official_codes_twelve_groups(parameter: str, layer: int) -> None:
    """As ``optim_factory.py`` numbers the parts of a ConvNeXt with the depths (3, 3, 27, 3)."""
    built = network("finetune_22k_224", "b")
    optimizer = build_optimizer(built, composed("finetune_22k_224", "b").recipe.optimizer)
    wanted = dict(built.named_parameters())[parameter]
    (group,) = (group for group in optimizer.param_groups if any(p is wanted for p in group["params"]))
    assert group["lr"] == pytest.approx(5e-5 * 0.8 ** (13 - layer))


def test_a_layer_keeps_its_share_of_the_rate_through_the_whole_schedule() -> None:
    """At the end too, where the head's rate is 1e-6: the official code scales what the schedule says."""
    recipe = composed("finetune_22k_224", "nano").recipe
    optimizer = build_optimizer(network("finetune_22k_224", "nano"), recipe.optimizer)
    schedule = build_schedule(optimizer, recipe.schedule, recipe.optimizer.lr, updates=30)
    # one block in three of the stages, three in the other: layers 0 to 5
    for update in range(31):
        head = 1e-6 + (5e-5 - 1e-6) * (1 + math.cos(math.pi * update / 30)) / 2
        stem, *_, last = (group["lr"] for group in optimizer.param_groups)
        assert (stem, last) == pytest.approx((head * 0.8**5, head))
        assert max(schedule.get_last_lr()) == pytest.approx(head)
        optimizer.step()
        schedule.step()


def test_a_small_data_set_scales_what_the_recipe_leaves_to_the_enhanced_one() -> None:
    """Batch and epochs are the recipe's own and want an override; crops and magnitudes are those of the data."""
    small = compose(["recipe=finetune_22k_224", "data=digits", "batch_size=64", "epochs=2"]).experiment()
    assert (small.batch_size, small.epochs, small.recipe.optimizer.lr) == (64, 2, 5e-5)
    assert small.recipe.augment.horizontal_flip == 0.0
    assert small.recipe.augment.mixup is None


def test_a_size_is_a_toggle_over_any_step() -> None:
    request = compose(["step=gelu", "size=s", "kernel=k3"])
    assert request.variant == "gelu kernel=k3 size=s"
    assert (request.design.depths, request.design.width) == ((3, 3, 27, 3), 96)
    assert (request.regime.name, request.settings.image_size) == ("tiny", 224)
    assert compose(["size=xl"]).regime.name == "base"
    # a regime on the command line has the last word: 32 pixels
    assert compose(["size=t", "regime=nano"]).settings.image_size == 32


IMAGENET = 1_281_167
# regime, seeds, epochs of the first step and of the others, image size, training images
EXPERIMENTS = {
    "imagenet_tiny": ("tiny", [0, 1, 2], (90, 300), 224, IMAGENET),
    "imagenet_base": ("base", [0], (90, 300), 224, IMAGENET),
    "cifar100": ("tiny", [0, 1, 2], (100, 100), 64, 50_000),
    "imagenet100_64": ("tiny", [0, 1, 2], (40, 40), 64, 128_000),
}


@cache
def path(regime: str) -> list[Step]:
    return compose_path([f"regime={regime}"])


def test_every_experiment_is_tested() -> None:
    assert {file.stem for file in (config_dir() / "experiment").glob("*.yaml")} == set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_the_whole_path_at_the_stated_cost(name: str) -> None:
    regime, seeds, epochs, image_size, images = EXPERIMENTS[name]
    for step, expected in zip(("resnet50", "gelu"), epochs, strict=True):
        config = compose([f"experiment={name}", "data.root=x", f"step={step}"])
        run = config.experiment()
        assert (run.variant, run.regime, config.seeds) == (step, regime, seeds)
        assert (run.epochs, run.image_size) == (expected, image_size)
    gmacs = [count_flops(step.composed.design, image_size, 1000, False).gmacs for step in path(regime)]
    total = 3 * len(seeds) * images * (epochs[0] * gmacs[0] + epochs[1] * sum(gmacs[1:]))
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    (stated,) = re.findall(r"Cost: (\S+) GMACs", text)
    assert stated == f"{total:.{len(stated) - 6}e}"
    # two operations a MAC; the days or hours at the throughput that the file assumes
    seconds = 2e9 * total / (40e12 if images == IMAGENET else 15e12)
    assert (f"{seconds / 86400:.0f} days" if images == IMAGENET else f"{seconds / 3600:.0f} hours") in text
