"""Greedy suppression of rotated rectangles with a spatial hash over the kept ones.

Kept boxes are filed by centre in grids whose cell is at least as wide as the box: one grid per power
of two of box extent. A box looks only into cells that can hold an overlapping kept box, so the cost
grows with the local density, not with the square of the number of boxes.
"""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.rotated_rect import AREA, CX, CY, MIN_AREA, REACH_X, REACH_Y, ratio

LEVELS = 64
_LEVEL_ZERO = 24  # level of boxes one pixel wide


@kernel
def _bucket(level: int, column: int, row: int, mask: int) -> int:
    return (column * 73856093 ^ row * 19349663 ^ level * 83492791) & mask


@kernel
def _hit(boxes: np.ndarray, labels: np.ndarray, i: int, j: int, threshold: float, out: np.ndarray) -> bool:
    """Tell whether kept box ``j`` suppresses ``i``; ``out`` rounds the IoU to the caller's type."""
    if len(labels) > 0 and labels[i] != labels[j]:
        return False
    if abs(boxes[i, CX] - boxes[j, CX]) >= boxes[i, REACH_X] + boxes[j, REACH_X]:
        return False
    if abs(boxes[i, CY] - boxes[j, CY]) >= boxes[i, REACH_Y] + boxes[j, REACH_Y]:
        return False
    small, large = min(boxes[i, AREA], boxes[j, AREA]), max(boxes[i, AREA], boxes[j, AREA])
    if small < 0.999999 * threshold * large:  # IoU is at most small / large
        return False
    out[0] = ratio(boxes[j], boxes[i], False)
    return out[0] >= threshold


@kernel
def _suppressed(
    boxes: np.ndarray,
    labels: np.ndarray,
    i: int,
    threshold: float,
    out: np.ndarray,
    head: np.ndarray,
    chain: np.ndarray,
    filed: np.ndarray,
    level_head: np.ndarray,
    level_chain: np.ndarray,
) -> bool:
    """Look for a kept box that suppresses ``i`` in every grid that is in use."""
    for level in range(LEVELS):
        if filed[level] == 0:
            continue
        cell = 2.0 ** (level - _LEVEL_ZERO)
        left = np.floor((boxes[i, CX] - boxes[i, REACH_X]) / cell - 0.5)
        right = np.floor((boxes[i, CX] + boxes[i, REACH_X]) / cell + 0.5)
        top = np.floor((boxes[i, CY] - boxes[i, REACH_Y]) / cell - 0.5)
        bottom = np.floor((boxes[i, CY] + boxes[i, REACH_Y]) / cell + 0.5)
        if (right - left + 1) * (bottom - top + 1) > filed[level]:
            j = level_head[level]
            while j >= 0:
                if _hit(boxes, labels, i, j, threshold, out):
                    return True
                j = level_chain[j]
            continue
        for column in range(int(left), int(right) + 1):
            for row in range(int(top), int(bottom) + 1):
                j = head[_bucket(level, column, row, len(head) - 1)]
                while j >= 0:
                    if _hit(boxes, labels, i, j, threshold, out):
                        return True
                    j = chain[j]
    return False


@kernel
def suppress(boxes: np.ndarray, labels: np.ndarray, threshold: float, out: np.ndarray) -> np.ndarray:
    """Return which boxes stay.

    Args:
        boxes: Table of ``rotated_rect.describe``, best score first.
        labels: ``(n,)``; boxes of unlike labels ignore each other. Empty: one class.
        threshold: A box goes when its IoU with a better kept one reaches this; must be positive.
        out: Scratch of one value whose type the IoU is rounded to before it is compared.
    """
    count = len(boxes)
    size = 64
    while size < 2 * count:
        size *= 2
    head = np.full(size, -1, np.int64)
    chain, level_chain = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    filed, level_head = np.zeros(LEVELS, np.int64), np.full(LEVELS, -1, np.int64)
    keep = np.ones(count, np.bool_)
    for i in range(count):
        if boxes[i, AREA] < MIN_AREA:
            continue
        if _suppressed(boxes, labels, i, threshold, out, head, chain, filed, level_head, level_chain):
            keep[i] = False
            continue
        extent = 2.0 * max(boxes[i, REACH_X], boxes[i, REACH_Y])
        level = min(max(int(np.ceil(np.log2(extent))) + _LEVEL_ZERO, 0), LEVELS - 1)
        cell = 2.0 ** (level - _LEVEL_ZERO)
        slot = _bucket(
            level, int(np.floor(boxes[i, CX] / cell)), int(np.floor(boxes[i, CY] / cell)), size - 1
        )
        chain[i], head[slot] = head[slot], i
        level_chain[i], level_head[level] = level_head[level], i
        filed[level] += 1
    return keep
