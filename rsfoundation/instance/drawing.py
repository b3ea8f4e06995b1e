"""Masks drawn over an image."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.instance.cropped_mask import CroppedMask
from rsfoundation.instance.result import InstanceMasks
from rsfoundation.task import Classes
from rsfoundation.visualization import Colour, draw_tags, magnification, magnify, overlay_masks

_ROOM_FOR_TAGS = 60  # more tags than this hide the objects; the legend still names the colours
_MARGIN = 3  # pixels around a mask, for its outline


def draw_instances(
    image: np.ndarray, result: InstanceMasks, classes: Classes, with_score: bool = True
) -> np.ndarray:
    """Return the image, enlarged when it is small, with tinted masks and their class names.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        result: Objects in pixels of the image.
        classes: Names and colours.
        with_score: Whether the score follows the name.
    """
    factor = magnification(image)
    canvas = magnify(image, factor).copy()
    colours = [classes.palette[label] for label in result.labels]
    for mask, colour in zip(result.masks, colours, strict=True):
        _tint(canvas, mask, factor, colour)
    if not 0 < len(colours) <= _ROOM_FOR_TAGS:
        return canvas
    names = [classes.names[label] for label in result.labels]
    scored = [f"{name} {score:.2f}" for name, score in zip(names, result.scores, strict=True)]
    corners = np.array([(mask.left, mask.top) for mask in result.masks]) * factor
    return draw_tags(canvas, scored if with_score else names, corners, colours)


def legend_entries(results: Sequence[InstanceMasks], classes: Classes) -> list[tuple[str, Colour]]:
    """Return name and colour of the classes that occur, in label order."""
    occurring = sorted({int(label) for result in results for label in result.labels})
    return [(classes.names[label], classes.palette[label]) for label in occurring]


def _tint(canvas: np.ndarray, mask: CroppedMask, factor: float, colour: Colour) -> None:
    """Draw one mask into the canvas, touching only the part of it around the mask."""
    left, top = round(mask.left * factor), round(mask.top * factor)
    size = (round(mask.right * factor) - left, round(mask.bottom * factor) - top)
    bitmap = cv2.resize(mask.bitmap.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    padded = np.pad(bitmap, _MARGIN)
    height, width = canvas.shape[:2]
    rows = slice(max(0, top - _MARGIN), min(height, top + size[1] + _MARGIN))
    columns = slice(max(0, left - _MARGIN), min(width, left + size[0] + _MARGIN))
    inside = padded[
        rows.start - top + _MARGIN : rows.stop - top + _MARGIN,
        columns.start - left + _MARGIN : columns.stop - left + _MARGIN,
    ]
    canvas[rows, columns] = overlay_masks(canvas[rows, columns], inside[None], [colour])
