"""How images are preprocessed for evaluation; it belongs to the network and its weights."""

from roadmap.validation import Record


class EvalTransform(Record):
    """Resize, centre crop, and normalization of values scaled to 0..1."""

    image_size: int
    crop_ratio: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class EvalSettings(EvalTransform):
    """The transform with the settings of an evaluation; ``batch_size`` is per process."""

    precision: str
    channels_last: bool
    num_workers: int
    batch_size: int
