"""Masks and class maps laid over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.visualization.palette import Colour
from rsfoundation.visualization.panels import INK, draw_tags

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


def overlay_masks(
    picture: np.ndarray, masks: np.ndarray, colours: Sequence[Colour], opacity: float = 0.4
) -> np.ndarray:
    """Return a copy with tinted masks and their outlines.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        masks: ``(N, H, W)`` booleans, one per object.
        colours: One colour per mask.
        opacity: Share of the colour inside a mask.
    """
    canvas = np.ascontiguousarray(picture).copy()
    for mask, colour in zip(masks.astype(bool), colours, strict=True):
        canvas[mask] = _mix(canvas[mask], np.array(colour), opacity)
    for mask, colour in zip(masks, colours, strict=True):
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(canvas, outlines, -1, colour, stroke_width(picture), cv2.LINE_AA)
    return canvas


def overlay_classes(
    picture: np.ndarray,
    labels: np.ndarray,
    colours: Sequence[Colour],
    opacity: float = 0.55,
    clear: Sequence[int] = (),
) -> np.ndarray:
    """Return a copy tinted with a class map; labels without a colour (255: ignored) stay untouched.

    Args:
        picture: RGB ``uint8`` ``(H, W, 3)``.
        labels: ``(H, W)`` integers.
        colours: Colour of label 0, 1, ...
        opacity: Share of the colour.
        clear: Labels that stay untouched, such as the background.
    """
    known = (labels >= 0) & (labels < len(colours)) & ~np.isin(labels, list(clear))
    canvas = np.array(picture)
    canvas[known] = _mix(canvas[known], np.array(colours, dtype=np.uint8)[labels[known]], opacity)
    return canvas


def _mix(ground: np.ndarray, colour: np.ndarray, opacity: float) -> np.ndarray:
    return np.round((1 - opacity) * ground + opacity * colour).astype(np.uint8)
