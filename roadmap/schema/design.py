"""The design record: one value for each axis of the network."""

from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import Record

# no machine has the memory for more
Depth = Annotated[int, Meta(ge=1, le=1024)]
Width = Annotated[int, Meta(ge=1, le=65536)]
Kernel = Annotated[int, Meta(ge=1, le=1023)]


class Design(Record):
    """One point of the design space between (and beside) ResNet-50 and ConvNeXt-T; arXiv:2201.03545, section 2.

    Frozen and hashable. Defaults live in ``conf/``, where each axis is a config group. Only an axis that older records
    do not name has its default here: at that value it is not logged, and ``conf/`` has a file for each other option.
    How to add one, in three places: ``docs/your_own_change.md``.

    Raises RequestError for an unknown option, a value out of range, and options that do not go together.
    """

    place: ClassVar[str] = "design"

    depths: tuple[Depth, Depth, Depth, Depth]  # blocks per stage; the group stage_ratio
    stem: Literal["resnet", "patchify"]
    conv: Literal["dense", "depthwise"]
    width: Width  # channels of the first stage; each later stage doubles them
    bottleneck: Literal["standard", "inverted"]
    depthwise_position: Literal["middle", "first"]
    kernel: Kernel
    activation: Literal["relu", "gelu"]
    activations: Literal["every_layer", "one_per_block"]
    norms: Literal["every_layer", "one_per_block"]
    norm: Literal["batch", "layer"]
    downsampling: Literal["in_block", "separate"]
    hierarchy: Literal["pyramid", "isotropic"] = "pyramid"  # stages at falling resolution, or one at a sixteenth

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise RequestError(f"design.kernel must be odd (got {self.kernel})")
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
        """Plain values, as they are logged and hashed: without what is at its default, which older records lack."""
        return {key: value for key, value in super().to_dict().items() if value != LATER_AXES.get(key)}


# Config group -> field of Design, in the order of the roadmap. Only the stage ratio has a field of another name.
AXES = {"stage_ratio" if name == "depths" else name: name for name in Design.__struct_fields__}
# The axes that older records do not name, and the option that these are at.
LATER_AXES: dict[str, str] = {
    field.name: field.default for field in msgspec.structs.fields(Design) if not field.required
}
