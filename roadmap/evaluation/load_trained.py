"""Trained networks to evaluate, with their transforms: from runs, checkpoints or weights from elsewhere."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from roadmap.config.compose import Composed
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.networks.models import library_weights, make_model
from roadmap.networks.weights import load_weights
from roadmap.runs.run_folder import RunFolder
from roadmap.schema.design import BaselineModel, Design
from roadmap.schema.experiment import Data, EvalSettings, file_digest
from roadmap.schema.recipe import Recipe
from roadmap.training.checkpoint import DAMAGED, averaged_weights
from roadmap.training.pretrained import read_weights
from roadmap.untrusted_io import parse_yaml

CONFIG = ".hydra/config.yaml"
# fields of a run's summary that a record repeats
RUN_FIELDS = ("run_id", "regime", "step", "variant", "recipe", "seed", "epochs")


@dataclass(frozen=True)
class TrainedModel:
    """A network with trained weights, built on demand.

    ``make`` builds it for an image size and a number of classes; ``num_classes`` is None if any number is possible.
    ``data`` is the data of its training. A record repeats ``run`` and ``checkpoint``, which say whose weights they are.
    ``digest`` is a hash of the weights.
    """

    label: str
    make: Callable[[int, int], nn.Module]
    num_classes: int | None
    data: Data | None
    settings: EvalSettings
    checkpoint: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    digest: str = ""


def load_run(folder: Path, which: str = "last", averaged: bool = False) -> TrainedModel:
    """The ``last`` or ``best`` checkpoint of a finished run. Raises RequestError if it is missing or damaged."""
    file = folder / "checkpoints" / f"{which}.pt"
    status = _summary(folder, f"{folder}").get("status")
    if status != "finished":
        raise RequestError(f"{folder} is {status}, not finished; to evaluate it anyway, name its checkpoint: {file}")
    return load_checkpoint(file, averaged)


def load_checkpoint(file: Path, averaged: bool = False) -> TrainedModel:
    """The network of a checkpoint in a run's folder, or its ``averaged`` (EMA) weights.

    Raises RequestError if the file is missing, damaged or another run's, or has no averaged weights.
    """
    folder = file.parent.parent
    if not file.is_file():
        raise RequestError(f"no checkpoint {file}; a run's records do not contain its weights: train it again")
    summary, values = _summary(folder, f"{file}"), _read_config(folder)
    recipe, data = Recipe.from_mapping(values["recipe"]), Data.from_mapping(values["data"])
    state = _read_state(file, summary.get("run_id"))
    if averaged and state["ema"] is None:
        raise RequestError(f"checkpoint {file} has no averaged weights (its recipe has no EMA); choose weights=network")
    weights = averaged_weights(state["ema"]) if averaged else dict(state["network"])
    classes = summary["num_classes"]
    design = (
        BaselineModel.from_mapping(values["model"]) if values.get("model") else Design.from_mapping(values["design"])
    )

    def make(image_size: int, num_classes: int) -> nn.Module:
        network = make_model(design, recipe.network, classes, image_size)
        return _with_weights(network, weights, f"image_size={image_size} ({values['image_size']} in training)")

    return TrainedModel(
        label=f"{summary['variant']} seed {summary['seed']}",
        make=make,
        num_classes=classes,
        data=data,
        settings=_eval_settings(values, recipe, data, summary.get("micro_batch_size") or values["batch_size"]),
        checkpoint={"file": file.name, "epoch": state["epoch"], "weights": _kind(averaged)},
        run={name: summary.get(name) for name in (*RUN_FIELDS, "design")},
        folder=folder,
        digest=weights_digest(weights),
    )


def load_pretrained(composed: Composed) -> TrainedModel:
    """A config's network with the weights of its ``pretrained`` file. Raises RequestError if they do not fit."""
    settings, recipe, data = composed.settings, composed.recipe, composed.data
    pretrained = str(settings.pretrained)
    weights, averaged, file = read_weights(pretrained)
    batch_size = settings.micro_batch_size or min(settings.batch_size, 256)

    def make(image_size: int, num_classes: int) -> nn.Module:
        network = make_model(composed.design, recipe.network, num_classes, image_size)
        return _with_weights(network, weights, f"pretrained={pretrained}")

    return TrainedModel(
        label=f"{composed.variant}, {file.name}",
        make=make,
        num_classes=None,
        data=data,
        settings=_eval_settings(settings.to_dict(), recipe, data, batch_size),
        checkpoint={"file": str(file), "epoch": None, "weights": _kind(averaged)},
        run=_run_of_config(composed),
        digest=weights_digest(weights),
    )


def load_library_model(composed: Composed) -> TrainedModel:
    """A baseline model with its library's weights (``pretrained=library``) and their transform."""
    if not isinstance(composed.design, BaselineModel):
        raise RequestError("pretrained=library requires model=torchvision or model=timm; otherwise name a weights file")
    asked, model = composed.settings, composed.design
    weights = library_weights(model, str(asked.pretrained).partition("/")[2])
    settings = EvalSettings(
        **msgspec.structs.asdict(weights.transform),
        precision=asked.precision,
        channels_last=asked.channels_last,
        num_workers=asked.num_workers,
        batch_size=asked.micro_batch_size or 256,
    )
    # the config's default image size is the regime's
    if any(key_of(word) == "image_size" for word in composed.overrides):
        settings = settings.replace(image_size=asked.image_size)
    return TrainedModel(
        label=f"{model.library}'s {model.name}, {weights.name}",
        make=lambda image_size, num_classes: weights.make(image_size),
        num_classes=weights.num_classes,
        data=composed.data,
        settings=settings,
        checkpoint={"file": str(weights.file), "epoch": None, "weights": _kind(averaged=False)},
        run=_run_of_config(composed),
        digest=file_digest(weights.file),
    )


def _kind(averaged: bool) -> str:
    return "averaged" if averaged else "network"


def _run_of_config(composed: Composed) -> dict[str, Any]:
    regime = composed.regime.name
    return {"regime": regime, "variant": composed.variant, "design": composed.design.to_dict()}


def _eval_settings(values: Mapping[str, Any], recipe: Recipe, data: Data, batch_size: int) -> EvalSettings:
    """The settings with which a run of this config evaluates."""
    return EvalSettings(
        crop_ratio=recipe.eval_crop_ratio,
        interpolation=recipe.augment.interpolation,
        mean=data.mean,
        std=data.std,
        batch_size=batch_size,
        **{name: values[name] for name in ("image_size", "precision", "channels_last", "num_workers")},
    )


def _with_weights(network: nn.Module, weights: Mapping[str, Tensor], place: str) -> nn.Module:
    try:
        load_weights(network, weights)
    except RequestError as error:
        raise RequestError(f"{place}: {error}") from error
    return network


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the tensors' names, types, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _summary(folder: Path, place: str) -> dict[str, Any]:
    summary = RunFolder(folder).read_summary()
    if summary is None:
        raise RequestError(f"{place} is not in a run's folder: {folder}/summary.json is missing or unreadable")
    return summary


def _read_config(folder: Path) -> dict[str, Any]:
    """A run's composed config."""
    file = folder / CONFIG
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"cannot read {file}, which defines the run's network; evaluate a checkpoint inside its run's folder, "
            "or name the network: step=… pretrained=FILE"
        ) from error
    if not isinstance(values, dict):
        raise RequestError(f"{file} is not a config: it must be a mapping")
    return values


def _read_state(file: Path, run_id: str | None) -> dict[str, Any]:
    try:
        # mmap: the optimizer's state, twice the size of the network's, is never read
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        found = state.get("run_id")
    except (*DAMAGED, AttributeError) as error:
        raise RequestError(f"cannot read checkpoint {file}: it is damaged or not a checkpoint") from error
    if found != run_id:
        raise RequestError(f"checkpoint {file} belongs to run {found}, but its folder's summary.json to run {run_id}")
    return dict(state)
