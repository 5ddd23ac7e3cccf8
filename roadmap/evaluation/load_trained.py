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
from roadmap.errors import RequestError
from roadmap.networks.models import library_weights, make_model
from roadmap.networks.weights import load_weights
from roadmap.runs.run_folder import RunFolder
from roadmap.schema.design import BaselineModel, Design
from roadmap.schema.experiment import Data, EvalSettings, file_digest, weights_file
from roadmap.schema.recipe import Recipe
from roadmap.training.checkpoint import averaged_weights, read_weights_file, weights_of
from roadmap.untrusted_io import parse_yaml

# fields of a run's summary that a record repeats
RUN_FIELDS = ("run_id", "regime", "step", "variant", "recipe", "seed", "epochs", "design")
Make = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class TrainedModel:
    """A network with trained weights, built on demand.

    ``make`` builds it for an image size and a number of classes; ``num_classes`` is None if any number is possible.
    ``data`` is the data of its training. A record repeats ``run`` and ``checkpoint``, which say whose weights they are.
    ``digest`` is a hash of the weights.
    """

    label: str
    make: Make
    num_classes: int | None
    data: Data | None
    settings: EvalSettings
    checkpoint: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    digest: str = ""


def load_run(folder: Path, which: str = "last", averaged: bool = False) -> TrainedModel:
    """Return the ``last`` or ``best`` checkpoint of a finished run. Raises RequestError if it cannot be read."""
    file = folder / "checkpoints" / f"{which}.pt"
    status = (RunFolder(folder).read_summary() or {}).get("status")
    if status != "finished":
        raise RequestError(f"{folder} is {status}, not finished; to evaluate it anyway, name its checkpoint: {file}")
    return load_checkpoint(file, averaged)


def load_checkpoint(file: Path, averaged: bool = False) -> TrainedModel:
    """Return the network of a checkpoint in a run's folder, or its ``averaged`` (EMA) weights.

    Raises RequestError if the file is missing, damaged or another run's, or has no averaged weights.
    """
    folder = file.parent.parent
    if not file.is_file():
        raise RequestError(f"no checkpoint {file}; a run's records do not contain its weights: train it again")
    summary, values = _read_records(folder)
    state = read_weights_file(file)
    if state.get("run_id") != summary.get("run_id"):
        raise RequestError(f"checkpoint {file} belongs to run {state.get('run_id')}, not to the run of its folder")
    weights = averaged_weights(state) if averaged else state["network"]
    if weights is None:
        raise RequestError(f"checkpoint {file} has no averaged weights (its recipe has no EMA); choose weights=network")
    composed = Composed(values, {}, ())
    return TrainedModel(
        label=f"{summary['variant']} seed {summary['seed']}",
        make=_maker(composed.asked, composed.recipe, weights, f"trained with image_size={values['image_size']}"),
        num_classes=summary["num_classes"],
        data=composed.data,
        settings=_eval_settings(composed, summary.get("micro_batch_size") or values["batch_size"]),
        checkpoint={"file": file.name, "epoch": state["epoch"], "weights": "averaged" if averaged else "network"},
        run={name: summary.get(name) for name in RUN_FIELDS},
        folder=folder,
        digest=_digest(weights),
    )


def load_pretrained(composed: Composed) -> TrainedModel:
    """Return a config's network with the weights of its ``pretrained`` file, or a library's weights and transform.

    Raises RequestError if there are none.
    """
    pretrained, settings = str(composed.settings.pretrained), _eval_settings(composed, batch_size=256)
    library, _, tag = pretrained.partition("/")
    if library == "library":
        model, averaged = composed.design, False
        if not isinstance(model, BaselineModel):
            raise RequestError(
                "pretrained=library requires model=torchvision or model=timm; otherwise name a weights file"
            )
        found = library_weights(model, tag)
        file, label, num_classes = found.file, f"{model.library}'s {model.name}, {found.name}", found.num_classes
        settings = settings.replace(**msgspec.structs.asdict(found.transform))

        def make_from_library(image_size: int, num_classes: int) -> nn.Module:
            return found.make(image_size)

        make: Make = make_from_library
    else:
        file = weights_file(pretrained)
        weights, averaged = weights_of(read_weights_file(file))
        label, num_classes = f"{composed.variant}, {file.name}", None
        make = _maker(composed.design, composed.recipe, weights, f"pretrained={pretrained}")
    run = {"regime": composed.regime.name, "variant": composed.variant, "design": composed.design.to_dict()}
    checkpoint = {"file": str(file), "epoch": None, "weights": "averaged" if averaged else "network"}
    return TrainedModel(label, make, num_classes, composed.data, settings, checkpoint, run, digest=file_digest(file))


def _read_records(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's summary and its composed config."""
    summary, file = RunFolder(folder).read_summary(), folder / ".hydra" / "config.yaml"
    try:
        values = parse_yaml(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if summary is None or not isinstance(values, dict):
        raise RequestError(
            f"{folder} is not a run's folder, with a readable summary.json and .hydra/config.yaml; evaluate a "
            "checkpoint inside its run's folder, or name the network: step=… pretrained=FILE"
        )
    recipe, micro_batch = values.get("recipe"), summary.get("micro_batch_size")
    if isinstance(recipe, dict) and micro_batch:  # before it was a setting, BN took the whole micro batch
        recipe.setdefault("batch_norm_images", micro_batch)
    return summary, values


def _eval_settings(composed: Composed, batch_size: int) -> EvalSettings:
    """Return the settings with which a run of this config evaluates."""
    names = ("image_size", "precision", "channels_last", "num_workers")
    values = {name: composed.values[name] for name in names}
    return EvalSettings.of(composed.recipe, composed.data, batch_size=batch_size, **values)


def _maker(design: Design | BaselineModel, recipe: Recipe, weights: Mapping[str, Any], origin: str) -> Make:
    """Return a function that builds a network with these weights; its errors name their ``origin``."""

    def make(image_size: int, num_classes: int) -> nn.Module:
        network = make_model(design, recipe.network, num_classes, image_size)
        try:
            load_weights(network, weights)
        except RequestError as error:
            raise RequestError(f"{origin}: {error}") from error
        return network

    return make


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors' names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
