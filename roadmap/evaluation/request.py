"""What `roadmap evaluate` is asked for: how networks are to be evaluated, over what they were trained with."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from roadmap.config.compose import evaluation_values
from roadmap.config.overrides import key_of
from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.schema.corruptions import CORRUPTIONS, SYNTHETIC_FROST, Corruptions
from roadmap.validation import NonNegativeInt, PositiveInt, Record, Share

# the drawn frost beside the published one
ORDER = [name for one in CORRUPTIONS for name in ((one, SYNTHETIC_FROST) if one == "frost" else (one,))]


class EvaluationRequest(Record):
    """``conf/evaluate.yaml``'s settings; None leaves the network's own.

    ``data`` are fields of its data to be changed, or all those of another data set. ``corruptions`` are names of
    corruptions; None: the images as they are alone.
    """

    checkpoint: Literal["last", "best"]
    weights: Literal["network", "averaged"]
    image_size: PositiveInt | None
    crop_ratio: Share | None
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
        """Which corruptions to evaluate on beside the images as they are. Raises RequestError for an unknown one."""
        if self.corruptions is None:
            return None
        names = {self.corruptions} if isinstance(self.corruptions, str) else set(self.corruptions)
        if "all" in names:
            # the published frost takes photographs that are not ours to ship
            names = {SYNTHETIC_FROST if name == "frost" and self.frost is None else name for name in CORRUPTIONS}
        # in one order, so that the same corruptions are the same evaluation
        known = [name for name in ORDER if name in names]
        strangers = sorted(names - set(known))
        frost = self.frost and os.path.realpath(self.frost)
        severities = sorted(set(self.severities))
        return Corruptions.from_mapping({"names": [*known, *strangers], "severities": severities, "frost": frost})


ALIASES = {"recipe.eval_crop_ratio": "crop_ratio", "recipe.augment.interpolation": "interpolation"}
SETTINGS = tuple(name for name in EvaluationRequest.__struct_fields__ if name != "data")


def evaluation_request(overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> EvaluationRequest:
    """The checked request of overrides. Raises RequestError for what is no setting of evaluation's or does not fit."""
    words = [_renamed(word) for word in overrides]
    for word in words:
        key = key_of(word)
        if key in ("data.mean", "data.std"):
            raise RequestError(f"{key} is the network's own: it sees images normalised as in its training")
        if key not in SETTINGS and key.split(".")[0] != "data":
            raise RequestError(
                f"{key}= is none of evaluation's settings, and what a trained network is says its run's config; "
                f"choose {listed((*SETTINGS, 'data'))}"
            )
    keys = [key_of(word) for word in words]
    if lone := [key for key in ("severities", "frost") if key in keys and "corruptions" not in keys]:
        raise RequestError(f"{lone[0]}= goes with corruptions=…; of a published set choose with data.severities=…")
    if "data" not in keys:
        # the run's own data: what is given goes over it
        words = [f"+{word}" if word.startswith("data.") else word for word in words]
    return EvaluationRequest.from_mapping(evaluation_values(words, config_dirs))


def of_evaluation(word: str) -> bool:
    """Whether an override is one of evaluation alone, rather than of what is trained."""
    return key_of(_renamed(word)) in OWN


# what conf/config.yaml does not have
OWN = ("crop_ratio", "interpolation", "corruptions", "severities", "frost", "save_predictions", "checkpoint", "weights")


def _renamed(word: str) -> str:
    key = key_of(word)
    return ALIASES[key] + word[word.index("=") :] if key in ALIASES and "=" in word else word


def data_fields(own: Mapping[str, Any] | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The data to evaluate on: another data set's fields whole, or the network's own with some of them changed."""
    if given is None:
        return dict(own or {})
    return dict(given) if "source" in given else dict(own or {}) | dict(given)
