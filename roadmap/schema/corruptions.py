"""ImageNet-C's fifteen corruptions (Hendrycks & Dietterich, arXiv:1903.12261): their names, and a request for some."""

from typing import Annotated, ClassVar

from msgspec import Meta

from roadmap.errors import RequestError
from roadmap.formatting import listed
from roadmap.validation import Record

# in the paper's order and groups
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for group in GROUPS.values() for name in group)
SEVERITIES = (1, 2, 3, 4, 5)
Severity = Annotated[int, Meta(ge=1, le=5)]
# the published frost is made of photographs that are not ours to hand out; this one is drawn, and is not the published
SYNTHETIC_FROST = "frost_synthetic"
WITHOUT_PHOTOGRAPHS = tuple(SYNTHETIC_FROST if name == "frost" else name for name in CORRUPTIONS)

# ImageNet-C-bar's (Mintun et al., arXiv:2102.11273), as its release spells them
C_BAR = (
    "blue_noise_sample",
    "brownish_noise",
    "caustic_refraction",
    "checkerboard_cutout",
    "cocentric_sine_waves",
    "inverse_sparkles",
    "perlin_noise",
    "plasma_noise",
    "single_frequency_greyscale",
    "sparkles",
)


class Corruptions(Record):
    """Which corruptions at which severities, drawn from ``seed``; ``frost`` is a folder of photographs of frost."""

    place: ClassVar[str] = "corruptions"

    names: Annotated[tuple[str, ...], Meta(min_length=1)] = WITHOUT_PHOTOGRAPHS
    severities: Annotated[tuple[Severity, ...], Meta(min_length=1)] = SEVERITIES
    seed: int = 0
    frost: str | None = None

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in (*CORRUPTIONS, SYNTHETIC_FROST):
                raise RequestError(f"unknown corruption '{name}' (choose {listed((*CORRUPTIONS, SYNTHETIC_FROST))})")
        if "frost" in self.names and self.frost is None:
            raise RequestError(
                "corruption frost is made of photographs of frost, which are not ours to ship: set "
                f"frost=FOLDER, or choose {SYNTHETIC_FROST}, which is drawn and not the published one"
            )
