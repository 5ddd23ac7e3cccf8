"""The record of a network that is not ours: which library has it, under which name, made with which options."""

from typing import Any, ClassVar, Literal

from roadmap.errors import RequestError
from roadmap.validation import Record


class BaselineModel(Record):
    """A classifier of torchvision's, of timm's, or one that neither has; ``conf/model/`` has those of the tables.

    ``options`` are arguments of the library's own for it (``{depths: [1, 1, 3, 1]}``); number of classes, image size
    and stochastic depth come from data and recipe. Stands in a config in the place of a Design.
    """

    place: ClassVar[str] = "model"
    # of the libraries' makers: what would have weights or configs read from elsewhere, by readers of their own
    elsewhere: ClassVar[tuple[str, ...]] = (
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "checkpoint_path",
        "cache_dir",
        "weights",
    )

    library: Literal["torchvision", "timm", "roadmap"]
    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if strangers := [key for key in self.options if not key.isidentifier()]:
            raise RequestError(f"model.options has {strangers[0]!r}; its keys must name {self.library}'s arguments")
        if loaders := [key for key in self.options if key in self.elsewhere]:
            raise RequestError(f"model.options.{loaders[0]} would load weights past all checks; write pretrained=FILE")

    def __hash__(self) -> int:
        return hash((self.library, self.name))  # options are a dict
