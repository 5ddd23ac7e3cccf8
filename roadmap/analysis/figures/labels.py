"""Names of groups of runs, and where labels of points go so that none meets another label, a point or its error bar."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

# What two groups of one name may differ in, in the order in which it is said.
DIFFERING = ("regime", "recipe", "epochs", "batch_size", "image_size", "precision")
CROSSING = 0.6  # how many inches farther a label may go to spare one
Boxes = np.ndarray  # (n, 4): left, bottom, right, top in inches


def group_key(definition: dict) -> str:
    """Equal for runs that differ in nothing but the seed."""
    return json.dumps({key: value for key, value in definition.items() if key != "seed"}, sort_keys=True)


def group_names(groups: pd.DataFrame) -> list[str]:
    """A name for each row of ``groups``: its variant, and what tells it from others of that variant.

    Rows that differ in none of regime, recipe, epochs and the like are numbered.
    """
    names = groups["variant"].astype(str)
    for key in DIFFERING:
        twice = names.duplicated(keep=False)
        if twice.any() and groups[key].nunique() > 1:
            word = groups[key].astype(str) if key in ("regime", "recipe") else key + " " + groups[key].astype(str)
            names = names.where(~twice, names + ", " + word)
    number = names.groupby(names).cumcount() + 1
    return list(names.where(~names.duplicated(keep=False), names + " (" + number.astype(str) + ")"))


def place(
    anchors: np.ndarray, sizes: np.ndarray, obstacles: Boxes, area: Sequence[float], drawn: np.ndarray
) -> np.ndarray | None:
    """The lower left corner of each label, (n, 2), or None where there is no room for all.

    ``anchors`` (n, 2) are the points, ``obstacles`` (n, 4) what belongs to each and is never covered, ``sizes`` (n, 2)
    the labels' widths and heights, ``area`` the box to stay in; all in inches. Each label takes the free place nearest
    to its point whose line to the point crosses fewest labels and points, and that covers least of the points
    ``drawn`` along other lines; those in the thick of it choose first.
    """
    distances = np.linalg.norm(anchors[:, None] - anchors[None], axis=2)
    crowd = (distances < 0.5).sum(axis=1)
    placed = np.empty((0, 4))
    corners = np.full((len(anchors), 2), np.nan)
    for index in np.argsort(-crowd, kind="stable"):
        boxes = _candidates(anchors[index], sizes[index], area)
        boxes = boxes[~_overlap(boxes, np.vstack([obstacles, placed])).any(axis=1)]
        if not len(boxes):
            return None
        lines = leader_points(anchors[index], boxes)
        others = np.vstack([placed, np.delete(obstacles, index, axis=0)])
        on_lines = _inside(lines.reshape(-1, 2), others).reshape(*lines.shape[:2], len(others))
        crossed = on_lines.any(axis=1).sum(axis=1)
        covered = _inside(drawn, boxes).any(axis=0)
        length = np.linalg.norm(lines[:, -1] - lines[:, 0], axis=1)
        best = int(np.argmin(length + CROSSING * (crossed + covered)))
        placed = np.vstack([placed, boxes[best]])
        drawn = np.vstack([drawn, lines[best]])
        corners[index] = boxes[best, :2]
    return corners


def leader_points(anchor: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Points, (n, 12, 2), on the straight lines from ``anchor`` to the nearest point of each box."""
    ends = np.clip(anchor, boxes[:, :2], boxes[:, 2:])
    shares = np.linspace(0, 1, 12)[None, :, None]
    return anchor + (ends[:, None] - anchor) * shares


def _candidates(anchor: np.ndarray, size: np.ndarray, area: Sequence[float]) -> Boxes:
    """Boxes around a point in 24 directions, ever farther away, that lie inside the area."""
    reach = math.hypot(area[2] - area[0], area[3] - area[1])
    radii = np.concatenate([np.arange(0.07, 0.6, 0.05), np.arange(0.6, reach, 0.12)])
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # the box's middle lies so far out that its edge is a radius away
    middles = anchor + (directions[None] * (radii[:, None, None] + size / 2)).reshape(-1, 2)
    boxes = np.hstack([middles - size / 2, middles + size / 2])
    low, high = np.array(area[:2]), np.array(area[2:])
    return boxes[(boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)]


def _overlap(boxes: Boxes, others: Boxes) -> np.ndarray:
    """(n, m): which meet."""
    apart = (boxes[:, None, :2] >= others[None, :, 2:]) | (boxes[:, None, 2:] <= others[None, :, :2])
    return np.logical_not(np.any(apart, axis=2))


def _inside(points: np.ndarray, boxes: Boxes) -> np.ndarray:
    """(n, m): which points lie in which boxes."""
    between = (points[:, None] > boxes[None, :, :2]) & (points[:, None] < boxes[None, :, 2:])
    return np.asarray(between.all(axis=2))
