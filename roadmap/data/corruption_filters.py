"""The corruptions of ImageNet-C and CIFAR-10-C (arXiv:1903.12261) without the weather, of one image uint8 (H, W, 3).

Vectorised versions of the released code: equal without randomness, equal in distribution with it. A function has the
name of its corruption and takes the image, a random generator and the corruption's constants. Lengths are in pixels,
as published, except in the elastic transform, where they are relative to the side.
"""

import math
from functools import cache

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from roadmap.data.image import Pixels

Values = np.ndarray  # float32 (H, W, 3) or (H, W), 0 to 1
Random = np.random.Generator

# constants at severities 1 to 5, for 224 pixels
IMAGENET_C: dict[str, tuple] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
    "shot_noise": (60, 25, 12, 5, 3),
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "snow": (
        *((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7)),
        *((0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)),
    ),
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
    "elastic_transform": tuple(
        tuple(244 / 224 * share for share in shares)  # the release uses 244 for 224 pixels
        for shares in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
    ),
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (25, 18, 15, 10, 7),
}
CIFAR10_C: dict[str, tuple] = {  # for 32 pixels
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
    "snow": (
        *((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9)),
        *((0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
}


def uses_imagenet_constants(pixels: Pixels) -> bool:
    """Whether the shorter side is nearer to 224 than to 32 pixels, in ratio."""
    return min(pixels.shape[:2]) > math.sqrt(224 * 32)


def constants(name: str, severity: int, pixels: Pixels) -> tuple:
    """A corruption's constants at a severity of 1 to 5 for an image of this size."""
    values = (IMAGENET_C if uses_imagenet_constants(pixels) else CIFAR10_C)[name][severity - 1]
    return values if isinstance(values, tuple) else (values,)


def as_values(pixels: Pixels) -> Values:
    return pixels.astype(np.float32) / 255


def as_pixels(values: Values) -> Pixels:
    """Clip and truncate to uint8, as the release does."""
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def gaussian_noise(pixels: Pixels, random: Random, deviation: float) -> Pixels:
    return as_pixels(as_values(pixels) + deviation * random.standard_normal(pixels.shape, np.float32))


def shot_noise(pixels: Pixels, random: Random, photons: float) -> Pixels:
    return as_pixels(random.poisson(as_values(pixels) * photons) / photons)


def impulse_noise(pixels: Pixels, random: Random, share: float) -> Pixels:
    drawn = random.random(pixels.shape, np.float32)
    result = pixels.copy()
    result[drawn < share] = 255
    result[drawn < share / 2] = 0
    return result


def defocus_blur(pixels: Pixels, _: Random, radius: float, alias_blur: float) -> Pixels:
    return as_pixels(cv2.filter2D(as_values(pixels), -1, disk(radius, alias_blur)))


@cache
def disk(radius: float, alias_blur: float) -> Values:
    """A disk kernel with a smoothed edge; it sums to one."""
    reach = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    inside = (reach**2 + reach[:, None] ** 2 <= radius**2).astype(np.float32)
    width = 3 if radius <= 8 else 5
    return cv2.GaussianBlur(inside / inside.sum(), (width, width), alias_blur)


def glass_blur(pixels: Pixels, random: Random, deviation: float, reach: int, iterations: int) -> Pixels:
    height, width = pixels.shape[:2]
    blurred = as_pixels(gaussian_blur(as_values(pixels), deviation))
    positions = np.arange(height * width).reshape(height, width)
    # from last to first, without the border
    inner = positions[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1][::-1, ::-1].ravel()
    order = list(range(height * width))
    for _ in range(iterations):
        down, right = random.integers(-reach, reach, (2, inner.size))
        # the release tries to swap two pixels, but its array views copy the second over the first
        for position, other in zip(inner.tolist(), (inner + down * width + right).tolist(), strict=True):
            order[position] = order[other]
    moved = blurred.reshape(-1, 3)[order].reshape(pixels.shape)
    return as_pixels(gaussian_blur(as_values(moved), deviation))


def gaussian_blur(values: Values, deviation: float) -> Values:
    """Gaussian blur, truncated at four standard deviations, with the border repeated."""
    width = 2 * int(4 * deviation + 0.5) + 1
    return cv2.GaussianBlur(values, (width, width), deviation, borderType=cv2.BORDER_REPLICATE)


def motion_blur(pixels: Pixels, random: Random, radius: int, deviation: float) -> Pixels:
    blurred = directional_blur(pixels.astype(np.float32), radius, deviation, random.uniform(-45, 45))
    return np.clip(blurred + 0.5, 0, 255).astype(np.uint8)


def directional_blur(values: Values, radius: int, deviation: float, degrees: float) -> Values:
    """ImageMagick's motion blur: half a Gaussian along a line of pixels, with the border repeated."""
    steps, angle = np.arange(2 * radius + 1), math.radians(degrees)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    x, y = (np.ceil(steps * part - 0.5).astype(int) for part in (math.cos(angle), math.sin(angle)))
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1), np.float32)
    np.add.at(kernel, (y + 2 * radius, x + 2 * radius), weights / weights.sum())
    return cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def zoom_blur(pixels: Pixels, _: Random, end: float, step: float) -> Pixels:
    values = as_values(pixels)
    zooms = np.arange(1, end, step)
    return as_pixels((values + sum(zoom_in(values, zoom) for zoom in zooms)) / (len(zooms) + 1))


def zoom_in(values: Values, zoom: float) -> Values:
    """Zoom into the centre, bilinear, with aligned corner pixels."""
    matrix = np.zeros((2, 3))
    for axis, size in enumerate(values.shape[1::-1]):
        cut = math.ceil(size / zoom)
        enlarged = round(cut * zoom)
        scale = (cut - 1) / max(enlarged - 1, 1)
        matrix[axis, axis] = scale
        matrix[axis, 2] = (size - cut) // 2 + (enlarged - size) // 2 * scale
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(values, matrix, values.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def brightness(pixels: Pixels, _: Random, change: float) -> Pixels:
    values = as_values(pixels)
    value = values.max(2, keepdims=True)
    brighter = np.minimum(value + change, 1)
    # scaling all three channels keeps hue and saturation; black has neither
    return as_pixels(np.where(value > 0, values * (brighter / np.maximum(value, 1e-6)), brighter))


def contrast(pixels: Pixels, _: Random, factor: float) -> Pixels:
    values = as_values(pixels)
    means = values.mean((0, 1))
    return as_pixels((values - means) * factor + means)


def elastic_transform(pixels: Pixels, random: Random, strength: float, smoothness: float, move: float) -> Pixels:
    height, width = pixels.shape[:2]
    side = min(height, width)
    centre, reach = np.array([height // 2, width // 2]), side // 3
    corners = (centre + reach * np.array([[1, 1], [1, -1], [-1, -1]])).astype(np.float32)
    moved = corners + random.uniform(-move * side, move * side, corners.shape).astype(np.float32)
    matrix = cv2.getAffineTransform(corners, moved)
    values = cv2.warpAffine(as_values(pixels), matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    down, right = (
        strength * side * (blur_matrix(height, smoothness * side) @ noise @ blur_matrix(width, smoothness * side).T)
        for noise in random.uniform(-1, 1, (2, height, width)).astype(np.float32)
    )
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    bent = cv2.remap(values, columns + right, rows + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return as_pixels(bent)


@cache
def blur_matrix(size: int, deviation: float) -> Values:
    """The matrix (size, size) of a Gaussian blur truncated at three standard deviations, with the border reflected."""
    unit = np.eye(size, dtype=np.float32)
    return gaussian_filter1d(unit, deviation, axis=0, mode="reflect", truncate=3) if deviation else unit


def pixelate(pixels: Pixels, _: Random, share: float) -> Pixels:
    height, width = pixels.shape[:2]
    small = (max(int(width * share), 1), max(int(height * share), 1))
    image = Image.fromarray(pixels).resize(small, Image.Resampling.BOX)
    return np.array(image.resize((width, height), Image.Resampling.BOX))


def jpeg_compression(pixels: Pixels, _: Random, quality: int) -> Pixels:
    encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB))
