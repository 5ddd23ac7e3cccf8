"""Trained networks as they are evaluated, with how they see images: of runs, checkpoints, or weights from elsewhere."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from roadmap.config.compose import Composed
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.networks.library_weights import library_weights
from roadmap.networks.models import make_model
from roadmap.networks.weights import load_weights
from roadmap.runs.run_folder import RunFolder
from roadmap.schema.baseline_model import BaselineModel
from roadmap.schema.design import Design
from roadmap.schema.eval_transform import EvalSettings
from roadmap.schema.experiment import Data
from roadmap.schema.recipe import Recipe
from roadmap.schema.weights_file import file_digest
from roadmap.training.checkpoint import DAMAGED, averaged_weights
from roadmap.training.pretrained import read_weights
from roadmap.untrusted_io import parse_yaml

CONFIG = ".hydra/config.yaml"
# of a run's summary, what says which run an evaluation is of
IDENTITY = ("run_id", "regime", "step", "variant", "recipe", "seed", "epochs")


@dataclass(frozen=True)
class Trained:
    """A network with trained weights, not yet read.

    ``make`` builds it for an image size and a number of classes with its weights in it; ``num_classes`` is None where
    the weights do not say. ``data`` is what it was evaluated on in training, ``run`` what its record says of it, and
    ``checkpoint`` which weights they are, in plain values.
    """

    label: str
    make: Callable[[int, int], nn.Module]
    num_classes: int | None
    data: Data | None
    view: EvalSettings
    checkpoint: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    digest: str = ""  # of the weights


def trained_run(folder: Path, which: str = "last", averaged: bool = False) -> Trained:
    """A finished run's network: the ``last`` checkpoint's, or the ``best``'s. RequestError where it cannot be had."""
    summary = RunFolder(folder).read_summary()
    if summary is None:
        raise RequestError(f"{folder} is no run's folder: it has no summary.json that can be read")
    file = folder / "checkpoints" / f"{which}.pt"
    if summary.get("status") != "finished":
        raise RequestError(
            f"{folder} is {summary.get('status')}, not finished; name its checkpoint to evaluate it as it is: {file}"
        )
    return trained_checkpoint(file, averaged)


def trained_checkpoint(file: Path, averaged: bool = False) -> Trained:
    """The network of a checkpoint in a run's folder, or its ``averaged`` weights.

    Raises RequestError where the file is missing or damaged, is another run's, or has no averaged weights.
    """
    folder = file.parent.parent
    if not file.is_file():
        raise RequestError(f"no checkpoint {file}; the run's records alone do not hold its weights: train it again")
    summary, values = RunFolder(folder).read_summary(), _values(folder)
    if summary is None:
        raise RequestError(f"{file} is in no run's folder: {folder} has no summary.json that can be read")
    recipe, data = Recipe.from_mapping(values["recipe"]), Data.from_mapping(values["data"])
    state = _state(file, summary.get("run_id"))
    weights = _network_weights(state, file, averaged)
    design = (
        BaselineModel.from_mapping(values["model"]) if values.get("model") else Design.from_mapping(values["design"])
    )
    classes = summary["num_classes"]

    def make(image_size: int, num_classes: int) -> nn.Module:
        network = make_model(design, recipe.network, classes, image_size)
        return _with_weights(network, weights, f"image_size={image_size} ({values['image_size']} in training)")

    micro = summary.get("micro_batch_size") or values["batch_size"]
    return Trained(
        label=f"{summary['variant']} seed {summary['seed']}",
        make=make,
        num_classes=classes,
        data=data,
        view=_view(values, recipe, data, micro),
        checkpoint={"file": file.name, "epoch": state["epoch"], "weights": "averaged" if averaged else "network"},
        run={name: summary.get(name) for name in IDENTITY} | {"design": summary.get("design")},
        folder=folder,
        digest=weights_digest(weights),
    )


def _view(values: Mapping[str, Any], recipe: Recipe, data: Data, batch_size: int) -> EvalSettings:
    """How a config's own evaluation shows images."""
    return EvalSettings(
        image_size=values["image_size"],
        crop_ratio=recipe.eval_crop_ratio,
        interpolation=recipe.augment.interpolation,
        mean=data.mean,
        std=data.std,
        precision=values["precision"],
        channels_last=values["channels_last"],
        num_workers=values["num_workers"],
        batch_size=batch_size,
    )


def trained_file(composed: Composed) -> Trained:
    """The network that a config asks for with the weights of its ``pretrained``. RequestError where they do not fit."""
    values, recipe = composed.values, composed.recipe
    pretrained = str(values["pretrained"])
    weights, averaged, file = read_weights(pretrained)

    def make(image_size: int, num_classes: int) -> nn.Module:
        network = make_model(composed.design, recipe.network, num_classes, image_size)
        return _with_weights(network, weights, f"pretrained={pretrained}")

    data = Data.from_mapping(values["data"])
    view = _view(values, recipe, data, values["micro_batch_size"] or min(values["batch_size"], 256))
    return Trained(
        label=f"{composed.variant}, {file.name}",
        make=make,
        num_classes=None,
        data=data,
        view=view,
        checkpoint={"file": str(file), "epoch": None, "weights": "averaged" if averaged else "network"},
        run={"regime": values["regime"]["name"], "variant": composed.variant, "design": composed.design.to_dict()},
        digest=weights_digest(weights),
    )


def trained_library(composed: Composed) -> Trained:
    """A rival with the weights that its library has for it, ``pretrained=library``, seen as the library says."""
    if not isinstance(composed.design, BaselineModel):
        raise RequestError("pretrained=library goes with model=torchvision or model=timm; name a file of weights")
    values, rival = composed.values, composed.design
    weights = library_weights(rival, str(values["pretrained"]).partition("/")[2])
    # the config's own image size is the regime's
    given = [word for word in composed.overrides if key_of(word) == "image_size"]
    view = EvalSettings(
        **vars(weights.shown) | ({"image_size": values["image_size"]} if given else {}),
        precision=values["precision"],
        channels_last=values["channels_last"],
        num_workers=values["num_workers"],
        batch_size=values["micro_batch_size"] or 256,
    )
    return Trained(
        label=f"{rival.library}'s {rival.name}, {weights.name}",
        make=lambda image_size, num_classes: weights.make(image_size),
        num_classes=weights.num_classes,
        data=Data.from_mapping(values["data"]),
        view=view,
        checkpoint={"file": str(weights.file), "epoch": None, "weights": "network"},
        run={"regime": values["regime"]["name"], "variant": composed.variant, "design": rival.to_dict()},
        digest=file_digest(weights.file),
    )


def _with_weights(network: nn.Module, weights: Mapping[str, Tensor], place: str) -> nn.Module:
    try:
        load_weights(network, weights)
    except RequestError as error:
        raise RequestError(f"{place}: {error}") from error
    return network


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values: equal for equal weights, whatever else their file holds."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _values(folder: Path) -> dict[str, Any]:
    """A run's composed config."""
    file = folder / CONFIG
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot read {file}, which says what network {folder} has; evaluate a checkpoint inside its run's folder, "
            "or as weights: step=… pretrained=FILE"
        ) from error
    if not isinstance(values, dict):
        raise RequestError(f"{file} holds no config")
    return values


def _state(file: Path, run_id: str | None) -> dict[str, Any]:
    try:
        # only what is used is read: the optimizer's state is twice the network's
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        found = state.get("run_id")
    except (*DAMAGED, AttributeError) as error:
        raise RequestError(f"cannot read checkpoint {file}; it is damaged, or no checkpoint") from error
    if found != run_id:
        raise RequestError(f"checkpoint {file} belongs to run {found}, not {run_id} as its folder's summary.json says")
    return dict(state)


def _network_weights(state: Mapping[str, Any], file: Path, averaged: bool) -> dict[str, Tensor]:
    if not averaged:
        return dict(state["network"])
    if state["ema"] is None:
        raise RequestError(f"checkpoint {file} has no averaged weights: its recipe has none; choose weights=network")
    return averaged_weights(state["ema"])
