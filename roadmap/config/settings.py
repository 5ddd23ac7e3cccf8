"""The settings at the top level of ``conf/config.yaml``."""

from typing import Annotated, Any, Literal, Self

from msgspec import Meta

from roadmap.networks.match_flops import Scale
from roadmap.schema.experiment import ImageSize, Settings
from roadmap.validation import NonNegativeInt, PositiveInt

MATCHING = ("match_gmacs", "match_by")


class ConfigSettings(Settings):
    """All settings that belong to no group. Without ``match_gmacs``, designs keep their width and depth."""

    seed: int
    seeds: Annotated[tuple[int, ...], Meta(min_length=1)]
    epochs: PositiveInt
    batch_size: PositiveInt
    image_size: ImageSize
    precision: Literal["fp32", "bf16", "fp16"]
    pretrained: str | None
    match_gmacs: Annotated[float, Meta(gt=0, le=1_000_000)] | None
    match_by: Scale
    workers: PositiveInt
    retries: NonNegativeInt

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Return the settings of a composed config. Raises RequestError if a value has the wrong type or range."""
        return cls.from_mapping({name: values[name] for name in cls.__struct_fields__})
