"""Oriented boxes on pictures: outlines without a heading, tags where there is room for them."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.visualization.palette import Colour
from rsfoundation.visualization.text import INK, draw_tags

_SHIFT = 4  # OpenCV draws at 1/16 pixel with four fractional bits
_ROOM_FOR_TAGS = 40  # more tags than this hide the objects; the legend still names the colours


def draw_boxes(
    picture: np.ndarray,
    quads: np.ndarray,
    colours: Sequence[Colour],
    tags: Sequence[str] | None = None,
) -> np.ndarray:
    """Return a copy with the outlines of quadrilaterals.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        quads: Corners ``(N, 4, 2)`` in pixels of the picture.
        colours: One colour per quadrilateral.
        tags: One text per quadrilateral; left out when there are more than forty.
    """
    canvas = np.ascontiguousarray(picture).copy()
    stroke = stroke_width(picture)
    fixed = np.round(np.asarray(quads).reshape(-1, 4, 2) * (1 << _SHIFT)).astype(np.int32)
    for corners in fixed:
        cv2.polylines(canvas, [corners], True, INK, stroke + 2, cv2.LINE_AA, _SHIFT)
    for corners, colour in zip(fixed, colours, strict=True):
        cv2.polylines(canvas, [corners], True, colour, stroke, cv2.LINE_AA, _SHIFT)
    if tags is None or not 0 < len(tags) <= _ROOM_FOR_TAGS:
        return canvas
    return draw_tags(canvas, tags, _tag_positions(np.asarray(quads)), colours)


def stroke_width(picture: np.ndarray) -> int:
    """Return the line width in pixels that suits the picture's size."""
    return max(1, round(min(picture.shape[:2]) / 640))


def _tag_positions(quads: np.ndarray) -> np.ndarray:
    """Put a tag above the left end of each object's upright rectangle ``(N, 2)``."""
    return quads.reshape(-1, 4, 2).min(axis=1) - (0, 3)
