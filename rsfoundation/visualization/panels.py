"""Putting pictures together: captioned panels in a row, and a legend below."""

from collections.abc import Sequence

import cv2
import numpy as np

from rsfoundation.visualization.palette import Colour
from rsfoundation.visualization.text import INK, PAPER, draw_text, text_size

_FONT = 16
_CAPTION = 30  # height of the caption bar
_GAP = 8
_SWATCH = 14


def magnification(picture: np.ndarray, least: int = 640) -> float:
    """Return the factor that brings the shorter side to ``least`` pixels; never below 1."""
    return max(1.0, least / min(picture.shape[:2]))


def magnify(picture: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge a picture so that lines and text drawn over it stay fine; coordinates scale likewise."""
    if factor == 1.0:
        return picture
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def side_by_side(panels: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Set captioned pictures in a row; lower ones are filled up with paper.

    Args:
        panels: Caption and RGB picture of each panel, left to right.
    """
    height = max(picture.shape[0] for _, picture in panels) + _CAPTION
    columns: list[np.ndarray] = []
    for caption, picture in panels:
        column = _paper(height, picture.shape[1])
        column[_CAPTION : _CAPTION + picture.shape[0]] = picture
        columns += [draw_text(column, caption, (4, _CAPTION // 2), _FONT), _paper(height, _GAP)]
    return np.concatenate(columns[:-1], axis=1)


def add_legend(picture: np.ndarray, entries: Sequence[tuple[str, Colour]]) -> np.ndarray:
    """Add a strip below the picture with a colour swatch and a name for each entry."""
    if not entries:
        return picture
    width = picture.shape[1]
    line, x = 0, _GAP
    places: list[tuple[int, int]] = []
    for name, _ in entries:
        needed = _SWATCH + 6 + text_size(name, _FONT)[0] + 2 * _GAP
        if x + needed > width and x > _GAP:
            line, x = line + 1, _GAP
        places.append((x, line * _CAPTION + _CAPTION // 2))
        x += needed
    strip = _paper((line + 1) * _CAPTION, width)
    for (name, colour), (left, middle) in zip(entries, places, strict=True):
        corner = (left, middle - _SWATCH // 2)
        cv2.rectangle(strip, corner, (left + _SWATCH, middle + _SWATCH // 2), colour, cv2.FILLED)
        cv2.rectangle(strip, corner, (left + _SWATCH, middle + _SWATCH // 2), INK, 1)
        strip = draw_text(strip, name, (left + _SWATCH + 6, middle), _FONT)
    return np.concatenate([picture, strip])


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, dtype=np.uint8)
