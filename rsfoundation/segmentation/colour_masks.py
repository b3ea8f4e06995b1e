"""Label masks as distributed: colours of a palette, or class indices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from rsfoundation.errors import DataError
from rsfoundation.structures.labels import IGNORED

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
        cure="mend the mask, set the right palette, or let LoadSegmentationMask use off_palette='ignore'",
    )
