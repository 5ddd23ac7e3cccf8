"""Image files on their way to the network: Pillow's pixels, torchvision's odds and operations."""

import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from roadmap.config.compose import compose
from roadmap.data.augment import TRIES, RandAugment
from roadmap.data.image import EvalImageTransform, TrainImageTransform, UndecodableError, crop_box, decode
from roadmap.data.randaugment import OPERATIONS, ArrayRandAugment

ENHANCED = compose(["recipe=enhanced", "data=imagenet", "data.root=x", "regime=tiny"]).recipe.augment
PHOTOS = {name: Image.fromarray(load_sample_image(f"{name}.jpg")) for name in ("china", "flower")}


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# Mean and largest difference in grey levels from torchvision's operation on a PIL image. A table of values is exact but
# for Pillow's float32; sums are rounded once instead of twice; bilinear weights have 5 bits in cv2, and at the edge of
# what is moved in cv2 fades to black where Pillow stops.
TOLERANCES = {
    **dict.fromkeys(["Identity", "Posterize", "Solarize", "Equalize", "TranslateX", "TranslateY"], (0, 0)),
    **dict.fromkeys(["Brightness", "Contrast", "AutoContrast"], (0.3, 1)),
    **dict.fromkeys(["Color", "Sharpness"], (0.8, 2)),
    **dict.fromkeys(["ShearX", "ShearY", "Rotate"], (1.2, 255)),
}


@pytest.mark.parametrize("photo", ["china", "flower"])
@pytest.mark.parametrize("operation", list(OPERATIONS))
@pytest.mark.parametrize("strength", [3, 30, 90, 100])
@pytest.mark.parametrize("sign", [1, -1])
def test_each_operation_equals_torchvisions(photo: str, operation: str, strength: int, sign: int) -> None:
    # not of the full range of greys, or AutoContrast would have nothing to do
    image = PHOTOS[photo].crop((100, 50, 324, 250)).point(lambda value: 20 + value * 0.8)
    table, signed = RandAugment._AUGMENTATION_SPACE[operation]
    if sign < 0 and not signed:
        pytest.skip("of one sign only")
    magnitudes = table(101, image.height, image.width)
    magnitude = 0.0 if magnitudes is None else sign * float(magnitudes[strength])
    reference = v2.RandAugment(interpolation=v2.InterpolationMode.BILINEAR)
    wanted = reference._apply_image_or_video_transform(
        image, operation, magnitude, interpolation=reference.interpolation, fill=reference._fill
    )
    ours = OPERATIONS[operation](np.array(image), magnitude)
    difference = np.abs(ours.astype(int) - np.array(wanted).astype(int))
    mean, largest = TOLERANCES[operation]
    assert ours.shape == (200, 224, 3)
    assert ours.dtype == np.uint8
    assert difference.mean() <= mean
    assert difference.max() <= largest
    if operation != "Identity" and abs(strength) >= 30:
        assert (ours != np.array(image)).any(), "it does something"


def test_all_of_torchvisions_operations_exist() -> None:
    assert list(OPERATIONS) == list(RandAugment._AUGMENTATION_SPACE)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (1, 40)])
def test_operations_accept_tiny_images(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for name, operation in OPERATIONS.items():
        table, _ = RandAugment._AUGMENTATION_SPACE[name]
        magnitudes = table(101, *shape)
        result = operation(pixels, 0.0 if magnitudes is None else float(magnitudes[90]))
        assert (result.shape, result.dtype) == (pixels.shape, pixels.dtype), name


def test_constant_images_are_unchanged_as_in_torchvision() -> None:
    grey = np.full((20, 20, 3), 77, np.uint8)
    for name in ("AutoContrast", "Equalize"):
        assert np.array_equal(OPERATIONS[name](grey, 0.0), grey)


def test_operations_and_strengths_are_distributed_as_defined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which operation, how strong and with which sign, over 6,000 draws."""
    drawn: list[tuple[str, float]] = []
    assert ENHANCED.randaugment is not None
    ours = ArrayRandAugment(ENHANCED.randaugment.replace(probability=1.0), "bilinear")
    monkeypatch.setattr(
        ArrayRandAugment, "apply", lambda self, image, name, magnitude: drawn.append((name, magnitude)) or image
    )
    image = torch.zeros(3, 224, 224, dtype=torch.uint8)
    torch.manual_seed(0)
    for _ in range(6000):
        ours(image)
    counts = Counter(name for name, _ in drawn)
    assert set(counts) == set(OPERATIONS)
    # 429 each is expected; four standard deviations are 80
    assert all(abs(count - 6000 / 14) < 80 for count in counts.values())
    shears = np.array([magnitude for name, magnitude in drawn if name == "ShearX"])
    assert abs((shears > 0).mean() - 0.5) < 0.1
    # N(9, 0.5) cut off at 10, on a range of 0.3
    rng = np.random.default_rng(0)
    wanted = 0.3 * np.clip(rng.normal(9, 0.5, 6000), 0, 10) / 10
    assert ks_2samp(np.abs(shears), wanted).pvalue > 0.001
    assert np.abs(shears).mean() == pytest.approx(0.27, abs=0.002)


def coordinates() -> Image.Image:
    """Two channels that say where a pixel is, so that an output tells its crop."""
    rows, columns = np.mgrid[0:250, 0:250].astype(np.uint8)
    return Image.fromarray(np.stack([rows, columns, rows], 2))


def boxes(images: list[np.ndarray]) -> np.ndarray:
    """Top, left, height, width, mirrored of what each image of coordinates shows, (N, 5)."""
    rows = []
    for image in images:
        image = image.astype(float)
        top, bottom = image[0, :, 0].mean(), image[-1, :, 0].mean()
        left, right = image[:, 0, 1].mean(), image[:, -1, 1].mean()
        rows.append([top, min(left, right), bottom - top, abs(right - left), left > right])
    return np.array(rows)


def test_crops_and_flips_are_distributed_as_in_torchvision() -> None:
    """Where, how large, which aspect and mirrored how often: two-sample tests over 1,500 crops of each."""
    recipe = ENHANCED.replace(randaugment=None)
    data, image = encoded(coordinates(), "PNG"), coordinates()
    ours = TrainImageTransform(recipe, 64)
    bicubic = v2.InterpolationMode.BICUBIC
    theirs = v2.Compose([v2.RandomResizedCrop(64, interpolation=bicubic), v2.RandomHorizontalFlip()])
    torch.manual_seed(0)
    drawn = boxes([ours(data).permute(1, 2, 0).numpy() for _ in range(1500)])
    wanted = boxes([np.array(theirs(image)) for _ in range(1500)])
    for column in range(4):
        assert ks_2samp(drawn[:, column], wanted[:, column]).pvalue > 0.001
    area, aspect = (lambda b: b[:, 2] * b[:, 3]), (lambda b: np.log(b[:, 3] / b[:, 2]))
    assert ks_2samp(area(drawn), area(wanted)).pvalue > 0.001
    assert ks_2samp(aspect(drawn), aspect(wanted)).pvalue > 0.001
    assert drawn[:, 4].mean() == pytest.approx(0.5, abs=0.05)
    # the test can fail: crops of a quarter at least are others
    narrower = TrainImageTransform(recipe.replace(crop_scale=(0.25, 1.0)), 64)
    other = boxes([narrower(data).permute(1, 2, 0).numpy() for _ in range(500)])
    assert ks_2samp(area(other), area(wanted)).pvalue < 1e-6


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_are_resized_as_by_pillow(interpolation: str) -> None:
    recipe = ENHANCED.replace(randaugment=None, interpolation=interpolation)
    for photo in PHOTOS.values():
        data = encoded(photo, quality=90)
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for seed in range(10):
            torch.manual_seed(seed)
            ours = TrainImageTransform(recipe, 96)(data)
            torch.manual_seed(seed)
            flip, *draws = torch.rand(3 + 2 * TRIES).tolist()
            top, left, height, width = crop_box(image.height, image.width, recipe, draws)
            wanted = F.resized_crop(image, top, left, height, width, [96, 96], v2.InterpolationMode(interpolation))
            wanted = F.pil_to_tensor(F.horizontal_flip(wanted) if flip < 0.5 else wanted)
            assert (ours.int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize("size", [(1000, 20), (20, 1000), (3, 1), (200, 100)])
def test_narrow_images_give_torchvisions_centre_crop(size: tuple[int, int]) -> None:
    height, width = size
    recipe = ENHANCED.replace(crop_scale=(0.9, 1.0))
    draws = torch.rand(2 + 2 * TRIES, generator=torch.Generator().manual_seed(0)).tolist()
    crop = v2.RandomResizedCrop(8, recipe.crop_scale, recipe.crop_aspect)
    wanted = crop.make_params([torch.empty(3, height, width)])
    assert crop_box(height, width, recipe, draws) == tuple(wanted[key] for key in ("top", "left", "height", "width"))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 224), (60, 300), (333, 257)])
def test_eval_transform_equals_torchvisions(size: tuple[int, int]) -> None:
    data = encoded(PHOTOS["flower"].resize(size), quality=95)
    reference = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224), v2.PILToTensor()])
    wanted = reference(Image.open(io.BytesIO(data)).convert("RGB"))
    ours = EvalImageTransform(224, 0.875, "bicubic")(data)
    assert ours.shape == wanted.shape == (3, 224, 224)
    difference = (ours.int() - wanted.int()).abs()
    # both passes of the resampling are rounded
    assert difference.max() <= 2
    assert difference.float().mean() < 0.05


def test_seed_determines_the_training_image() -> None:
    transform, data = TrainImageTransform(ENHANCED, 64), encoded(PHOTOS["china"])

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
    assert TrainImageTransform(ENHANCED, 32)(data).shape == (3, 32, 32)
    assert EvalImageTransform(32, 0.875, "bicubic")(data).shape == (3, 32, 32)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.99])
def test_truncated_files_are_refused(share: float) -> None:
    data = encoded(PHOTOS["china"])
    with pytest.raises(UndecodableError, match=r"\w+") as error:
        decode(data[: int(len(data) * share)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xd8\xff\xd9", b"GIF89a", b"text", bytes(1000)])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UndecodableError):
        decode(data)
