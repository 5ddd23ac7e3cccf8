"""What ``roadmap evaluate`` is asked for: settings that override those of the network's training."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from roadmap.config.compose import evaluation_values
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.corruptions import CORRUPTIONS, SYNTHETIC_FROST, WITHOUT_PHOTOGRAPHS, Corruptions
from roadmap.validation import Fraction, NonNegativeInt, PositiveInt, Record

# ImageNet-C's order, with the synthetic frost after the published one
ORDER = [name for one in CORRUPTIONS for name in ((one, SYNTHETIC_FROST) if one == "frost" else (one,))]


class EvaluationRequest(Record):
    """The settings of ``conf/evaluate.yaml``; None keeps the network's own.

    ``data`` holds changed fields of the network's data, or all fields of another data set. ``corruptions`` names
    corruptions to evaluate on as well.
    """

    checkpoint: Literal["last", "best"]
    weights: Literal["network", "averaged"]
    image_size: PositiveInt | None
    crop_ratio: Fraction | None
    interpolation: Literal["bilinear", "bicubic"] | None
    precision: Literal["fp32", "bf16", "fp16"] | None
    device: str
    channels_last: bool | None
    num_workers: NonNegativeInt | None
    batch_size: PositiveInt | None
    corruptions: str | tuple[str, ...] | None
    severities: tuple[int, ...]
    frost: str | None
    save_predictions: bool
    data: dict[str, Any] | None = None

    @property
    def corrupted(self) -> Corruptions | None:
        """The corruptions to evaluate on as well. Raises RequestError for an unknown one."""
        if self.corruptions is None:
            return None
        names = {self.corruptions} if isinstance(self.corruptions, str) else set(self.corruptions)
        if "all" in names:
            names = set(CORRUPTIONS if self.frost else WITHOUT_PHOTOGRAPHS)
        # in a fixed order, so that the same corruptions have the same key
        known = [name for name in ORDER if name in names]
        unknown = sorted(names - set(known))
        frost = self.frost and os.path.realpath(self.frost)
        severities = sorted(set(self.severities))
        return Corruptions.from_mapping({"names": [*known, *unknown], "severities": severities, "frost": frost})


ALIASES = {"recipe.eval_crop_ratio": "crop_ratio", "recipe.augment.interpolation": "interpolation"}
SETTINGS = tuple(name for name in EvaluationRequest.__struct_fields__ if name != "data")
# settings that conf/config.yaml does not have
OWN = ("crop_ratio", "interpolation", "corruptions", "severities", "frost", "save_predictions", "checkpoint", "weights")


def evaluation_request(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> EvaluationRequest:
    """The request that overrides make. Raises RequestError for an unknown setting or a value out of range."""
    words = [_without_alias(word) for word in overrides]
    keys = [key_of(word) for word in words]
    for key in keys:
        if key in ("data.mean", "data.std"):
            raise RequestError(f"{key} cannot be changed: images are normalised as in the network's training")
        if key not in SETTINGS and key.split(".")[0] != "data":
            raise RequestError(f"{key}= is not a setting of an evaluation (choose {listed((*SETTINGS, 'data'))})")
    if lone := [key for key in ("severities", "frost") if key in keys and "corruptions" not in keys]:
        raise RequestError(f"{lone[0]}= requires corruptions=…; use data.severities=… for a published set")
    if "data" not in keys:
        # changes to the network's own data
        words = [f"+{word}" if word.startswith("data.") else word for word in words]
    return EvaluationRequest.from_mapping(evaluation_values(words, config_dirs))


def is_evaluation_only(word: str) -> bool:
    """Whether an override is a setting of evaluations that training does not have."""
    return key_of(_without_alias(word)) in OWN


def _without_alias(word: str) -> str:
    key = key_of(word)
    return ALIASES[key] + word[word.index("=") :] if key in ALIASES and "=" in word else word


def data_fields(own: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The data to evaluate on: all fields of another data set, or the network's own with some fields changed."""
    if given is not None and "source" in given:
        return dict(given)
    return dict(own or {}) | dict(given or {})
