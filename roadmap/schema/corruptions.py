"""The corruptions of ImageNet-C (Hendrycks & Dietterich, arXiv:1903.12261) and a selection of them."""

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
# the published frost uses photographs that we may not distribute; this one is drawn, and differs from it
SYNTHETIC_FROST = "frost_synthetic"
WITHOUT_PHOTOGRAPHS = tuple(SYNTHETIC_FROST if name == "frost" else name for name in CORRUPTIONS)


class Corruptions(Record):
    """Corruptions and severities to evaluate. ``seed`` fixes their noise; ``frost`` is a folder of photographs."""

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
                "corruption frost needs the photographs of its authors: set frost=FOLDER, or choose "
                f"{SYNTHETIC_FROST}, which is drawn and differs from the published corruption"
            )
