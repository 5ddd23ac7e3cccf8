"""How images are shown to a network, which is the network's own affair: as it, or its weights, were trained to see."""

from roadmap.validation import Record


class EvalTransform(Record):
    """The pixels that an image becomes: resized, cropped in the middle, and normalised from values scaled to 0..1."""

    image_size: int
    crop_ratio: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class EvalSettings(EvalTransform):
    """How a network is evaluated on them; ``batch_size`` is that of one process."""

    precision: str
    channels_last: bool
    num_workers: int
    batch_size: int
