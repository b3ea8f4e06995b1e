"""Greedy suppression of rotated rectangles with a spatial hash over the kept ones.

Kept boxes are filed by centre in grids whose cell is at least as wide as the box: one grid per power
of two of box extent. A box looks only into cells that can hold an overlapping kept box, so the cost
grows with the local density, not with the square of the number of boxes.
"""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.rotated_rect import (
    AREA,
    CX,
    CY,
    MIN_AREA,
    REACH_X,
    REACH_Y,
    meet,
    near,
    ratio,
)
from rsfoundation.ops.kernels.straight import (
    call,
    convert,
    larger,
    pack,
    smaller,
    straight,
    unpack,
    where,
)

_LEVELS = 64
_LEVEL_ZERO = 24  # level of boxes one pixel wide
_LEVEL, _CELL_X, _CELL_Y, _LABEL = range(4)  # columns of the integers made by `file_boxes`


def file_boxes(boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """File boxes described by ``rotated_rect.describe`` in the grids of a few levels.

    Returns:
        ``(n, 4)`` int64: level, column and row of the cell, label; and the width of a cell of each level.
    """
    extent = 2.0 * np.maximum(boxes[:, REACH_X], boxes[:, REACH_Y])
    level = np.ceil(np.log2(np.maximum(extent, 2.0**-_LEVEL_ZERO))) + _LEVEL_ZERO
    level = np.clip(level, 0, _LEVELS - 1).astype(np.int64)
    used = np.flatnonzero(np.bincount(level, minlength=_LEVELS))
    cells, level = 2.0 ** (used - _LEVEL_ZERO), np.searchsorted(used, level)
    column, row = np.floor(boxes[:, CX] / cells[level]), np.floor(boxes[:, CY] / cells[level])
    return np.stack([level, column, row, labels], 1).astype(np.int64), cells


@straight
def _bucket(level: Any, column: Any, row: Any, heads: Any) -> Any:
    return (column * 73856093 ^ row * 19349663 ^ level * 83492791) & (heads.shape[0] - 1)


@straight
def _reach(boxes: Any, i: Any, cell: Any, filed: Any) -> tuple[Any, ...]:
    """Return the cells of a level that can hold boxes that overlap box ``i``: first and last column and row.

    Also 1 where they outnumber the ``filed`` boxes, else 0: then one look at all those does, and so one cell.
    """
    x, y, reach_x, reach_y = (boxes[i, column] for column in (CX, CY, REACH_X, REACH_Y))
    first = pack(x - reach_x, y - reach_y) / pack(cell, cell) - 0.5
    last = pack(x + reach_x, y + reach_y) / pack(cell, cell) + 0.5
    left, top, right, bottom = (call("llvm.floor", edge) for edge in (*unpack(first, 2), *unpack(last, 2)))
    whole = (right - left + 1.0) * (bottom - top + 1.0) > convert(filed, types.float64)
    ends = (where(whole, 0.0, edge) for edge in (left, right, top, bottom))
    return *(convert(end, types.int64) for end in ends), convert(whole, types.int64)


@straight
def _rivals(boxes: Any, places: Any, i: Any, j: Any, threshold: Any) -> Any:
    """Tell whether labels and areas let the IoU of two boxes reach the threshold."""
    small, large = smaller(boxes[i, AREA], boxes[j, AREA]), larger(boxes[i, AREA], boxes[j, AREA])
    alike = places[i, _LABEL] == places[j, _LABEL]
    return alike & (small >= threshold * 0.999999 * large)  # IoU is at most small / large


@straight
def reaches(iou: Any, threshold: Any, single: Any) -> Any:
    """Tell whether the IoU, rounded to float32 where ``single``, reaches the threshold."""
    rounded = convert(convert(iou, types.float32), types.float64)
    return where(single, rounded, iou) >= threshold


@kernel
def suppress(
    boxes: np.ndarray,
    places: np.ndarray,
    threshold: float,
    single: bool,
    cells: np.ndarray,
    keep: np.ndarray,
    filed: np.ndarray,
    head: np.ndarray,
    level_head: np.ndarray,
    chains: np.ndarray,
) -> None:
    """Clear ``keep`` (n) of bool where a box goes.

    Args:
        boxes: Table of ``rotated_rect.describe``, best score first.
        places: What ``file_boxes`` says of them; boxes of unlike labels ignore each other.
        threshold: A box goes when its IoU with a better kept one reaches this; must be positive.
        single: Whether the IoU is rounded to float32 before it is compared.
        cells: Width of a cell of each level, from ``file_boxes``.
        keep: All true on entry.
        filed: ``(levels,)``, how many boxes are kept in each level; all 0.
        head: First kept box of each bucket, all -1 on entry; its length is a power of two.
        level_head: ``(levels,)`` likewise for whole levels.
        chains: ``(2, n)``, the kept box after each in its bucket, and in its level; all -1.
    """
    for i in range(len(boxes)):
        if boxes[i, AREA] < MIN_AREA:
            continue
        hit = False
        for level in range(len(cells)):
            if filed[level] == 0 or hit:
                continue
            left, right, top, bottom, whole = _reach(boxes, i, cells[level], filed[level])
            column, row = left, top
            while column <= right and not hit:
                j = level_head[level] if whole else head[_bucket(level, column, row, head)]
                while j >= 0 and not hit:
                    rivals = near(boxes, i, boxes, j) and _rivals(boxes, places, i, j, threshold)
                    if rivals and meet(boxes, j, boxes, i):
                        hit = reaches(ratio(boxes, j, boxes, i, False), threshold, single)
                    j = chains[whole, j]
                row += 1
                if row > bottom:
                    column, row = column + 1, top
        if hit:
            keep[i] = False
            continue
        level = places[i, _LEVEL]
        slot = _bucket(level, places[i, _CELL_X], places[i, _CELL_Y], head)
        chains[0, i], head[slot] = head[slot], i
        chains[1, i], level_head[level] = level_head[level], i
        filed[level] += 1
