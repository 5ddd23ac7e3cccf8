"""Image files on their way to the network: Pillow's pixels, torchvision's crops and operations."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from roadmap.config.compose import compose
from roadmap.data.image import (
    EvalImageTransform,
    TrainImageTransform,
    UndecodableError,
    decode,
    eval_crop,
    operations,
)
from roadmap.data.randaugment import OPERATIONS
from roadmap.schema.experiment import EvalTransform

ENHANCED = compose(["recipe=enhanced", "data=imagenet", "data.root=x", "regime=tiny"]).recipe.augment
MEAN = (0.485, 0.456, 0.406)
EVALUATION = EvalTransform(image_size=224, crop_ratio=0.875, interpolation="bicubic", mean=MEAN, std=(1, 1, 1))
PHOTOS = {name: Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")}


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("name", [name for name in v2.RandAugment._AUGMENTATION_SPACE if name != "Identity"])
def test_each_operation_equals_torchvisions(name: str) -> None:
    """With torchvision's bilinear resampling and black; timm's are in test_randaugment.py."""
    # not of the full range of greys, or AutoContrast would have nothing to do
    image = PHOTOS["china"].crop((100, 50, 324, 250)).point(lambda value: 20 + value * 0.8)
    ours = operations("bilinear", (0, 0, 0))[OPERATIONS.index(name)]
    table, signed = v2.RandAugment._AUGMENTATION_SPACE[name]
    magnitudes = table(101, image.height, image.width)
    reference = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)
    for strength in (3, 30, -30, 100, -100) if signed else (3, 30, 90, 100):
        magnitude = 0.0 if magnitudes is None else np.sign(strength) * float(magnitudes[abs(strength)])
        wanted = np.array(
            reference._apply_image_or_video_transform(
                image, name, magnitude, interpolation=reference.interpolation, fill=reference._fill
            )
        )
        argument = {"Solarize": 255 * magnitude, "TranslateX": -int(magnitude), "TranslateY": -int(magnitude)}
        factor = name in ("Color", "Contrast", "Brightness", "Sharpness")
        pixels = ours(np.array(image), argument.get(name, 1 + magnitude if factor else magnitude))
        difference = np.abs(pixels.astype(int) - wanted.astype(int))
        assert (pixels.shape, pixels.dtype) == ((200, 224, 3), np.uint8)
        # torchvision rounds the matrices of geometric operations otherwise
        assert difference.max() <= (name in ("ShearX", "ShearY", "Rotate"))
        assert difference.mean() < 0.03
        if abs(strength) >= 30:
            assert (pixels != np.array(image)).any(), "it does something"


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 40)])
def test_operations_accept_tiny_and_constant_images(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    grey = np.full((*shape, 3), 77, np.uint8)
    for interpolation in ("bilinear", "bicubic"):
        for place, operation in operations(interpolation, (1, 2, 3)).items():
            for argument in (0.25, 1.0, 3.0):
                result = operation(pixels, argument)
                assert (result.shape, result.dtype) == (pixels.shape, pixels.dtype), OPERATIONS[place]
            if OPERATIONS[place] in ("AutoContrast", "Equalize"):
                assert np.array_equal(operation(grey, 0.0), grey)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_are_resized_as_by_pillow(interpolation: str) -> None:
    recipe = ENHANCED.replace(randaugment=None, interpolation=interpolation)
    for photo in PHOTOS.values():
        data = encoded(photo, quality=90)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for seed in range(10):
            torch.manual_seed(seed)
            transform = TrainImageTransform(recipe, 96, MEAN)
            ours = transform(data)
            torch.manual_seed(seed)
            *box, mirrored = transform.draw_crop(image.height, image.width)
            wanted = F.resized_crop(image, *box, [96, 96], v2.InterpolationMode(interpolation))
            wanted = F.pil_to_tensor(F.horizontal_flip(wanted) if mirrored else wanted)
            assert (ours.int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (40, 400), (400, 40)])
def test_crops_are_distributed_as_torchvisions(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    transform = TrainImageTransform(ENHANCED, 224, MEAN)
    ours = np.array([transform.draw_crop(*size) for _ in range(4000)])
    crop, image = v2.RandomResizedCrop(224, ENHANCED.crop_scale, ENHANCED.crop_aspect), torch.empty(3, *size)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([[box[name] for name in ("top", "left", "height", "width")] for box in drawn])
    for measure in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0], lambda b: b[:, 1]):
        assert ks_2samp(measure(ours), measure(theirs), method="asymp").pvalue > 0.001
    assert ours[:, 4].mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (60, 300), (333, 257)])
def test_eval_transform_equals_torchvisions(size: tuple[int, int]) -> None:
    data = encoded(PHOTOS["flower"].resize(size), quality=95)
    reference = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()])
    wanted = reference(Image.open(io.BytesIO(data)).convert("RGB"))
    ours = EvalImageTransform(EVALUATION)(data)
    assert ours.shape == wanted.shape == (3, 224, 224)
    difference = (ours.int() - wanted.int()).abs()
    # both passes of the resampling are rounded
    assert difference.max() <= 2
    assert difference.float().mean() < 0.05


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 500)])
def test_squeezed_images_are_those_of_the_authors(size: tuple[int, int]) -> None:
    """From 384 pixels on, their ``build_transform`` resizes both sides to the image size and crops nothing."""
    data = encoded(PHOTOS["flower"].resize(size), quality=95)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    wanted = F.pil_to_tensor(v2.Resize((384, 384), v2.InterpolationMode.BICUBIC)(image)).int()
    recipe = compose(["recipe=finetune_22k_384", "data=imagenet", "data.root=x", "regime=tiny"]).recipe
    transform = EVALUATION.replace(image_size=384, crop_ratio=recipe.eval_crop_ratio, resize=recipe.eval_resize)
    in_memory = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    for ours in (EvalImageTransform(transform)(data), eval_crop(transform)(in_memory)[0]):
        difference = (ours.int() - wanted).abs().float()
        # the values between the two passes are rounded and clipped, and Pillow enlarges and shrinks in another order
        assert difference.mean() < 0.1
        assert (difference > 2).float().mean() < 1e-4


def test_seed_determines_the_training_image() -> None:
    transform, data = TrainImageTransform(ENHANCED, 64, MEAN), encoded(PHOTOS["china"])

    def drawn(seed: int) -> torch.Tensor:
        torch.default_generator.manual_seed(seed)
        return transform(data)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


SMALL = PHOTOS["china"].crop((0, 0, 60, 45))
ROTATED = Image.Exif()
ROTATED[0x0112] = 6


@pytest.mark.parametrize(
    "data",
    [
        encoded(SMALL),
        encoded(SMALL, progressive=True),
        encoded(SMALL, subsampling=0, quality=100),
        encoded(SMALL.convert("L")),
        encoded(SMALL.convert("CMYK")),
        encoded(SMALL, exif=ROTATED),
        encoded(SMALL) + b"\0\0",
        b"\xff\xd8\xff\xff" + encoded(SMALL)[2:],  # a marker may begin with more bytes 0xFF
        encoded(SMALL, "PNG"),
        encoded(SMALL.convert("RGBA"), "PNG"),
        encoded(SMALL.convert("P"), "PNG"),
        encoded(SMALL.convert("1"), "PNG"),
        encoded(Image.fromarray(np.arange(2700, dtype=np.uint16).reshape(45, 60) * 20), "PNG"),
        encoded(SMALL, "WEBP", lossless=True),
        encoded(SMALL, "BMP"),
        encoded(SMALL, "GIF"),
        encoded(SMALL.resize((1, 1)), "PNG"),
        encoded(SMALL.resize((3, 500))),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_decoding_equals_pillows_for_all_formats(data: bytes) -> None:
    wanted = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(decode(data), wanted)
    assert TrainImageTransform(ENHANCED, 32, MEAN)(data).shape == (3, 32, 32)
    assert EvalImageTransform(EVALUATION.replace(image_size=32))(data).shape == (3, 32, 32)


def test_truncated_and_other_bytes_are_refused() -> None:
    whole = encoded(PHOTOS["china"])
    truncated = [whole[: int(len(whole) * share)] for share in (0.01, 0.3, 0.99)]
    for data in (*truncated, b"", b"\xff\xd8\xff\xd9", b"GIF89a", b"text", bytes(1000)):
        with pytest.raises(UndecodableError, match=r"^.+$"):
            decode(data)
