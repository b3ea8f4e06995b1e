"""Greedy suppression of rotated rectangles with a spatial hash over the kept ones.

Kept boxes are filed by centre in grids whose cell is at least as wide as the box: one grid per power
of two of box extent. A box looks only into cells that can hold an overlapping kept box, so the cost
grows with the local density, not with the square of the number of boxes.
"""

import math

import numpy as np

from rsfoundation.ops.kernels.jit import inlined, kernel
from rsfoundation.ops.kernels.rotated_rect import AREA, CX, CY, MIN_AREA, REACH_X, REACH_Y, ratio

LEVELS = 64
_LEVEL_ZERO = 24  # level of boxes one pixel wide
_SMALLEST = 2.0 ** -(_LEVEL_ZERO + 1)  # half the cell of level 0
_LEVEL, _CELL_X, _CELL_Y, _LABEL = range(4)  # columns of the integers made by `file_boxes`


def file_boxes(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return level, cell and label of boxes described by ``rotated_rect.describe``: ``(n, 4)`` int64."""
    extent = 2.0 * np.maximum(boxes[:, REACH_X], boxes[:, REACH_Y])
    level = np.ceil(np.log2(np.maximum(extent, 2.0**-_LEVEL_ZERO))) + _LEVEL_ZERO
    level = np.clip(level, 0, LEVELS - 1)
    cell = 2.0 ** (level - _LEVEL_ZERO)
    return np.stack([level, np.floor(boxes[:, CX] / cell), np.floor(boxes[:, CY] / cell), labels], 1).astype(
        np.int64
    )


@inlined
def _bucket(level: int, column: int, row: int, mask: int) -> int:
    return (column * 73856093 ^ row * 19349663 ^ level * 83492791) & mask


@kernel
def suppress(
    boxes: np.ndarray,
    places: np.ndarray,
    threshold: float,
    single: bool,
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
        keep: All true on entry.
        filed: ``(LEVELS,)``, how many boxes are kept in each level; all 0.
        head: First kept box of each bucket, all -1 on entry; its length is a power of two.
        level_head: ``(LEVELS,)`` likewise for whole levels.
        chains: ``(2, n)``, the kept box after each in its bucket, and in its level; all -1.
    """
    mask = len(head) - 1
    for i in range(len(boxes)):
        if boxes[i, AREA] < MIN_AREA:
            continue
        hit, cell = False, _SMALLEST
        for level in range(LEVELS):
            cell *= 2.0
            if filed[level] == 0 or hit:
                continue
            left = math.floor((boxes[i, CX] - boxes[i, REACH_X]) / cell - 0.5)
            right = math.floor((boxes[i, CX] + boxes[i, REACH_X]) / cell + 0.5)
            top = math.floor((boxes[i, CY] - boxes[i, REACH_Y]) / cell - 0.5)
            bottom = math.floor((boxes[i, CY] + boxes[i, REACH_Y]) / cell + 0.5)
            whole = int((right - left + 1.0) * (bottom - top + 1.0) > filed[level])
            column, row = left, top
            while column <= right and not hit:
                j = level_head[level] if whole else head[_bucket(level, column, row, mask)]
                while j >= 0 and not hit:
                    small, large = min(boxes[i, AREA], boxes[j, AREA]), max(boxes[i, AREA], boxes[j, AREA])
                    if (
                        places[i, _LABEL] == places[j, _LABEL]
                        and abs(boxes[i, CX] - boxes[j, CX]) < boxes[i, REACH_X] + boxes[j, REACH_X]
                        and abs(boxes[i, CY] - boxes[j, CY]) < boxes[i, REACH_Y] + boxes[j, REACH_Y]
                        and small >= 0.999999 * threshold * large  # IoU is at most small / large
                    ):
                        iou = ratio(boxes, j, boxes, i, False)
                        hit = (np.float64(np.float32(iou)) if single else iou) >= threshold
                    j = chains[whole, j]
                row += 1
                if row > bottom or whole:
                    column, row = right + 1 if whole else column + 1, top
        if hit:
            keep[i] = False
            continue
        level = places[i, _LEVEL]
        slot = _bucket(level, places[i, _CELL_X], places[i, _CELL_Y], mask)
        chains[0, i], head[slot] = head[slot], i
        chains[1, i], level_head[level] = level_head[level], i
        filed[level] += 1
