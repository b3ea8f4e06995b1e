"""CPU kernels on rotated rectangles: overlap and suppression.

The overlap area is a contour integral. In the frame of the second rectangle, whose half sizes are ``W`` and
``H``, it is the sum over the four edges of the first of the integral of ``clamp(y, -H, H)`` over ``x`` in
``[-W, W]``. Every term is continuous in the corners, so that shared edges, shared corners and identical
rectangles need no special case, and no points are sorted.
"""

import math

import numpy as np

from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.runtime import inlined, kernel

# Columns of the table made by `describe`.
CX, CY, HALF_W, HALF_H, COS, SIN, REACH_X, REACH_Y, AREA = range(9)


def describe(boxes: np.ndarray) -> np.ndarray:
    """Precompute the values that comparisons of pairs read.

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


@inlined
def near(a: np.ndarray, i: int, b: np.ndarray, j: int) -> bool:
    """Return whether the upright bounds of two rectangles overlap; cheap.

    Args:
        a: Table of ``describe``; the first rectangle is its row ``i``.
        i: See ``a``.
        b: Table of ``describe``; the second rectangle is its row ``j``.
        j: See ``b``.
    """
    meet_x = abs(a[i, CX] - b[j, CX]) < a[i, REACH_X] + b[j, REACH_X]
    return meet_x and abs(a[i, CY] - b[j, CY]) < a[i, REACH_Y] + b[j, REACH_Y]


@inlined
def _relative(
    first: np.ndarray, i: int, second: np.ndarray, j: int
) -> tuple[float, float, float, float, float, float]:
    """Return centre and half axes of one rectangle in the frame of another."""
    dx, dy = first[i, CX] - second[j, CX], first[i, CY] - second[j, CY]
    cos_a, sin_a, cos_b, sin_b = first[i, COS], first[i, SIN], second[j, COS], second[j, SIN]
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    half_w, half_h = first[i, HALF_W], first[i, HALF_H]
    cx, cy = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    return cx, cy, half_w * cos, half_w * sin, -half_h * sin, half_h * cos


@inlined
def meet(first: np.ndarray, i: int, second: np.ndarray, j: int) -> bool:
    """Return whether two rectangles of some area may overlap, seen in the frame of the second.

    Args:
        first: Table of ``describe``; the first rectangle is its row ``i``.
        i: See ``first``.
        second: Table of ``describe``; the second rectangle is its row ``j``.
        j: See ``second``.
    """
    if first[i, AREA] < MIN_AREA or second[j, AREA] < MIN_AREA:
        return False
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    inside_x = abs(cx) < abs(ux) + abs(vx) + second[j, HALF_W]
    return inside_x and abs(cy) < abs(uy) + abs(vy) + second[j, HALF_H]


@inlined
def _edge(x0: float, y0: float, x1: float, y1: float, width: float, height: float) -> float:
    """Integrate ``clamp(y, -height, height)`` over ``x`` within ``[-width, width]`` along one edge."""
    xa, xb = min(max(x0, -width), width), min(max(x1, -width), width)
    mean = 0.0
    if xa != xb:
        slope = (y1 - y0) / (x1 - x0)
        low, high = min(y0, y1), max(y0, y1)
        ya = min(max(y0 + (xa - x0) * slope, low), high)
        yb = min(max(y0 + (xb - x0) * slope, low), high)
        low, high = min(ya, yb), max(ya, yb)
        lower, upper = min(max(low, -height), height), min(max(high, -height), height)
        mean = lower
        if high > low:
            outside = max(high - max(low, height), 0.0) - max(min(high, -height) - low, 0.0)
            mean = ((lower + upper) * 0.5 * (upper - lower) + height * outside) / (high - low)
    return (xb - xa) * mean


@inlined
def ratio(first: np.ndarray, i: int, second: np.ndarray, j: int, foreground: bool) -> float:
    """Return the IoU of two rectangles that ``meet``, or their overlap over the area of the first.

    Args:
        first: Table of ``describe``; the first rectangle is its row ``i``.
        i: See ``first``.
        second: Table of ``describe``; the second rectangle is its row ``j``.
        j: See ``second``.
        foreground: Whether to divide by the area of the first.
    """
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    area, x0, y0 = 0.0, cx - ux + vx, cy - uy + vy
    for corner in range(4):  # in the order (-, -), (+, -), (+, +), (-, +) of the half axes u and v
        along, across = -1.0 if corner % 3 == 0 else 1.0, 1.0 if corner >= 2 else -1.0
        x1, y1 = cx + along * ux + across * vx, cy + along * uy + across * vy
        area += _edge(x0, y0, x1, y1, second[j, HALF_W], second[j, HALF_H])
        x0, y0 = x1, y1
    area_a, area_b = first[i, AREA], second[j, AREA]
    common = min(abs(area), area_a, area_b)
    return common / area_a if foreground else common / (area_a + area_b - common)


@kernel
def iou_rows(a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int) -> None:
    """Fill rows of a matrix with the ratios of all pairs.

    Args:
        a: Table of ``describe``, n rows.
        b: Table of ``describe``, m rows.
        foreground: Whether to divide by the area of the first.
        out: ``(n, m)``, zero on entry.
        start: First row.
        stop: Row after the last.
    """
    for i in range(start, stop):
        for j in range(len(b)):
            if near(a, i, b, j) and meet(a, i, b, j):
                out[i, j] = ratio(a, i, b, j, foreground)


@kernel
def iou_aligned(
    a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int
) -> None:
    """Fill a vector with the ratios of pairs of equal index.

    Args:
        a: Table of ``describe``, n rows.
        b: Table of ``describe``, n rows.
        foreground: Whether to divide by the area of the first.
        out: ``(n,)``, zero on entry.
        start: First pair.
        stop: Pair after the last.
    """
    for i in range(start, stop):
        if meet(a, i, b, i):
            out[i] = ratio(a, i, b, i, foreground)


_LEVELS = 64
_LEVEL_ZERO = 24  # level of boxes one pixel wide
_LEVEL, _CELL_X, _CELL_Y, _LABEL = range(4)  # columns of the integers made by `file_boxes`


def file_boxes(boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign boxes to the cells of grids, one grid for each power of two of box extent.

    Args:
        boxes: Table of ``describe``.
        labels: ``(n,)``.

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


@inlined
def _bucket(level: int, column: int, row: int, heads: np.ndarray) -> int:
    return (column * 73856093 ^ row * 19349663 ^ level * 83492791) & (len(heads) - 1)


@inlined
def reaches(iou: float, threshold: float, single: bool) -> bool:
    """Return whether an IoU reaches the threshold.

    Args:
        iou: In float64.
        threshold: Compared with.
        single: Whether the IoU is rounded to float32 first.
    """
    return (np.float64(np.float32(iou)) if single else iou) >= threshold


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
    """Set ``keep`` (n) to False where a box is suppressed.

    Args:
        boxes: Table of ``describe``, best score first.
        places: The integers of ``file_boxes``; boxes of unlike labels ignore each other.
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
            # First and last column and row of the cells that can hold boxes which overlap this one.
            cell = cells[level]
            left = np.floor((boxes[i, CX] - boxes[i, REACH_X]) / cell - 0.5)
            right = np.floor((boxes[i, CX] + boxes[i, REACH_X]) / cell + 0.5)
            top = np.floor((boxes[i, CY] - boxes[i, REACH_Y]) / cell - 0.5)
            bottom = np.floor((boxes[i, CY] + boxes[i, REACH_Y]) / cell + 0.5)
            # Where they outnumber the boxes, one step compares all boxes of the level.
            whole = int((right - left + 1.0) * (bottom - top + 1.0) > filed[level])
            if whole:
                left = right = top = bottom = 0.0
            column, row = int(left), int(top)
            while column <= right and not hit:
                j = level_head[level] if whole else head[_bucket(level, column, row, head)]
                while j >= 0 and not hit:
                    small, large = min(boxes[i, AREA], boxes[j, AREA]), max(boxes[i, AREA], boxes[j, AREA])
                    if (
                        places[i, _LABEL] == places[j, _LABEL]
                        and near(boxes, i, boxes, j)
                        and small >= threshold * 0.999999 * large  # the IoU is at most small / large
                        and meet(boxes, j, boxes, i)
                    ):
                        hit = reaches(ratio(boxes, j, boxes, i, False), threshold, single)
                    j = chains[whole, j]
                row += 1
                if row > bottom:
                    column, row = column + 1, int(top)
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


@inlined
def _first_of(dets: np.ndarray, indices: np.ndarray, i: int, j: int) -> int:
    """Return which of two boxes comes first: by score, NaN before all numbers, then by index."""
    a, b = dets[i, _SCORE], dets[j, _SCORE]
    a_nan, b_nan = a != a, b != b
    if a == b or (a_nan and b_nan):
        return i if indices[i] < indices[j] else j
    return i if a_nan or a > b else j


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
    """Sort ``dets`` (n, 5: box, score) and ``indices``, best first; return how many stay.

    Boxes of equal score are taken in the order of ``indices``.

    Args:
        dets: Boxes and scores, sorted on return; scores are lowered.
        indices: ``(n,)``, ascending on entry.
        threshold: Overlap from which the naive and linear methods act.
        sigma: Width of the Gaussian method.
        min_score: Boxes that fall under it are dropped.
        method: ``NAIVE``, ``LINEAR`` or ``GAUSSIAN``.
        offset: 1 when a box includes its last pixel.
    """
    count, place = len(dets), 0
    while place < count:
        best = place
        for other in range(place + 1, count):
            best = _first_of(dets, indices, best, other)
        for column in range(5):
            dets[place, column], dets[best, column] = dets[best, column], dets[place, column]
        indices[place], indices[best] = indices[best], indices[place]
        x1, y1, x2, y2 = dets[place, 0], dets[place, 1], dets[place, 2], dets[place, 3]
        area = (np.float64(x2 - x1) + offset) * (np.float64(y2 - y1) + offset)
        other = place + 1
        while other < count:
            u1, v1, u2, v2 = dets[other, 0], dets[other, 1], dets[other, 2], dets[other, 3]
            width = np.float64(min(x2, u2) - max(x1, u1)) + offset
            height = np.float64(min(y2, v2) - max(y1, v1)) + offset
            common = max(width, 0.0) * max(height, 0.0)
            own = (np.float64(u2 - u1) + offset) * (np.float64(v2 - v1) + offset)
            overlap = common / (area + own - common)
            if not overlap > 0.0:  # NaN, of infinite boxes too
                overlap = 0.0
            factor = 1.0
            if method == GAUSSIAN:
                factor = math.exp(-(overlap * overlap) / sigma)
            elif overlap >= threshold:
                factor = 1.0 - overlap if method == LINEAR else 0.0
            dets[other, _SCORE] = dets[other, _SCORE] * factor if factor > 0.0 else 0.0  # of infinity too
            if dets[other, _SCORE] < min_score:
                count -= 1
                for column in range(5):
                    dets[other, column] = dets[count, column]
                indices[other] = indices[count]
            else:
                other += 1
        place += 1
    return count
