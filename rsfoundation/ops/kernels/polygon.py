"""Convex polygons of few corners: hulls, common areas, suppression.

Polygons are ``(n, k, 2)`` with positive signed area in the axes they are given in; ``sizes`` tells how
many corners count.
"""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.rotated_boxes import reaches
from rsfoundation.ops.kernels.runtime import convert, inlined, kernel, smaller, straight, where

_MOST = 32  # corners of a clipped polygon: at most those of both, and one that is not kept


def scratch() -> tuple[np.ndarray]:
    """Allocate what the common area of two polygons is found in."""
    return (np.empty((2, _MOST, 2)),)


def _turn(ox: Any, oy: Any, ax: Any, ay: Any, bx: Any, by: Any) -> Any:
    """Return twice the signed area of a triangle."""
    return (ax - ox) * (by - oy) - (ay - oy) * (bx - ox)


@straight
def _advances(points: Any, chain: Any, i: Any, size: Any, p: Any) -> Any:
    """Tell whether a chain of ``size`` corners of point set ``i`` turns left on its way to point ``p``."""
    a, b = chain[i, size - 2], chain[i, size - 1]
    corners = (points[i, place, axis] for place in (a, b, p) for axis in (0, 1))
    return _turn(*corners) > 0


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
            while size >= floor and not _advances(points, chain, i, size, p):
                size -= 1
            chain[i, size] = p
            size += 1
        sizes[i] = size


@straight
def _copy_corner(a: Any, i: Any, work: Any, k: Any) -> None:
    work[0, k, 0], work[0, k, 1] = a[i, k, 0], a[i, k, 1]


@straight
def _clip(work: Any, now: Any, size: Any, k: Any, b: Any, j: Any, b_size: Any, e: Any, kept: Any) -> Any:
    """Add to the other half of ``work`` what edge ``e`` of polygon ``j`` leaves of edge ``k`` of ``size``.

    That is its first end where it lies inside, and the point where it crosses. Both are written, and counted
    in the result where they hold.
    """
    after, following = where(e + 1 < b_size, e + 1, 0), where(k + 1 < size, k + 1, 0)
    start_x, start_y, end_x, end_y = b[j, e, 0], b[j, e, 1], b[j, after, 0], b[j, after, 1]
    x, y, next_x, next_y = (work[now, place, axis] for place in (k, following) for axis in (0, 1))
    here = _turn(start_x, start_y, end_x, end_y, x, y)
    there = _turn(start_x, start_y, end_x, end_y, next_x, next_y)
    work[1 - now, kept, 0], work[1 - now, kept, 1] = x, y
    kept += convert(here >= 0, types.int64)
    share = here / (here - there)
    work[1 - now, kept, 0], work[1 - now, kept, 1] = x + (next_x - x) * share, y + (next_y - y) * share
    return kept + convert((here > 0) & (there < 0) | (here < 0) & (there > 0), types.int64)


@straight
def _fan(work: Any, now: Any, k: Any) -> Any:
    """Return twice the area of the triangle of the first corner and the ``k``-th and next ones."""
    return _turn(*(work[now, place, axis] for place in (0, k, k + 1) for axis in (0, 1)))


@inlined
def overlap(
    a: np.ndarray, a_size: int, i: int, b: np.ndarray, b_size: int, j: int, work: np.ndarray
) -> float:
    """Return the area common to two convex polygons (Sutherland and Hodgman)."""
    now, size = 0, a_size
    for k in range(size):
        _copy_corner(a, i, work, k)
    for e in range(b_size):
        kept = 0
        for k in range(size):
            kept = _clip(work, now, size, k, b, j, b_size, e, kept)
        now, size = 1 - now, kept
    total = 0.0
    for k in range(1, size - 1):
        total += _fan(work, now, k)
    return total / 2


@straight
def _near(a: Any, i: Any, b: Any, j: Any) -> Any:
    """Tell whether two bounds x1, y1, x2, y2 meet."""
    return (a[i, 0] < b[j, 2]) & (b[j, 0] < a[i, 2]) & (a[i, 1] < b[j, 3]) & (b[j, 1] < a[i, 3])


@straight
def _rivals(areas: Any, labels: Any, i: Any, j: Any) -> Any:
    """Tell whether two polygons have some area and one label."""
    return (smaller(areas[i], areas[j]) >= MIN_AREA) & (labels[i] == labels[j])


@straight
def _iou(areas: Any, i: Any, j: Any, common: Any) -> Any:
    return common / (areas[i] + areas[j] - common)


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
    """Fill rows of the zeroed ``out`` (n, m), or (n, 1) for pairs of equal index, with common areas."""
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
    """Write the indices of the polygons that stay into ``kept`` (n,) and return their number.

    Polygons come best first; those of unlike ``labels`` (n,) ignore each other. With ``single`` the IoU
    is rounded to float32 before it is compared.
    """
    count = 0
    for i in range(len(corners)):
        hit = False
        for k in range(count):
            j = kept[k]
            if _rivals(areas, labels, i, j) and _near(bounds, i, bounds, j):
                common = overlap(corners, sizes[j], j, corners, sizes[i], i, work)
                hit = reaches(_iou(areas, i, j, common), threshold, single)
                if hit:
                    break
        if not hit:
            kept[count] = i
            count += 1
    return count
