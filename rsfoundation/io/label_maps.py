"""Label maps: their special values, colour-coded masks, and writing class maps."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Classes

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
        labels: ``(H, W)`` uint8, index into ``classes``.
        classes: Names and colours.
    """

    labels: np.ndarray
    classes: Classes

    def areas(self) -> dict[str, int]:
        """Return the number of pixels of each class."""
        counts = np.bincount(self.labels.reshape(-1), minlength=len(self.classes.names))
        return {name: int(count) for name, count in zip(self.classes.names, counts, strict=True)}

    def shares(self) -> dict[str, float]:
        """Return the share of the scene that each class covers, in 0..1."""
        return {name: area / self.labels.size for name, area in self.areas().items()}


def write_indexed_png(labels: np.ndarray, colours: Sequence[tuple[int, int, int]], path: Path) -> None:
    """Write a class map as a palette PNG: viewers show the colours, readers get the class indices.

    Args:
        labels: ``(H, W)`` uint8.
        colours: RGB colour of index 0, 1, ...
        path: The file; it appears whole or not at all.
    """
    picture = Image.fromarray(np.ascontiguousarray(labels))
    picture.putpalette([channel for colour in colours for channel in colour])
    _replace(path, lambda aside: picture.save(aside, format="PNG"))


def write_grey_png(values: np.ndarray, path: Path) -> None:
    """Write ``(H, W)`` uint8 as a grey PNG; the file appears whole or not at all."""
    picture = Image.fromarray(np.ascontiguousarray(values))
    _replace(path, lambda aside: picture.save(aside, format="PNG"))


def write_summary(content: Mapping[str, Any], path: Path) -> None:
    """Write JSON; the file appears whole or not at all."""
    _replace(path, lambda aside: aside.write_text(json.dumps(content, indent=2) + "\n"))


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    aside = path.with_name(path.name + ".part")
    write(aside)
    aside.replace(path)


Palette = tuple[tuple[int, int, int], ...]


def as_palette(colours: Sequence[Sequence[int]]) -> Palette:
    """Return colours as a hashable palette."""
    return tuple((int(red), int(green), int(blue)) for red, green, blue in colours)


def decode_colours(mask: np.ndarray, palette: Palette) -> np.ndarray:
    """Turn a colour-coded mask into class indices; colours off the palette become 255.

    Args:
        mask: RGB ``uint8`` ``(H, W, 3)``.
        palette: Colour of class 0, 1, ...; at most 255.

    Returns:
        ``(H, W)`` uint8.
    """
    channels = mask.astype(np.int32)
    return _table(palette)[channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]]


@lru_cache(maxsize=4)
def _table(palette: Palette) -> np.ndarray:
    """Index of every 24-bit colour: 16 MiB, but one look-up per pixel."""
    table = np.full(1 << 24, IGNORED, dtype=np.uint8)
    for index, (red, green, blue) in enumerate(palette):
        table[red << 16 | green << 8 | blue] = index
    return table


def off_palette_error(mask: np.ndarray, bad: np.ndarray, palette: Palette, where: str | Path) -> DataError:
    """Describe the first pixel that carries no known label.

    Args:
        mask: The mask as decoded: ``(H, W, 3)`` colours or ``(H, W)`` indices.
        bad: ``(H, W)`` booleans.
        palette: The known colours.
        where: File of the mask.
    """
    row, column = np.argwhere(bad)[0]
    value = tuple(mask[row, column].tolist()) if mask.ndim == 3 else int(mask[row, column])
    known = ", ".join(map(str, palette)) if mask.ndim == 3 else f"0..{len(palette) - 1} and {IGNORED}"
    return DataError(
        f"{int(bad.sum())} pixels of the mask carry no known label, first: {value} "
        f"at column {column}, row {row}; known are {known}",
        where=where,
        fix="mend the mask, set the right palette, or let LoadSegmentationMask use off_palette='ignore'",
    )
