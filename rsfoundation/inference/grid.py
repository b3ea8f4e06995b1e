"""The windows of a scene: a grid anchored at the raster's origin, and which part of each window counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rsfoundation.core.task import Window
from rsfoundation.geometry.windows import window_grid


@dataclass(frozen=True)
class SceneGrid:
    """A regular grid of overlapping windows.

    The grid depends on the size of the raster alone, never on an area of interest: a part of a scene is
    therefore predicted from the same windows as the whole.

    Attributes:
        height: Scene height in pixels.
        width: Scene width in pixels.
        size: Side of a window.
        overlap: Pixels that neighbouring windows share at least.
        tops: First rows of the window rows, ascending.
        lefts: First columns of the window columns, ascending.
    """

    height: int
    width: int
    size: int
    overlap: int
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def cover(cls, height: int, width: int, size: int, overlap: int) -> SceneGrid:
        """Cover a scene; the last window of each row and column is shifted back inside.

        Args:
            height: Scene height in pixels.
            width: Scene width in pixels.
            size: Side of a window; a smaller scene gets one window of its own size.
            overlap: Pixels that neighbouring windows share at least.

        Raises:
            ConfigError: The overlap leaves no step.
        """
        windows = window_grid(height, width, size, overlap)
        tops, lefts = {window.top for window in windows}, {window.left for window in windows}
        return cls(height, width, size, overlap, tuple(sorted(tops)), tuple(sorted(lefts)))

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def row(self, index: int) -> list[Window]:
        """Return the windows of one window row, left to right."""
        top = self.tops[index]
        height, width = min(self.size, self.height), min(self.size, self.width)
        return [Window(left, top, width, height) for left in self.lefts]

    def rows_touching(self, top: int, bottom: int) -> range:
        """Return which window rows have pixels in the scene rows ``[top, bottom)``.

        Args:
            top: First scene row.
            bottom: Scene row after the last.
        """
        height = min(self.size, self.height)
        touching = [index for index, start in enumerate(self.tops) if start < bottom and start + height > top]
        return range(touching[0], touching[-1] + 1) if touching else range(0)

    def used_part(self, window: Window) -> Window:
        """Return the part of a window whose class scores are used, in scene pixels.

        It is the whole window, but for those that were shifted back inside the scene: they repeat rows or
        columns that a neighbour has decided already, and use no more of them than ``overlap``.
        """
        left, right = _used(self.lefts, window.left, window.width, self.overlap)
        top, bottom = _used(self.tops, window.top, window.height, self.overlap)
        return Window(left, top, right - left, bottom - top)

    def used_tops(self) -> tuple[int, ...]:
        """Return the first used row of each window row."""
        height = min(self.size, self.height)
        return tuple(_used(self.tops, top, height, self.overlap)[0] for top in self.tops)

    def cores(self, windows: Sequence[Window]) -> np.ndarray:
        """Return the core ``x1 y1 x2 y2`` ``(N, 4)`` of windows: each pixel of the scene is in one core.

        Neighbouring cores meet in the middle of what their windows share; cores at the border of the scene
        reach to infinity. Coordinates are pixel edges.
        """
        columns = _core_limits(self.lefts, min(self.size, self.width))
        rows = _core_limits(self.tops, min(self.size, self.height))
        place = {left: index for index, left in enumerate(self.lefts)}
        line = {top: index for index, top in enumerate(self.tops)}
        return np.array(
            [
                (
                    columns[place[window.left]],
                    rows[line[window.top]],
                    columns[place[window.left] + 1],
                    rows[line[window.top] + 1],
                )
                for window in windows
            ]
        ).reshape(-1, 4)


def _used(starts: tuple[int, ...], start: int, size: int, overlap: int) -> tuple[int, int]:
    index = starts.index(start)
    first = start if index == 0 else max(start, starts[index - 1] + size - overlap)
    return first, start + size


def _core_limits(starts: tuple[int, ...], size: int) -> list[float]:
    """Return the limits between the cores along one axis, one more than there are windows."""
    between = [(last + size + first) / 2 for last, first in pairwise(starts)]
    return [-np.inf, *between, np.inf]
