"""What a network is: our own Design with a value for each axis, or a BaselineModel; and the regimes."""

from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.validation import PositiveInt, Record

# no machine has the memory for more
Depth = Annotated[int, Meta(ge=1, le=1024)]
Width = Annotated[int, Meta(ge=1, le=65536)]
Kernel = Annotated[int, Meta(ge=1, le=1023)]


class Design(Record):
    """One point of the design space around ResNet-50 and ConvNeXt-T; arXiv:2201.03545, section 2.

    Frozen and hashable. Each axis is a config group; the defaults of the paper's axes are in ``conf/config.yaml``. An
    axis added later has its default here. Runs at that default are logged without the axis, so that they keep
    their run_id. ``docs/your_own_change.md`` shows how to add an axis.

    Raises RequestError for an unknown option, a value out of range, and options that exclude each other.
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
    patch: Literal[4, 2, 1] = 4  # the stem's total stride

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
        if self.hierarchy == "isotropic" and self.patch != 4:
            raise RequestError(
                f"hierarchy=isotropic does not go with patch=p{self.patch}: its patches are 16x16; "
                "choose patch=p4 or hierarchy=pyramid"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are logged and hashed: without the added axes that are at their default."""
        return {
            key: value for key, value in super().to_dict().items() if key not in ADDED_AXES or value != ADDED_AXES[key]
        }


# Config group -> field of Design, in the order of the roadmap. Only the stage ratio has a field of another name.
AXES = {"stage_ratio" if name == "depths" else name: name for name in Design.__struct_fields__}
# Axis of fixed options -> its options. The other axes (stage_ratio, width, kernel) have a file per option in ``conf/``.
AXIS_OPTIONS: dict[str, tuple[str | int, ...]] = {
    field.name: get_args(field.type) for field in msgspec.structs.fields(Design) if get_origin(field.type) is Literal
}
# Axis added after the paper's -> its default
ADDED_AXES = {field.name: field.default for field in msgspec.structs.fields(Design) if not field.required}


class BaselineModel(Record):
    """A classifier of torchvision or timm; ``conf/networks.yaml`` has those of the paper.

    ``options`` are the library's own arguments (``{depths: [1, 1, 3, 1]}``). The number of classes, image size and
    stochastic depth come from the data and the recipe. A config has either a baseline model or a Design.
    """

    place: ClassVar[str] = "model"
    # arguments with which a library would load weights or configs by itself
    elsewhere: ClassVar[tuple[str, ...]] = (
        *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "weights"),
    )

    library: Literal["torchvision", "timm"]
    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        if loaders := [key for key in self.options if key in self.elsewhere]:
            raise RequestError(f"model.options.{loaders[0]} would load weights without our checks; use pretrained=FILE")

    def __hash__(self) -> int:
        return hash((self.library, self.name))  # options are a dict


class Regime(Record):
    """The two networks at the ends of a roadmap: ``baseline`` and ``result`` name them in figures.

    Recipes look up size-dependent rates by ``size``. ``depths`` and ``widths`` map the options of their axes to values.
    """

    place: ClassVar[str] = "regime"

    name: str
    baseline: str
    result: str
    size: str
    image_size: PositiveInt
    num_classes: PositiveInt
    depths: dict[str, Any]
    widths: dict[str, Any]
