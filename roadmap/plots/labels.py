"""Places for the labels of points, so that none covers another label or a point."""

from collections.abc import Sequence

import numpy as np

Boxes = np.ndarray  # (n, 4): left, top, right, bottom in pixels
_ANGLES = np.linspace(0, 2 * np.pi, 24, endpoint=False)
_RADII = np.concatenate([np.arange(6, 40, 4), np.arange(40, 140, 10)])
CROSSED = 40  # pixels that a label moves further to avoid crossing one mark with its line


def place_labels(points: np.ndarray, sizes: np.ndarray, obstacles: Boxes, area: Sequence[float]) -> Boxes:
    """Return the box of each label in pixels, NaN where there is no free place.

    ``points`` (n, 2) are labelled with texts of ``sizes`` (n, 2); ``obstacles`` (m, 4) are never covered, and the first
    n belong to the points; ``area`` is the box to stay in. Each label takes the free place nearest to its point; the
    points given first choose first.
    """
    boxes = np.full((len(points), 4), np.nan)
    low, high = np.array(area[:2]), np.array(area[2:])
    for index, (point, size) in enumerate(zip(points, sizes, strict=True)):
        directions = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
        middles = point + (directions * (_RADII[:, None, None] + size / 2)).reshape(-1, 2)
        options = np.hstack([middles - size / 2, middles + size / 2])
        options = options[(options[:, :2] >= low).all(axis=1) & (options[:, 2:] <= high).all(axis=1)]
        placed = boxes[~np.isnan(boxes[:, 0])]
        options = options[~_overlap(options, np.vstack([obstacles, placed])).any(axis=1)]
        if len(options):
            ends = leader_ends(point, options)
            lines = point + np.linspace(0, 1, 12)[:, None, None] * (ends - point)
            others = np.vstack([np.delete(obstacles, index, axis=0), placed])
            inside = (lines[..., None, :] > others[:, :2]) & (lines[..., None, :] < others[:, 2:])
            crossed = inside.all(axis=-1).any(axis=0).sum(axis=1)
            cost = np.linalg.norm(ends - point, axis=1) + CROSSED * crossed
            boxes[index] = options[int(np.argmin(cost))]
    return boxes


def leader_ends(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Return the place of each box that is nearest to its point, where a line from the point ends."""
    return np.clip(points, boxes[:, :2], boxes[:, 2:])


def _overlap(boxes: Boxes, others: Boxes) -> np.ndarray:
    apart = (boxes[:, None, :2] >= others[None, :, 2:]) | (boxes[:, None, 2:] <= others[None, :, :2])
    return np.logical_not(np.any(apart, axis=2))
