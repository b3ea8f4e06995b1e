"""Merging class scores of overlapping windows into one class map with memory for a few rows only."""

from __future__ import annotations

import numpy as np

from rsfoundation.task import Window

_FLOOR = 1e-3  # weight of a window's outermost pixels: they count only where nothing else covers them


def taper(height: int, width: int) -> np.ndarray:
    """Return the weight of each pixel of a window: 1 in the middle half, falling towards the borders.

    Networks see half of the context at a window's border, so a neighbour that sees all of it decides.

    Returns:
        ``(height, width)`` float32 in ``(0, 1]``.
    """
    return np.outer(_ramp(height), _ramp(width)).astype(np.float32)


def _ramp(length: int) -> np.ndarray:
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.clip(from_border / (length / 4), _FLOOR, 1.0)


class WindowMerge:
    """Averages the probabilities of overlapping windows and keeps the most probable class.

    Only the rows that later windows can still touch are held as scores; rows above them are settled
    and kept as one byte per pixel. Windows must therefore come top down, in rows, as a grid gives them.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Number of classes, at most 255.
    """

    def __init__(self, height: int, width: int, classes: int) -> None:
        self._labels = np.zeros((height, width), dtype=np.uint8)
        self._top = 0
        self._scores = np.zeros((classes, 0, width), dtype=np.float32)

    def add(self, window: Window, probabilities: np.ndarray) -> None:
        """Take the scores of one window.

        Args:
            window: Its place in the scene.
            probabilities: ``(classes, window.height, window.width)``.

        Raises:
            ValueError: The window starts above rows that are settled already, or the shape differs.
        """
        expected = (self._scores.shape[0], window.height, window.width)
        if probabilities.shape != expected:
            raise ValueError(f"expected scores of shape {expected}, got {probabilities.shape}")
        if window.top < self._top:
            raise ValueError(f"row {window.top} comes after row {self._top}: windows must come top down")
        self._settle(window.top)
        self._reach(window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        weighted = probabilities * taper(window.height, window.width)
        self._scores[:, : window.height, columns] += weighted

    def labels(self) -> np.ndarray:
        """Settle what is left and return the class map ``(height, width)`` uint8."""
        self._settle(self._top + self._scores.shape[1])
        return self._labels

    def _settle(self, row: int) -> None:
        """Decide the rows above ``row``. The common weight of a pixel does not move its maximum."""
        done = row - self._top
        if done <= 0:
            return
        decided = self._scores[:, :done]
        if decided.shape[1]:
            self._labels[self._top : self._top + decided.shape[1]] = decided.argmax(axis=0)
        self._scores = self._scores[:, done:].copy()
        self._top = row

    def _reach(self, bottom: int) -> None:
        """Make room for the rows down to ``bottom``."""
        missing = bottom - self._top - self._scores.shape[1]
        if missing > 0:
            self._scores = np.pad(self._scores, ((0, 0), (0, missing), (0, 0)))
