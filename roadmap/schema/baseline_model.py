"""The record of a baseline model: a classifier from another library."""

from typing import Any, ClassVar, Literal

from roadmap.errors import RequestError
from roadmap.validation import Record


class BaselineModel(Record):
    """A classifier of torchvision or timm; ``conf/networks.yaml`` has those of the paper.

    ``options`` are the library's own arguments (``{depths: [1, 1, 3, 1]}``). The number of classes, image size and
    stochastic depth come from the data and the recipe. A config has either a baseline model or a Design.
    """

    place: ClassVar[str] = "model"
    # arguments with which a library would load weights or configs by itself
    elsewhere: ClassVar[tuple[str, ...]] = (
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "weights",
    )

    library: Literal["torchvision", "timm"]
    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if invalid := [key for key in self.options if not key.isidentifier()]:
            raise RequestError(
                f"model.options has {invalid[0]!r}; its keys must be names of {self.library}'s arguments"
            )
        if loaders := [key for key in self.options if key in self.elsewhere]:
            raise RequestError(f"model.options.{loaders[0]} would load weights without our checks; use pretrained=FILE")

    def __hash__(self) -> int:
        return hash((self.library, self.name))  # options are a dict
