"""Label maps: their special values, and writing class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.task import Classes
from rsfoundation.io.png import row_blocks, write_png

IGNORED = 255


def reduce_zero(labels: np.ndarray) -> np.ndarray:
    """Make label 0 the ignored one and count the others down by one, as mmseg's ``reduce_zero_label``.

    Args:
        labels: uint8 of any shape.
    """
    reduced = labels - np.uint8(1)  # wraps 0 to 255
    reduced[labels == IGNORED] = IGNORED
    return reduced


def remap(labels: np.ndarray, label_map: dict[int, int] | None) -> np.ndarray:
    """Replace labels by ``label_map`` (old -> new); those it does not name stay.

    Args:
        labels: uint8 of any shape.
        label_map: ``None`` changes nothing.
    """
    if not label_map:
        return labels
    table = np.arange(256, dtype=np.uint8)
    table[list(label_map)] = list(label_map.values())
    return table[labels]


@dataclass(frozen=True)
class LabelMap:
    """One class per pixel of a scene.

    Attributes:
        labels: ``(H, W)`` uint8, index into ``classes``: an array, or rows on disk that are read by slices.
        classes: Names and colours.
    """

    labels: Any
    classes: Classes

    def areas(self) -> dict[str, int]:
        """Return the number of pixels of each class; labels of no class (255: no data) are not counted."""
        return {name: int(self._counts[label]) for label, name in enumerate(self.classes.names)}

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        """Pixels of each label. The map is read once: its rows may be compressed, on disk."""
        counts = np.zeros(256, dtype=np.int64)
        for rows in row_blocks(self.labels):
            counts += np.bincount(rows.reshape(-1), minlength=256)
        return counts

    def shares(self) -> dict[str, float]:
        """Return the share of the labelled pixels that each class covers, in 0..1."""
        areas = self.areas()
        total = max(1, sum(areas.values()))
        return {name: area / total for name, area in areas.items()}


def write_indexed_png(labels: np.ndarray, colours: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Write a class map as a palette PNG: viewers show the colours, readers get the class indices.

    Args:
        labels: ``(H, W)`` uint8.
        colours: RGB colour of index 0, 1, ...
        path: The file; it appears whole or not at all.
    """
    write_png(labels, path, palette=colours)


def write_grey_png(values: np.ndarray, path: Path) -> None:
    """Write a grey PNG; the file appears whole or not at all.

    Args:
        values: ``(H, W)`` uint8.
        path: The file.
    """
    write_png(values, path)
