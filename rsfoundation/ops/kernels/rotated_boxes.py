"""CPU kernels on rotated rectangles: overlap and suppression."""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.runtime import (
    call,
    clamp,
    convert,
    exp,
    kernel,
    larger,
    pack,
    smaller,
    straight,
    unpack,
    where,
)

# Columns of the table made by `describe`.
CX, CY, HALF_W, HALF_H, COS, SIN, REACH_X, REACH_Y, AREA = range(9)


def describe(boxes: np.ndarray) -> np.ndarray:
    """Precompute what each pair needs.

    Args:
        boxes: ``(n, 5)`` of cx, cy, w, h, theta (radians).

    Returns:
        ``(n, 9)`` float64: centre, half sizes, cosine, sine, half extents along x and y, area.
    """
    boxes = boxes.astype(np.float64)
    table = np.empty((len(boxes), 9))
    table[:, CX], table[:, CY] = boxes[:, 0], boxes[:, 1]
    half_w, half_h = np.abs(boxes[:, 2]) / 2, np.abs(boxes[:, 3]) / 2
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    table[:, HALF_W], table[:, HALF_H], table[:, COS], table[:, SIN] = half_w, half_h, cos, sin
    table[:, REACH_X] = half_w * np.abs(cos) + half_h * np.abs(sin)
    table[:, REACH_Y] = half_w * np.abs(sin) + half_h * np.abs(cos)
    table[:, AREA] = boxes[:, 2] * boxes[:, 3]
    return table


def _relative(first: Any, i: Any, second: Any, j: Any) -> tuple[Any, ...]:
    """Return centre and half axes of one described rectangle in the frame of another."""
    dx, dy = first[i, CX] - second[j, CX], first[i, CY] - second[j, CY]
    cos_a, sin_a, cos_b, sin_b = first[i, COS], first[i, SIN], second[j, COS], second[j, SIN]
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    half_w, half_h = first[i, HALF_W], first[i, HALF_H]
    return (
        dx * cos_b + dy * sin_b,
        dy * cos_b - dx * sin_b,
        half_w * cos,
        half_w * sin,
        -half_h * sin,
        half_h * cos,
    )


@straight
def near(a: Any, i: Any, b: Any, j: Any) -> Any:
    """Tell whether the upright bounds of two described rectangles meet; cheap."""
    meet_x = abs(a[i, CX] - b[j, CX]) < a[i, REACH_X] + b[j, REACH_X]
    return meet_x & (abs(a[i, CY] - b[j, CY]) < a[i, REACH_Y] + b[j, REACH_Y])


@straight
def meet(first: Any, i: Any, second: Any, j: Any) -> Any:
    """Tell whether two described rectangles of some area may overlap, seen in the frame of the second."""
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    solid = (first[i, AREA] >= MIN_AREA) & (second[j, AREA] >= MIN_AREA)
    apart = (abs(cx) >= abs(ux) + abs(vx) + second[j, HALF_W]) | (
        abs(cy) >= abs(uy) + abs(vy) + second[j, HALF_H]
    )
    return solid & (apart == 0)


def _edges(x0: Any, y0: Any, x1: Any, y1: Any, width: Any, height: Any) -> Any:
    """Integrate ``clamp(y, -height, height)`` over ``x`` within ``[-width, width]`` along edges."""
    xa, xb = clamp(x0, -width, width), clamp(x1, -width, width)
    slope = (y1 - y0) / (x1 - x0)
    low, high = smaller(y0, y1), larger(y0, y1)
    ya, yb = clamp(y0 + (xa - x0) * slope, low, high), clamp(y0 + (xb - x0) * slope, low, high)
    low, high = smaller(ya, yb), larger(ya, yb)
    lower, upper = clamp(low, -height, height), clamp(high, -height, height)
    outside = larger(high - larger(low, height), 0.0) - larger(smaller(high, -height) - low, 0.0)
    slanted = ((lower + upper) * 0.5 * (upper - lower) + height * outside) / (high - low)
    return where(xa != xb, (xb - xa) * where(high > low, slanted, lower), 0.0)


@straight
def ratio(first: Any, i: Any, second: Any, j: Any, foreground: Any) -> Any:
    """Return IoU of two described rectangles that ``meet``, or their overlap over the area of the first."""
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    corners = [(cx - ux - vx, cy - uy - vy), (cx + ux - vx, cy + uy - vy)]
    corners += [(cx + ux + vx, cy + uy + vy), (cx - ux + vx, cy - uy + vy)]
    before = corners[-1:] + corners[:-1]
    ends = (pack(*values) for points in (before, corners) for values in zip(*points, strict=True))
    size = (pack(*[second[j, column]] * 4) for column in (HALF_W, HALF_H))
    of_edges = unpack(_edges(*ends, *size), 4)
    area_a, area_b = first[i, AREA], second[j, AREA]
    common = smaller(smaller(abs(sum(of_edges)), area_a), area_b)
    return common / where(foreground, area_a, area_a + area_b - common)


@kernel
def iou_rows(a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int) -> None:
    """Fill rows ``start..stop`` of the zeroed matrix ``out`` (n, m) with the ratios of all pairs."""
    for i in range(start, stop):
        for j in range(len(b)):
            if near(a, i, b, j) and meet(a, i, b, j):
                out[i, j] = ratio(a, i, b, j, foreground)


@kernel
def iou_aligned(
    a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int
) -> None:
    """Fill ``out[start:stop]``, zeroed, with the ratios of pairs of equal index."""
    for i in range(start, stop):
        if meet(a, i, b, i):
            out[i] = ratio(a, i, b, i, foreground)


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


NAIVE, LINEAR, GAUSSIAN = 0, 1, 2
_SCORE = 4


@straight
def _swap(dets: Any, indices: Any, i: Any, j: Any) -> None:
    indices[i], indices[j] = indices[j], indices[i]
    for column in range(5):
        dets[i, column], dets[j, column] = dets[j, column], dets[i, column]


def _corners(dets: Any, i: Any) -> tuple[Any, ...]:
    return tuple(dets[i, column] for column in range(4))


_box = straight(_corners)


@straight
def _overlap(box: tuple[Any, ...], dets: Any, other: Any, offset: Any) -> Any:
    """Return the IoU of two boxes, in float64."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, _corners(dets, other)

    def side(low: Any, high: Any) -> Any:
        return convert(high - low, types.float64) + offset

    width, height = side(larger(x1, u1), smaller(x2, u2)), side(larger(y1, v1), smaller(y2, v2))
    common = larger(width, 0.0) * larger(height, 0.0)
    whole = side(x1, x2) * side(y1, y2) + side(u1, u2) * side(v1, v2) - common
    return where(common > 0.0, common / whole, 0.0)


@straight
def _gaussian(overlap: Any, sigma: Any) -> Any:
    return exp(-(overlap * overlap) / sigma)


@straight
def _cut(overlap: Any, threshold: Any, method: Any) -> Any:
    return where(overlap >= threshold, where(method == LINEAR, 1.0 - overlap, 0.0), 1.0)


@kernel
def soft_suppress(
    dets: np.ndarray,
    indices: np.ndarray,
    threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: float,
) -> int:
    """Order ``dets`` (n, 5: box, score) and ``indices`` in place, best first; return how many stay.

    A box whose score falls under ``min_score`` is replaced by the last one, as mmcv does it: the order
    of equal scores then agrees too.
    """
    count, place = len(dets), 0
    while place < count:
        best = place
        for other in range(place + 1, count):
            if dets[other, _SCORE] > dets[best, _SCORE]:
                best = other
        _swap(dets, indices, place, best)
        box, other = _box(dets, place), place + 1
        while other < count:
            overlap = _overlap(box, dets, other, offset)
            factor = _gaussian(overlap, sigma) if method == GAUSSIAN else _cut(overlap, threshold, method)
            dets[other, _SCORE] *= factor
            if dets[other, _SCORE] < min_score:
                count -= 1
                _swap(dets, indices, other, count)
            else:
                other += 1
        place += 1
    return count
