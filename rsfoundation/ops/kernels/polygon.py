"""Convex polygons of few corners: hulls, common areas, suppression.

Polygons are ``(n, k, 2)`` with positive signed area in the axes they are given in; ``sizes`` holds how many
of the corners count.
"""

import numpy as np

from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.rotated_boxes import reaches
from rsfoundation.ops.kernels.runtime import inlined, kernel

_MAX_CORNERS = 32  # of a clipped polygon; a convex one has at most those of both


def scratch() -> tuple[np.ndarray]:
    """Allocate the memory that ``overlap`` works in."""
    return (np.empty((2, _MAX_CORNERS, 2)),)


@inlined
def _turn(ox: float, oy: float, ax: float, ay: float, bx: float, by: float) -> float:
    """Return twice the signed area of a triangle."""
    return (ax - ox) * (by - oy) - (ay - oy) * (bx - ox)


@inlined
def _turns_left(points: np.ndarray, chain: np.ndarray, i: int, size: int, p: int) -> bool:
    """Return whether a chain of ``size`` corners of point set ``i`` turns left on its way to point ``p``."""
    a, b = chain[i, size - 2], chain[i, size - 1]
    ax, ay, bx, by = points[i, a, 0], points[i, a, 1], points[i, b, 0], points[i, b, 1]
    return _turn(ax, ay, bx, by, points[i, p, 0], points[i, p, 1]) > 0


@kernel
def hulls(points: np.ndarray, tour: np.ndarray, chain: np.ndarray, sizes: np.ndarray) -> None:
    """Find the corners of convex hulls (Andrew's monotone chain).

    Points on an edge are left out. Fewer than three corners: the points are collinear.

    Args:
        points: ``(n, k, 2)``.
        tour: ``(n, 2 k - 1)``, the points by x, then y, and all but the last backwards: there along the
            lower side, and back along the upper one.
        chain: ``(n, 2 k)``, written: indices of the corners.
        sizes: ``(n,)``, written: how many there are, and the first once more.
    """
    count = points.shape[1]
    for i in range(len(points)):
        size, floor = 0, 2
        for step in range(2 * count - 1):
            p = tour[i, step]
            if step == count:
                floor = size + 1
            while size >= floor and not _turns_left(points, chain, i, size, p):
                size -= 1
            chain[i, size] = p
            size += 1
        sizes[i] = size


@inlined
def overlap(
    a: np.ndarray, a_size: int, i: int, b: np.ndarray, b_size: int, j: int, work: np.ndarray
) -> float:
    """Return the area common to two convex polygons (Sutherland and Hodgman).

    Args:
        a: ``(n, k, 2)``, the first polygon is row ``i``.
        a_size: How many of its corners count.
        i: See ``a``.
        b: ``(m, k, 2)``, the second polygon is row ``j``.
        b_size: How many of its corners count.
        j: See ``b``.
        work: See ``scratch``.
    """
    now, size = 0, a_size
    for k in range(size):
        work[0, k, 0], work[0, k, 1] = a[i, k, 0], a[i, k, 1]
    for e in range(b_size):
        after = e + 1 if e + 1 < b_size else 0
        start_x, start_y, end_x, end_y = b[j, e, 0], b[j, e, 1], b[j, after, 0], b[j, after, 1]
        kept = 0
        for k in range(size):
            if kept > _MAX_CORNERS - 2:  # rounding, or an overflow, made it no longer convex
                break
            x, y = work[now, k, 0], work[now, k, 1]
            following = k + 1 if k + 1 < size else 0
            next_x, next_y = work[now, following, 0], work[now, following, 1]
            here = _turn(start_x, start_y, end_x, end_y, x, y)
            there = _turn(start_x, start_y, end_x, end_y, next_x, next_y)
            if here >= 0:
                work[1 - now, kept, 0], work[1 - now, kept, 1] = x, y
                kept += 1
            if (here > 0 and there < 0) or (here < 0 and there > 0):
                share = here / (here - there)
                work[1 - now, kept, 0] = x + (next_x - x) * share
                work[1 - now, kept, 1] = y + (next_y - y) * share
                kept += 1
        now, size = 1 - now, kept
    total, x, y = 0.0, work[now, 0, 0], work[now, 0, 1]
    for k in range(1, size - 1):
        total += _turn(x, y, work[now, k, 0], work[now, k, 1], work[now, k + 1, 0], work[now, k + 1, 1])
    return total / 2


@inlined
def _near(a: np.ndarray, i: int, b: np.ndarray, j: int) -> bool:
    """Return whether two bounds x1, y1, x2, y2 overlap."""
    return a[i, 0] < b[j, 2] and b[j, 0] < a[i, 2] and a[i, 1] < b[j, 3] and b[j, 1] < a[i, 3]


@kernel
def common_rows(
    a: np.ndarray,
    a_sizes: np.ndarray,
    a_bounds: np.ndarray,
    b: np.ndarray,
    b_sizes: np.ndarray,
    b_bounds: np.ndarray,
    aligned: bool,
    out: np.ndarray,
    work: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill rows of a matrix with common areas.

    Args:
        a: ``(n, k, 2)``.
        a_sizes: ``(n,)``.
        a_bounds: ``(n, 4)``: x1, y1, x2, y2.
        b: ``(m, l, 2)``.
        b_sizes: ``(m,)``.
        b_bounds: ``(m, 4)``.
        aligned: Whether polygons of equal index only are compared.
        out: ``(n, m)``, or ``(n, 1)`` with ``aligned``; zero on entry.
        work: See ``scratch``.
        start: First row.
        stop: Row after the last.
    """
    for i in range(start, stop):
        for column in range(out.shape[1]):
            j = i if aligned else column
            if _near(a_bounds, i, b_bounds, j):
                out[i, column] = overlap(a, a_sizes[i], i, b, b_sizes[j], j, work)


@kernel
def suppress(
    corners: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    bounds: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    single: bool,
    kept: np.ndarray,
    work: np.ndarray,
) -> int:
    """Write the indices of the polygons that stay into ``kept`` and return their number.

    Args:
        corners: ``(n, k, 2)``, best first.
        sizes: ``(n,)``.
        areas: ``(n,)``.
        bounds: ``(n, 4)``: x1, y1, x2, y2.
        labels: ``(n,)``; polygons of unlike labels ignore each other.
        threshold: A polygon goes when its IoU with a better kept one reaches this.
        single: Whether the IoU is rounded to float32 before it is compared.
        kept: ``(n,)``, written.
        work: See ``scratch``.
    """
    count = 0
    for i in range(len(corners)):
        hit = False
        for k in range(count):
            j = kept[k]
            if min(areas[i], areas[j]) < MIN_AREA or labels[i] != labels[j]:
                continue
            if _near(bounds, i, bounds, j):
                common = overlap(corners, sizes[j], j, corners, sizes[i], i, work)
                hit = reaches(common / (areas[i] + areas[j] - common), threshold, single)
                if hit:
                    break
        if not hit:
            kept[count] = i
            count += 1
    return count
