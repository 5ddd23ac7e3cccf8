"""ImageNet-C's fifteen corruptions (Hendrycks & Dietterich, arXiv:1903.12261): their names, and a request for some."""

from dataclasses import dataclass

from roadmap.checked import Checked, listed
from roadmap.errors import RequestError

# in the paper's order and groups
GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
CORRUPTIONS = tuple(name for group in GROUPS.values() for name in group)
SEVERITIES = (1, 2, 3, 4, 5)
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


@dataclass(frozen=True)
class Corruptions(Checked):
    """Which corruptions at which severities, drawn from ``seed``; ``frost`` is a folder of photographs of frost."""

    place = "corruptions"

    names: tuple[str, ...] = WITHOUT_PHOTOGRAPHS
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0
    frost: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.names:
            if name not in (*CORRUPTIONS, SYNTHETIC_FROST):
                raise RequestError(f"unknown corruption '{name}'; choose {listed((*CORRUPTIONS, SYNTHETIC_FROST))}")
        for severity in self.severities:
            if severity not in SEVERITIES:
                raise RequestError(f"severity {severity} is out of range; choose 1 to 5")
        for key in ("names", "severities"):
            if not getattr(self, key):
                raise RequestError(f"corruptions.{key} is empty; it wants at least one")
        if "frost" in self.names and self.frost is None:
            raise RequestError(
                "corruption frost is made of photographs of frost, which are not ours to ship: set "
                f"frost=FOLDER, or choose {SYNTHETIC_FROST}, which is drawn and not the published one"
            )
