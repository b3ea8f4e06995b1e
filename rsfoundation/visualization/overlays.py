"""Masks and class maps laid over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.visualization.boxes import stroke_width
from rsfoundation.visualization.palette import Colour


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
