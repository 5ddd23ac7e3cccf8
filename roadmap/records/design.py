"""The design record: everything that tells one network of the roadmap from another."""

from dataclasses import dataclass
from typing import Any, Literal

from roadmap.checked import Checked
from roadmap.errors import RequestError


@dataclass(frozen=True)
class Design(Checked):
    """One point of the design space between (and beside) ResNet-50 and ConvNeXt-T; arXiv:2201.03545, section 2.

    Frozen and hashable. Defaults live in ``conf/``, where each axis is a config group; here is one only for an axis
    that older records do not name. A new axis is one line here, its meaning in ``roadmap/designs/layout.py`` and its
    files in ``conf/``.

    Raises RequestError for an unknown option, a value out of range, and options that do not go together.
    """

    place = "design"

    depths: tuple[int, int, int, int]  # blocks per stage; the group stage_ratio
    width: int  # channels of the first stage; each later stage doubles them
    stem: Literal["resnet", "patchify"]
    conv: Literal["dense", "depthwise"]
    bottleneck: Literal["standard", "inverted"]
    depthwise_position: Literal["middle", "first"]
    kernel: int
    activation: Literal["relu", "gelu"]
    activations: Literal["every_layer", "one_per_block"]
    norms: Literal["every_layer", "one_per_block"]
    norm: Literal["batch", "layer"]
    downsampling: Literal["in_block", "separate"]
    hierarchy: Literal["pyramid", "isotropic"] = "pyramid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.depths) < 1:
            raise RequestError(f"design.depths={list(self.depths)} has a stage without blocks; each wants at least 1")
        if self.width < 1:
            raise RequestError(f"design.width={self.width} leaves no channels; it wants at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise RequestError(f"design.kernel={self.kernel} has no centre pixel; choose an odd kernel")
        if self.depthwise_position == "first" and self.conv == "dense":
            raise RequestError(
                "depthwise_position=first does not go with conv=dense: the convolution that moves up is the depthwise "
                "one, a dense one there would be a basic block; choose conv=depthwise or depthwise_position=middle"
            )
        if self.hierarchy == "isotropic" and self.stem == "resnet":
            raise RequestError(
                "hierarchy=isotropic does not go with stem=resnet: its stem is one convolution of 16x16 patches; "
                "choose stem=patchify or hierarchy=pyramid"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are logged and hashed: what is a pyramid has no ``hierarchy``, as in older records."""
        values = super().to_dict()
        if self.hierarchy == "pyramid":
            del values["hierarchy"]
        return values


# Config group -> field of Design, in the order of the roadmap. Only the stage ratio has a field of another name.
AXES = {"stage_ratio": "depths"} | {
    name: name
    for name in (
        "stem",
        "conv",
        "width",
        "bottleneck",
        "depthwise_position",
        "kernel",
        "activation",
        "activations",
        "norms",
        "norm",
        "downsampling",
        "hierarchy",
    )
}
