"""Pictures of class maps."""

from __future__ import annotations

import cv2
import numpy as np

from rsfoundation.structures.labels import IGNORED
from rsfoundation.task import Classes
from rsfoundation.visualization import (
    add_legend,
    magnification,
    magnify,
    overlay_classes,
    side_by_side,
)


def draw_label_map(image: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Tint an image with its class map and add a legend of the classes that occur.

    Args:
        image: RGB ``uint8`` ``(H, W, 3)``.
        labels: ``(H, W)`` class indices; 255 stays untouched.
        classes: Names and colours.
    """
    return add_legend(_tint(image, labels, classes), _entries(classes, labels))


def compare_label_maps(
    image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, classes: Classes
) -> np.ndarray:
    """Set image, ground truth and prediction side by side, with one legend."""
    panels = [
        ("image", magnify(image, magnification(image))),
        ("ground truth", _tint(image, truth, classes)),
        (
            f"prediction: {_agreement(truth, prediction):.1%} right",
            _tint(image, prediction, classes),
        ),
    ]
    return add_legend(side_by_side(panels), _entries(classes, truth, prediction))


def _tint(image: np.ndarray, labels: np.ndarray, classes: Classes) -> np.ndarray:
    picture = magnify(image, magnification(image))
    size = (picture.shape[1], picture.shape[0])
    enlarged = cv2.resize(labels.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return overlay_classes(picture, enlarged, classes.palette)


def _agreement(truth: np.ndarray, prediction: np.ndarray) -> float:
    counted = truth != IGNORED
    return float((truth == prediction)[counted].mean()) if counted.any() else 1.0


def _entries(classes: Classes, *maps: np.ndarray) -> list[tuple[str, tuple[int, int, int]]]:
    occurring = set().union(*(np.unique(labels).tolist() for labels in maps))
    named = zip(classes.names, classes.palette, strict=True)
    return [entry for index, entry in enumerate(named) if index in occurring]
