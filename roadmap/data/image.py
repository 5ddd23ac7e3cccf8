"""One encoded image file into the pixels that a network is trained or evaluated on."""

import io

from PIL import Image
from torch import Tensor

from roadmap.augment import evaluation_transform, image_transform
from roadmap.recipe import AugmentRecipe


class UndecodableImage(ValueError):  # noqa: N818
    """Bytes that are no whole image."""


def decoded(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise UndecodableImage(" ".join(str(error).split())) from error


class TrainingImage:
    def __init__(self, recipe: AugmentRecipe, image_size: int):
        self.transform = image_transform(recipe, image_size)

    def __call__(self, data: bytes) -> Tensor:
        return self.transform(decoded(data))


class EvaluationImage:
    def __init__(self, image_size: int, crop_ratio: float, interpolation: str):
        self.transform = evaluation_transform(image_size, crop_ratio, interpolation)

    def __call__(self, data: bytes) -> Tensor:
        return self.transform(decoded(data))
