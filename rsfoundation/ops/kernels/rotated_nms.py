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
def _find(
    boxes: np.ndarray, places: np.ndarray, i: int, j: int, chain: np.ndarray, threshold: float, single: bool
) -> bool:
    """Tell whether a kept box of the chain that starts at ``j`` suppresses ``i``."""
    while j >= 0:
        small, large = min(boxes[i, AREA], boxes[j, AREA]), max(boxes[i, AREA], boxes[j, AREA])
        if (
            places[i, _LABEL] == places[j, _LABEL]
            and abs(boxes[i, CX] - boxes[j, CX]) < boxes[i, REACH_X] + boxes[j, REACH_X]
            and abs(boxes[i, CY] - boxes[j, CY]) < boxes[i, REACH_Y] + boxes[j, REACH_Y]
            and small >= 0.999999 * threshold * large  # IoU is at most small / large
        ):
            iou = ratio(boxes, j, boxes, i, False)
            if (np.float64(np.float32(iou)) if single else iou) >= threshold:
                return True
        j = chain[j]
    return False


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
    chain: np.ndarray,
    level_chain: np.ndarray,
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
        chain: ``(n,)``, the kept box after each in its bucket; all -1.
        level_chain: ``(n,)`` likewise.
    """
    mask = len(head) - 1
    for i in range(len(boxes)):
        if boxes[i, AREA] < MIN_AREA:
            continue
        hit = False
        for level in range(LEVELS):
            if filed[level] == 0:
                continue
            cell = 2.0 ** (level - _LEVEL_ZERO)
            left = math.floor((boxes[i, CX] - boxes[i, REACH_X]) / cell - 0.5)
            right = math.floor((boxes[i, CX] + boxes[i, REACH_X]) / cell + 0.5)
            top = math.floor((boxes[i, CY] - boxes[i, REACH_Y]) / cell - 0.5)
            bottom = math.floor((boxes[i, CY] + boxes[i, REACH_Y]) / cell + 0.5)
            if (right - left + 1.0) * (bottom - top + 1.0) > filed[level]:
                hit = _find(boxes, places, i, level_head[level], level_chain, threshold, single)
            else:
                column, row = left, top
                while column <= right and not hit:
                    slot = _bucket(level, column, row, mask)
                    hit = _find(boxes, places, i, head[slot], chain, threshold, single)
                    row += 1
                    if row > bottom:
                        column, row = column + 1, top
            if hit:
                break
        if hit:
            keep[i] = False
            continue
        level = places[i, _LEVEL]
        slot = _bucket(level, places[i, _CELL_X], places[i, _CELL_Y], mask)
        chain[i], head[slot] = head[slot], i
        level_chain[i], level_head[level] = level_head[level], i
        filed[level] += 1
