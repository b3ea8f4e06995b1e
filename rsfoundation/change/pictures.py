"""Pictures of change: both dates, the map, and where it is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.structures.labels import IGNORED
from rsfoundation.visualization import (
    Colour,
    add_legend,
    magnification,
    magnify,
    overlay_classes,
    side_by_side,
)

_CHANGED: Colour = (255, 64, 64)
# Okabe and Ito's palette tells these apart with every kind of colour vision.
_HIT: Colour = (0, 158, 115)
_FALSE: Colour = (213, 94, 0)
_MISSED: Colour = (86, 180, 233)
_ERRORS = (("changed, found", _HIT), ("false alarm", _FALSE), ("missed", _MISSED))


def draw_change(images: Sequence[np.ndarray], changed: np.ndarray) -> np.ndarray:
    """Set both dates and the second one tinted where it changed side by side.

    Args:
        images: RGB ``uint8`` ``(H, W, 3)`` of both dates.
        changed: ``(H, W)``, nonzero where changed.
    """
    panels = [
        *_dates(images),
        (f"changed: {float((changed != 0).mean()):.1%}", _tint(images[1], changed, (_CHANGED,))),
    ]
    return add_legend(side_by_side(panels), [("changed", _CHANGED)])


def compare_changes(images: Sequence[np.ndarray], truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Set both dates, ground truth and prediction side by side; the last panel shows kinds of error.

    Args:
        images: RGB ``uint8`` ``(H, W, 3)`` of both dates.
        truth: ``(H, W)`` 0 or 1; 255 is ignored.
        prediction: ``(H, W)`` 0 or 1.
    """
    panels = [
        *_dates(images),
        ("ground truth", _tint(images[1], truth == 1, (_CHANGED,))),
        ("prediction", _tint(images[1], error_map(truth, prediction), (_HIT, _FALSE, _MISSED))),
    ]
    return add_legend(side_by_side(panels), [("changed", _CHANGED), *_ERRORS])


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return 0 where nothing is to be shown, 1 for hits, 2 for false alarms, 3 for misses."""
    hit, false, missed = (truth == 1) & (prediction == 1), (truth == 0) & (prediction == 1), truth == 1
    kinds = np.select([truth == IGNORED, hit, false, missed], [0, 1, 2, 3], default=0)
    return kinds.astype(np.uint8)


def _dates(images: Sequence[np.ndarray]) -> list[tuple[str, np.ndarray]]:
    factor = magnification(images[0])
    captions = ("first date", "second date")
    return [(caption, magnify(image, factor)) for caption, image in zip(captions, images, strict=True)]


def _tint(image: np.ndarray, kinds: np.ndarray, colours: Sequence[Colour]) -> np.ndarray:
    """Tint kind 1, 2, ... of ``kinds`` with the colours in turn; kind 0 stays untouched."""
    picture = magnify(image, magnification(image))
    size = (picture.shape[1], picture.shape[0])
    enlarged = cv2.resize(kinds.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return overlay_classes(picture, enlarged, ((0, 0, 0), *colours), clear=(0,))
