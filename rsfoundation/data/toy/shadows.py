"""Cast shadows: which part of a scene lies in the shade of something higher."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.data.toy.canvas import FINE, fill
from rsfoundation.data.toy.elements import Building, Kind, Plan, Thing
from rsfoundation.data.toy.geometry import Points, ellipse, sweep
from rsfoundation.data.toy.textures import Field

_HEIGHTS: dict[Kind, float] = {"small-vehicle": 5, "large-vehicle": 10, "ship": 7, "storage-tank": 15}
_CROWN = 0.9  # height of a tree's shade in crown radii


def shade_map(
    plan: Plan, things: Sequence[Thing], buildings: Sequence[Building], shadow: tuple[float, float]
) -> Field:
    """Return how much each canvas pixel is shaded, 0..1.

    Lower things come first: what is higher then shades them, but not the other way round.
    """
    shade = np.zeros((plan.height * FINE, plan.width * FINE), dtype=np.uint8)
    reach = np.asarray(shadow)
    for kind in sorted(_HEIGHTS, key=lambda kind: _HEIGHTS[kind]):
        outlines = [thing.outline() for thing in things if thing.kind == kind]
        _cast(shade, outlines, [reach * _HEIGHTS[kind]] * len(outlines))
    for tree in plan.trees:
        crown = ellipse(tree.x, tree.y, tree.radius * 0.95, 16)
        fill(shade, sweep(crown, reach * tree.radius * _CROWN), 255)
    parts = [(part, reach * building.height) for building in buildings for part in building.parts]
    _cast(shade, [part for part, _ in parts], [offset for _, offset in parts])
    soft = cv2.GaussianBlur(shade, (0, 0), 0.7 * FINE)
    return np.asarray(soft, dtype=np.float32) / np.float32(255)


def _cast(shade: np.ndarray, outlines: Sequence[Points], offsets: Sequence[np.ndarray]) -> None:
    for outline, offset in zip(outlines, offsets, strict=True):
        fill(shade, sweep(outline, offset), 255)
    for outline in outlines:
        fill(shade, outline, 0)
