"""Convex polygons of few corners: hulls, overlaps and their gradients.

Polygons are ``(k, 2)`` with positive signed area in the axes they are given in.
"""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel

_MOST = 32  # corners of a clipped polygon: at most those of both


@kernel
def cross(origin: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Return twice the signed area of a triangle."""
    return (a[0] - origin[0]) * (b[1] - origin[1]) - (a[1] - origin[1]) * (b[0] - origin[0])


@kernel
def hull(points: np.ndarray) -> np.ndarray:
    """Return the indices of the corners of the convex hull (Andrew's monotone chain).

    Points on an edge are left out. Fewer than three indices: the points are collinear.
    """
    count = len(points)
    order = np.empty(count, np.int64)
    for i in range(count):  # insertion sort by x, then y: there are few points
        place = i
        while place > 0 and (
            points[order[place - 1], 0] > points[i, 0]
            or (points[order[place - 1], 0] == points[i, 0] and points[order[place - 1], 1] > points[i, 1])
        ):
            order[place] = order[place - 1]
            place -= 1
        order[place] = i
    chain = np.empty(2 * count, np.int64)
    size, floor = 0, 2
    for turn in range(2):
        for step in range(count):
            i = order[step] if turn == 0 else order[count - 1 - step]
            if turn == 1 and step == 0:
                continue
            while size >= floor and cross(points[chain[size - 2]], points[chain[size - 1]], points[i]) <= 0:
                size -= 1
            chain[size] = i
            size += 1
        floor = size + 1
    return chain[: max(size - 1, 1)]


@kernel
def area(polygon: np.ndarray) -> float:
    """Return the signed area."""
    total = 0.0
    for i in range(1, len(polygon) - 1):
        total += cross(polygon[0], polygon[i], polygon[i + 1])
    return total / 2


@kernel
def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area common to two convex polygons (Sutherland and Hodgman)."""
    current, following = np.empty((_MOST, 2)), np.empty((_MOST, 2))
    size = len(a)
    current[:size] = a
    for i in range(len(b)):
        start, end = b[i], b[(i + 1) % len(b)]
        kept = 0
        for j in range(size):
            here, there = current[j], current[(j + 1) % size]
            inside, inside_next = cross(start, end, here), cross(start, end, there)
            if inside >= 0:
                following[kept] = here
                kept += 1
            if (inside > 0 and inside_next < 0) or (inside < 0 and inside_next > 0):
                following[kept] = here + (there - here) * (inside / (inside - inside_next))
                kept += 1
        current, following = following, current
        size = kept
    return area(current[:size]) if size > 2 else 0.0


@kernel
def _span_inside(p: np.ndarray, q: np.ndarray, polygon: np.ndarray) -> tuple[float, float]:
    """Return the part ``[t0, t1]`` of the segment from p to q that lies in a convex polygon."""
    low, high = 0.0, 1.0
    for i in range(len(polygon)):
        start, end = polygon[i], polygon[(i + 1) % len(polygon)]
        at_p, at_q = cross(start, end, p), cross(start, end, q)
        if at_p < 0 and at_q < 0:
            return 0.0, 0.0
        if at_p < 0:
            low = max(low, at_p / (at_p - at_q))
        elif at_q < 0:
            high = min(high, at_p / (at_p - at_q))
    return low, max(low, high)


@kernel
def add_area_gradient(corners: np.ndarray, within: np.ndarray, factor: float, grad: np.ndarray) -> None:
    """Add ``factor`` times the gradient of an area for the corners of a polygon.

    The area changes where the boundary moves: an edge contributes its outward normal times how far its
    points move, over the part of it that lies in ``within``. With an empty ``within`` the area is that
    of the polygon itself, else that of its overlap with ``within``.
    """
    count = len(corners)
    for i in range(count):
        j = (i + 1) % count
        p, q = corners[i], corners[j]
        low, high = (0.0, 1.0) if len(within) == 0 else _span_inside(p, q, within)
        of_q = (high * high - low * low) / 2
        of_p = (high - low) - of_q
        normal_x, normal_y = q[1] - p[1], p[0] - q[0]
        grad[i, 0] += factor * normal_x * of_p
        grad[i, 1] += factor * normal_y * of_p
        grad[j, 0] += factor * normal_x * of_q
        grad[j, 1] += factor * normal_y * of_q
