"""The corruptions, compared with slower reimplementations of their published definitions on real images."""

import colorsys
import io
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_image

from roadmap.data.corruption_filters import constants, directional_blur, zoom_in
from roadmap.data.corruptions import Corruption, corrupt, plasma
from roadmap.errors import RequestError
from roadmap.schema.corruptions import CORRUPTIONS, SYNTHETIC_FROST, Corruptions
from tests.data.published_corruptions import CIFAR10_C, IMAGENET_C

EVERY = (*CORRUPTIONS, SYNTHETIC_FROST)
NOT_DRAWN = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


def photo(height: int, width: int) -> np.ndarray:
    part = load_sample_image("flower.jpg")[:427, 100:527]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)


SMALL, LARGE = photo(32, 32), photo(224, 224)
BOTH = pytest.mark.parametrize("image", [SMALL, LARGE], ids=["32", "224"])


def to_pixels(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def assert_alike(ours: np.ndarray, theirs: np.ndarray, most: int = 1, mean: float = 0.3) -> None:
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= most
    assert difference.mean() <= mean


@pytest.fixture(scope="module")
def frost_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two photographs instead of the published five, one of them smaller than the largest image."""
    folder = tmp_path_factory.mktemp("frost")
    for name, size in (("a.png", 100), ("b.jpg", 300)):
        cv2.imwrite(str(folder / name), cv2.resize(load_sample_image("china.jpg"), (size, size)))
    return str(folder)


@pytest.mark.parametrize("name", EVERY)
def test_seed_determines_every_corruption_at_any_size(name: str, frost_folder: str) -> None:
    for image in (photo(8, 8), photo(32, 32), photo(40, 64), photo(150, 100)):
        before = image.copy()
        for severity in (1, 5):
            one, again, other = (
                corrupt(image, name, severity, np.random.default_rng(seed), frost_folder) for seed in (0, 0, 1)
            )
            assert (one.shape, one.dtype) == (image.shape, np.uint8)
            assert np.array_equal(one, again)
            assert np.array_equal(image, before)
            drawn = not np.array_equal(one, other)
        assert not np.array_equal(one, image)
    assert drawn == (name not in NOT_DRAWN)


@BOTH
def test_constants_equal_the_published_ones(image: np.ndarray) -> None:
    published = {224: IMAGENET_C, 32: CIFAR10_C}[len(image)]
    for name in CORRUPTIONS:
        lengths = len(image) if name == "elastic_transform" else 1
        for severity in range(1, 6):
            expected = np.atleast_1d(published[name][severity - 1])
            assert lengths * np.array(constants(name, severity, image)) == pytest.approx(expected)


def test_image_uses_the_constants_of_the_nearer_size() -> None:
    for side, deviation in ((84, 0.08), (85, 0.18), (64, 0.08), (299, 0.18)):
        image = np.full((side, 2 * side, 3), 128, np.uint8)
        noise = corrupt(image, "gaussian_noise", 3, np.random.default_rng(0)).astype(float) / 255
        assert noise.std() == pytest.approx(deviation, rel=0.05)


def test_each_image_has_its_own_random_numbers() -> None:
    image = torch.from_numpy(SMALL).permute(2, 0, 1)
    first, seeded = (Corruption(Corruptions(seed=seed), "gaussian_noise", 3) for seed in (0, 1))
    assert torch.equal(first(image, 5), first(image, 5))
    assert not torch.equal(first(image, 5), first(image, 6))
    assert not torch.equal(first(image, 5), seeded(image, 5))


@BOTH
def test_noises_have_their_published_strength(image: np.ndarray) -> None:
    grey = np.full((200, 200, 3), 102, np.uint8) if len(image) == 224 else np.full((80, 800, 3), 102, np.uint8)
    for severity in (1, 4):
        noisy = {
            name: corrupt(grey, name, severity, np.random.default_rng(0)).astype(float) / 255
            for name in ("shot_noise", "impulse_noise")
        }
        # a Poisson variable's variance is its mean; what is above white is cut off
        (photons,) = constants("shot_noise", severity, image)
        assert noisy["shot_noise"].mean() == pytest.approx(0.4, abs=0.01)
        shot = np.random.default_rng(1).poisson(0.4 * photons, 200_000) / photons
        assert noisy["shot_noise"].std() == pytest.approx(np.clip(shot, 0, 1).std(), rel=0.03)
        (share,) = constants("impulse_noise", severity, image)
        assert (noisy["impulse_noise"] == 0).mean() == pytest.approx(share / 2, rel=0.1)
        assert (noisy["impulse_noise"] == 1).mean() == pytest.approx(share / 2, rel=0.1)


@BOTH
@pytest.mark.parametrize("severity", [1, 5])
def test_defocus_is_a_disk(image: np.ndarray, severity: int) -> None:
    radius, smoothing = constants("defocus_blur", severity, image)
    reach, cut = (8, 1) if radius <= 8 else (radius, 2)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(float)
    disk = ndimage.gaussian_filter(disk / disk.sum(), smoothing, truncate=cut / smoothing, mode="mirror")
    theirs = np.stack([ndimage.correlate(image[..., c] / 255, disk, mode="mirror") for c in range(3)], 2)
    assert_alike(corrupt(image, "defocus_blur", severity, np.random.default_rng(0)), to_pixels(theirs))


@BOTH
@pytest.mark.parametrize("severity", [1, 5])
def test_zoom_blur_is_the_mean_of_zooms(image: np.ndarray, severity: int) -> None:
    end, step = constants("zoom_blur", severity, image)
    values, zooms = image / 255, np.arange(1, end, step)
    total = values + sum(enlarged_middle(values, zoom) for zoom in zooms)
    ours = corrupt(image, "zoom_blur", severity, np.random.default_rng(0))
    assert_alike(ours, to_pixels(total / (len(zooms) + 1)))


@BOTH
def test_glass_blur_moves_pixels_one_after_another(image: np.ndarray) -> None:
    side, severity = len(image), 3
    deviation, reach, times = constants("glass_blur", severity, image)

    def blurred(values: np.ndarray) -> np.ndarray:
        return np.clip(ndimage.gaussian_filter(values, (deviation, deviation, 0), mode="nearest"), 0, 1)

    pixels, draws = to_pixels(blurred(image / 255)), np.random.default_rng(0)
    for _ in range(times):
        rows = range(side - reach, reach, -1)
        down, right = (part.reshape(len(rows), -1) for part in draws.integers(-reach, reach, (2, len(rows) ** 2)))
        for i, y in enumerate(rows):
            for j, x in enumerate(rows):
                pixels[y, x] = pixels[y + down[i, j], x + right[i, j]]
    theirs = to_pixels(blurred(pixels / 255))
    # a pixel on the edge of a grey level may fall to the other side and be carried on
    assert_alike(corrupt(image, "glass_blur", severity, np.random.default_rng(0)), theirs, most=2)


@pytest.mark.parametrize("degrees", [-45, -120, 0, 33.3])
def test_directional_blur_is_half_a_gaussian(degrees: float) -> None:
    values, radius, deviation = photo(40, 60).astype(np.float32), 10, 3
    weights = np.exp(-(np.arange(21) ** 2) / (2 * deviation**2))
    theirs = np.zeros_like(values)
    padded = np.pad(values, ((21, 21), (21, 21), (0, 0)), mode="edge")
    for step, weight in enumerate(weights / weights.sum()):
        x = math.ceil(step * math.cos(math.radians(degrees)) - 0.5)
        y = math.ceil(step * math.sin(math.radians(degrees)) - 0.5)
        theirs += weight * padded[21 + y : 61 + y, 21 + x : 81 + x]
    np.testing.assert_allclose(directional_blur(values, radius, deviation, degrees), theirs, atol=0.01)


@BOTH
@pytest.mark.parametrize("severity", [1, 3])
def test_elastic_transform_equals_scipys(image: np.ndarray, severity: int) -> None:
    side, draws = len(image), np.random.default_rng(0)
    strength, smoothness, move = (side * share for share in constants("elastic_transform", severity, image))
    centre, reach = side // 2, side // 3
    corners = np.float32([[centre + reach] * 2, [centre + reach, centre - reach], [centre - reach] * 2])
    moved = corners + draws.uniform(-move, move, (3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    affine = cv2.warpAffine(np.float32(image / 255), matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    noise = draws.uniform(-1, 1, (2, side, side))
    if smoothness:
        noise = np.stack([ndimage.gaussian_filter(part, smoothness, mode="reflect", truncate=3) for part in noise])
    down, right = strength * noise
    rows, columns = np.mgrid[:side, :side]
    theirs = np.stack(
        [
            ndimage.map_coordinates(affine[..., c], (rows + down, columns + right), order=1, mode="reflect")
            for c in range(3)
        ],
        axis=2,
    )
    # OpenCV's positions are thirty-seconds of a pixel
    ours = corrupt(image, "elastic_transform", severity, np.random.default_rng(0))
    assert_alike(ours, to_pixels(theirs), most=8, mean=0.5)


@BOTH
@pytest.mark.parametrize("severity", [1, 5])
def test_brightness_and_contrast_equal_hsv_definitions(image: np.ndarray, severity: int) -> None:
    hsv = np.apply_along_axis(lambda pixel: colorsys.rgb_to_hsv(*pixel), 2, image / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + constants("brightness", severity, image)[0], 0, 1)
    brighter = np.apply_along_axis(lambda pixel: colorsys.hsv_to_rgb(*pixel), 2, hsv)
    assert_alike(corrupt(image, "brightness", severity, np.random.default_rng(0)), to_pixels(brighter))
    means = (image / 255).mean((0, 1), keepdims=True)
    theirs = (image / 255 - means) * constants("contrast", severity, image)[0] + means
    assert_alike(corrupt(image, "contrast", severity, np.random.default_rng(0)), to_pixels(theirs))
    black = np.zeros_like(image)
    level = int(255 * constants("brightness", severity, image)[0])
    assert np.unique(corrupt(black, "brightness", severity, np.random.default_rng(0))) == pytest.approx([level], abs=1)


@BOTH
@pytest.mark.parametrize("severity", [1, 5])
def test_pixelate_and_jpeg_equal_pillows(image: np.ndarray, severity: int) -> None:
    side = len(image)
    small = int(side * constants("pixelate", severity, image)[0])
    boxes = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
    theirs = np.array(boxes.resize((side, side), Image.Resampling.BOX))
    assert np.array_equal(corrupt(image, "pixelate", severity, np.random.default_rng(0)), theirs)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=constants("jpeg_compression", severity, image)[0])
    theirs = np.array(Image.open(file))
    assert_alike(corrupt(image, "jpeg_compression", severity, np.random.default_rng(0)), theirs)


def test_plasma_equals_the_diamond_square_algorithm() -> None:
    size, fading = 16, 2.5
    draws, heights = np.random.default_rng(0), np.zeros((size, size))
    step, noise = size, 100.0
    while step >= 2:
        half = step // 2
        # the middle of each square, then the middles of the edges between its corners
        for top, left, around in (
            (half, half, ((-half, -half), (-half, half), (half, -half), (half, half))),
            (0, half, ((-half, 0), (half, 0), (0, -half), (0, half))),
            (half, 0, ((-half, 0), (half, 0), (0, -half), (0, half))),
        ):
            drawn = draws.uniform(-noise, noise, (size // step, size // step))
            for i, y in enumerate(range(top, size, step)):
                for j, x in enumerate(range(left, size, step)):
                    mean = sum(heights[(y + dy) % size, (x + dx) % size] for dy, dx in around) / 4
                    heights[y, x] = mean + noise * drawn[i, j]
        step, noise = half, noise / fading
    heights -= heights.min()
    np.testing.assert_allclose(plasma(size, fading, np.random.default_rng(0)), heights / heights.max(), atol=1e-6)


def test_fog_equals_its_formula() -> None:
    thickness, fading = constants("fog", 3, SMALL)
    clouds = plasma(32, fading, np.random.default_rng(0))[..., None]
    values = SMALL / 255
    theirs = (values + thickness * clouds) * values.max() / (values.max() + thickness)
    assert_alike(corrupt(SMALL, "fog", 3, np.random.default_rng(0)), to_pixels(theirs))


def enlarged_middle(values: np.ndarray, zoom: float) -> np.ndarray:
    """The release's zoom by scipy: a middle cut enlarged, what is over trimmed off."""
    side = len(values)
    cut = math.ceil(side / zoom)
    top = (side - cut) // 2
    enlarged = ndimage.zoom(values[top : top + cut, top : top + cut], (zoom, zoom, 1), order=1)
    trim = (len(enlarged) - side) // 2
    return enlarged[trim : trim + side, trim : trim + side]


@pytest.mark.parametrize("zoom", [1, 1.25, 1.75, 2.5, 3, 4.5])
def test_zoom_in_equals_scipys_zoom(zoom: float) -> None:
    for side in (32, 50, 224):
        values = photo(side, side).astype(np.float32) / 255
        # OpenCV's positions are thirty-seconds of a pixel
        np.testing.assert_allclose(zoom_in(values, zoom), enlarged_middle(values, zoom), atol=0.02)


@BOTH
@pytest.mark.parametrize("severity", [2, 5])
def test_snow_equals_its_definition(image: np.ndarray, severity: int) -> None:
    mean, deviation, zoom, least, radius, spread, kept = constants("snow", severity, image)
    draws, values = np.random.default_rng(0), image / 255
    flakes = mean + deviation * draws.standard_normal(image.shape[:2], np.float32)[..., None]
    flakes = enlarged_middle(flakes, zoom)[..., 0]
    flakes[flakes < least] = 0
    falling = directional_blur(to_pixels(flakes).astype(np.float32), radius, spread, draws.uniform(-135, -45)).round()[
        ..., None
    ]
    whitened = np.maximum(values, (values @ [0.299, 0.587, 0.114])[..., None] * 1.5 + 0.5)
    theirs = kept * values + (1 - kept) * whitened + falling / 255 + np.rot90(falling, 2) / 255
    ours = corrupt(image, "snow", severity, np.random.default_rng(0))
    # a flake at the least value may count in one and not in the other
    assert_alike(ours, to_pixels(theirs), most=60, mean=0.5)


@BOTH
def test_frost_mixes_in_photographs_with_published_weights(image: np.ndarray, tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), (200, 100, 40)).save(tmp_path / "plain.png")
    kept, strength = constants("frost", 4, image)
    theirs = np.clip(kept * image.astype(float) + strength * np.array([200, 100, 40]), 0, 255).astype(np.uint8)
    assert_alike(corrupt(image, "frost", 4, np.random.default_rng(0), str(tmp_path)), theirs)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"names": ("fog", "frost")}, r"set frost=FOLDER, or choose frost_synthetic"),
        ({"names": ("fogg",)}, r"unknown corruption 'fogg' \(choose gaussian_noise, "),
        ({"severities": (0,)}, r"corruptions.severities\[0\] must be at least 1 \(got 0\)"),
        ({"names": ()}, "corruptions.names must be a list of length at least 1"),
    ],
)
def test_invalid_corruption_requests_are_refused(request_: dict, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Corruptions.from_mapping(request_)
