"""Blending the class scores of overlapping windows, row by row, with memory of a few window rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.task import Window

_COLUMNS = 1024  # without a window that are settled at once
_CHUNK = 16  # rows that are worked on at once
_FLOOR = 1e-3  # weight of a window's outermost pixels: they count only where nothing else covers them
QUANTA = 254  # a probability p is stored as round(p * QUANTA); 255 is no data


class RowSink(Protocol):
    """Takes the rows of a map in order, from the first row of the merge to its last."""

    def write(self, labels: NDArray[np.uint8], probabilities: NDArray[np.uint8] | None) -> None:
        """Take rows ``(n, W)`` of classes and, where they are kept, ``(n, W, C)`` of probabilities.

        Args:
            labels: Classes, ``(n, W)``.
            probabilities: Probabilities, ``(n, W, C)``, where they are kept.
        """
        ...


class MemoryRows:
    """Keeps the rows of a map in memory.

    Args:
        height: Number of rows.
        width: Number of columns.
    """

    def __init__(self, height: int, width: int) -> None:
        self.labels = np.zeros((height, width), dtype=np.uint8)
        self._next = 0

    def write(self, labels: NDArray[np.uint8], probabilities: NDArray[np.uint8] | None) -> None:
        """Take the next rows.

        Args:
            labels: Classes, ``(n, W)``.
            probabilities: Probabilities, ``(n, W, C)``, where they are kept.
        """
        self.labels[self._next : self._next + len(labels)] = labels
        self._next += len(labels)


@lru_cache(maxsize=8)  # windows have few sizes
def taper(height: int, width: int) -> np.ndarray:
    """Return the weight of each pixel of a window: 1 in the middle half, falling towards the borders.

    Networks see half of the context at a window's border, so a neighbour that sees all of it decides.

    Args:
        height: Window height in pixels.
        width: Window width in pixels.

    Returns:
        ``(height, width)`` float32 in ``(0, 1]``; every caller gets the same array, which cannot be written.
    """
    weights = np.outer(_ramp(height), _ramp(width)).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _ramp(length: int) -> np.ndarray:
    from_border = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.clip(from_border / (length / 4), _FLOOR, 1.0)


def _weighted(scores: np.ndarray, weights: np.ndarray, are_logits: bool) -> NDArray[np.float32]:
    """Return probabilities ``(C, n, W)`` of some rows times their weights ``(n, W)``."""
    values = np.array(scores, dtype=np.float32, order="C")  # networks give rows of pixels or of classes
    if are_logits:
        with np.errstate(invalid="ignore"):  # infinity is refused below
            values -= values.max(axis=0)
        np.exp(values, out=values)
        weights = weights / values.sum(axis=0)
        total = weights.sum()
    else:
        total = values.sum()
    if not np.isfinite(total):
        raise FloatingPointError("the network returned numbers that are not finite")
    values *= weights
    return values


class WindowMerge:
    """Averages the probabilities of overlapping windows and keeps the most probable class.

    Windows must come row by row from the top, and from left to right within a row, as a grid gives them.
    A column of the current window row is decided as soon as no later window of the row can touch it; only
    rows that the next window row shares are then held as scores. Memory is therefore ``classes x shared rows
    x width`` numbers, whatever the height of the scene. Sums are made in the order of the windows, so that a
    part of a scene gets the same bytes as the whole.

    Args:
        height: Scene height in pixels.
        width: Scene width in pixels.
        classes: Number of classes, at most 255.
        sink: Where decided rows go; memory when not given.
        tops: First rows of all window rows, where they are known in advance. Without them, all rows of a
            window row are held until the next one begins.
        start: First row of the scene that is merged.
        nodata: Label of pixels that no window covers, or that are not valid.
        with_probabilities: Whether the sink gets the probabilities too.
    """

    def __init__(
        self,
        height: int,
        width: int,
        classes: int,
        *,
        sink: RowSink | None = None,
        tops: Sequence[int] = (),
        start: int = 0,
        nodata: int = 0,
        with_probabilities: bool = False,
    ) -> None:
        self.height, self.width, self.classes = height, width, classes
        self.nodata, self.with_probabilities = nodata, with_probabilities
        self._memory = MemoryRows(height, width) if sink is None else None
        self._sink: RowSink = sink if sink is not None else self._memory  # type: ignore[assignment]
        self._tops = tuple(tops)
        planes = classes + int(with_probabilities)  # the last plane is the sum of the weights
        self._top = start
        self._bottom = start  # rows [top, bottom) have scores
        self._decided = start  # rows [top, decided) of finished columns are in `_rows`
        self._scores = np.zeros((planes, 0, width), dtype=np.float32)
        self._valid = np.zeros((0, width), dtype=bool)
        self._left = 0  # columns before it are finished in the current window row
        self._block = np.zeros((planes, 0, 0), dtype=np.float32)  # sums of the columns from `left` on
        self._known = 0  # of these columns, how many have sums; the memory of the others is used again
        self._rows = np.zeros((0, width), dtype=np.uint8)
        self._shares = np.zeros((0, width, classes), dtype=np.uint8)

    def add(
        self,
        window: Window,
        scores: NDArray[np.float32],
        valid: NDArray[np.bool_] | None = None,
        *,
        are_logits: bool = False,
    ) -> None:
        """Take the scores of one window.

        Args:
            window: Its place in the scene.
            scores: ``(classes, window.height, window.width)``.
            valid: ``(window.height, window.width)`` booleans; all pixels when not given.
            are_logits: The softmax of the scores is what is averaged.

        Raises:
            ValueError: The window starts above rows that are settled already, or left of columns that are,
                or the shape differs.
            FloatingPointError: A score is not finite.
        """
        expected = (self.classes, window.height, window.width)
        if scores.shape != expected:
            raise ValueError(f"expected scores of shape {expected}, got {scores.shape}")
        if window.top < self._top:
            raise ValueError(f"row {window.top} comes after row {self._top}: windows must come top down")
        if window.top > self._top:
            self._end_row(window.top)
        if window.left < self._left:
            raise ValueError(
                f"column {window.left} comes after column {self._left}: windows must come in order"
            )
        self._open_row(window)
        self._finish_columns(window.left)
        self._widen(window.left + window.width)
        weights = taper(window.height, window.width)
        target = self._block[:, : window.height, : window.width]
        for top in range(0, window.height, _CHUNK):  # what is multiplied stays in the processor's cache
            rows = slice(top, top + _CHUNK)
            target[: self.classes, rows] += _weighted(scores[:, rows], weights[rows], are_logits)
        if self.with_probabilities:
            target[self.classes] += weights
        columns = slice(window.left, window.left + window.width)
        self._valid[: window.height, columns] |= True if valid is None else valid

    def labels(self) -> np.ndarray:
        """Settle what is left and return the class map ``(height, width)`` uint8 that was kept in memory."""
        self.finish()
        if self._memory is None:
            raise ValueError("the rows went to a sink")
        return self._memory.labels

    def finish(self) -> None:
        """Settle all rows down to the last one that a window covered."""
        self._end_row(max(self._bottom, self._top))

    def _open_row(self, window: Window) -> None:
        """Make room for the rows of a window; decide which rows can be settled column by column."""
        missing = window.top + window.height - self._top - len(self._valid)
        if missing > 0:
            self._valid = np.pad(self._valid, ((0, missing), (0, 0)))
            self._bottom = self._top + len(self._valid)
        later = next((top for top in self._tops if top > self._top), None)
        if later is not None:
            self._decided = min(later, self._bottom)
        elif self._tops:
            self._decided = self._bottom
        settled = self._decided - self._top
        if len(self._rows) < settled:
            self._rows = np.full((settled, self.width), self.nodata, dtype=np.uint8)
            if self.with_probabilities:
                self._shares = np.full((settled, self.width, self.classes), 255, dtype=np.uint8)
        held = self._bottom - self._decided
        if self._scores.shape[1] < held:
            grown = np.zeros((len(self._scores), held, self.width), dtype=np.float32)
            grown[:, : self._scores.shape[1]] = self._scores
            self._scores = grown
        rows = self._bottom - self._top
        if self._block.shape[1] < rows:
            taller = np.empty((len(self._block), rows, self._block.shape[2]), dtype=np.float32)
            taller[:, : self._block.shape[1], : self._known] = self._block[..., : self._known]
            self._block = taller
        if missing > 0:
            self._block[:, rows - missing : rows, : self._known] = 0

    def _widen(self, right: int) -> None:
        """Let the block reach to a column, beginning with what earlier window rows gave."""
        first, count = self._left + self._known, right - self._left
        if right <= first:
            return
        if count > self._block.shape[2]:
            wider = np.empty((*self._block.shape[:2], count), dtype=np.float32)
            wider[..., : self._known] = self._block[..., : self._known]
            self._block = wider
        new = self._block[:, : self._bottom - self._top, self._known : count]
        rows = min(self._scores.shape[1], new.shape[1])
        new[:, :rows] = self._scores[:, :rows, first:right]
        new[:, rows:] = 0
        self._known = count

    def _finish_columns(self, left: int) -> None:
        """Settle the columns before ``left``; rows that the next window row shares are kept as sums."""
        while self._left < left:  # columns that no window reached come in parts: a row may hold few windows
            self._settle(min(left, self._left + max(self._known, _COLUMNS)))

    def _settle(self, left: int) -> None:
        """Settle the columns of the block before ``left`` and move the others to its beginning."""
        self._widen(left)
        count = left - self._left
        block = self._block[:, : self._bottom - self._top]
        done, columns = block[..., :count], slice(self._left, left)
        settled = self._decided - self._top
        if settled:
            self._rows[:settled, columns] = self._decide(done[:, :settled], self._valid[:settled, columns])
            if self.with_probabilities:
                self._shares[:settled, columns] = self._quantise(done[:, :settled])
        kept = done[:, settled:]
        self._scores[:, : kept.shape[1], columns] = kept
        self._scores[:, kept.shape[1] :, columns] = 0
        block[..., : self._known - count] = block[..., count : self._known]
        self._known -= count
        self._left = left

    def _end_row(self, next_top: int) -> None:
        """Settle the current window row, and all rows above ``next_top``."""
        self._finish_columns(self.width if self._bottom > self._top else 0)
        settled = self._decided - self._top
        if settled:
            self._sink.write(
                self._rows[:settled], self._shares[:settled] if self.with_probabilities else None
            )
        more = min(next_top, self._bottom) - self._decided
        if more > 0:
            sums = self._scores[:, :more]
            labels = self._decide(sums, self._valid[settled : settled + more])
            self._sink.write(labels, self._quantise(sums) if self.with_probabilities else None)
            self._scores = np.concatenate([self._scores[:, more:], np.zeros_like(sums)], axis=1)
        gap = next_top - max(self._bottom, self._decided)
        if gap > 0:
            self._write_nothing(gap)
        self._valid = self._valid[next_top - self._top :]
        self._top, self._bottom = next_top, next_top + len(self._valid)
        self._decided, self._left = next_top, 0
        self._known = 0
        self._rows = self._rows[:0]

    def _write_nothing(self, rows: int) -> None:
        labels = np.full((rows, self.width), self.nodata, dtype=np.uint8)
        shares = np.full((rows, self.width, self.classes), 255, dtype=np.uint8)
        self._sink.write(labels, shares if self.with_probabilities else None)

    def _decide(self, sums: np.ndarray, valid: np.ndarray) -> NDArray[np.uint8]:
        """Return the class of the largest sum, the first of equal ones. The weight does not move it."""
        labels = np.zeros(valid.shape, dtype=np.uint8)
        for top in range(0, len(labels), _CHUNK):
            best, part = sums[0, top : top + _CHUNK].copy(), labels[top : top + _CHUNK]
            for index in range(1, self.classes):
                scores = sums[index, top : top + _CHUNK]
                larger = (scores > best).view(np.uint8)  # indices ascend: the last one stays
                np.maximum(part, np.multiply(larger, index, out=larger), out=part)
                np.maximum(best, scores, out=best)
        if not valid.all():
            np.copyto(labels, np.uint8(self.nodata), where=~valid)
        return labels

    def _quantise(self, sums: np.ndarray) -> NDArray[np.uint8]:
        """Return probabilities ``(n, W, C)`` in steps of 1 / QUANTA; 255 where no window reached."""
        weight = sums[self.classes]
        reached = weight > 0
        scale = np.divide(QUANTA, weight, out=np.zeros_like(weight), where=reached)
        shares = np.rint(np.moveaxis(sums[: self.classes] * scale, 0, -1)).astype(np.uint8)
        shares[~reached] = 255
        return shares
