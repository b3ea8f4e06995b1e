"""Generalised IoU of point sets with polygons (Rezatofighi et al. 2019), and its gradient."""

import numpy as np

from rsfoundation.ops.hulls import MIN_AREA, Hulls, common_areas, hulls_of


def generalized_iou(points: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``I / U + U / C - 1`` of overlap I, union U and common hull C, and its gradient.

    Args:
        points: ``(n, k, 2)``; they count as their hull.
        targets: ``(n, m, 2)``.

    Returns:
        ``(n,)``, and ``(n, k, 2)`` for the points. Both are zero where there is no area.
    """
    own, other = hulls_of(points), hulls_of(targets)
    around = hulls_of(np.concatenate([points, targets], 1))
    common = common_areas(own, other, aligned=True)[:, 0]
    union = own.areas + other.areas - common
    solid = union >= MIN_AREA
    base, whole = np.where(solid, union, 1.0), np.where(solid, around.areas, 1.0)
    by_union = 1.0 / whole - common / base**2
    both = solid & (own.sizes > 2) & (other.sizes > 2)
    grad = np.zeros_like(points)
    _add(grad, own, np.where(solid & (own.sizes > 2), by_union, 0.0)[:, None] * _edges_inside(own, None))
    _add(grad, own, np.where(both, 1.0 / base - by_union, 0.0)[:, None] * _edges_inside(own, other))
    _add(grad, around, np.where(solid, -base / whole**2, 0.0)[:, None] * _edges_inside(around, None))
    return np.where(solid, common / base + base / whole - 1.0, 0.0), grad


def _edges_inside(hull: Hulls, within: Hulls | None) -> np.ndarray:
    """Return the gradient of an area for the corners, ``(2, n, k)``.

    The area changes where the boundary moves: an edge contributes its outward normal times how far its
    points move, over the part of it that lies in ``within``. Without ``within`` the area is that of the
    polygon itself, else that of the overlap.
    """
    p = hull.corners
    q = np.roll(p, -1, 1)
    low, high = (0.0, 1.0) if within is None else _span_inside(p, q, within.corners)
    of_q = (high * high - low * low) / 2
    of_p = (high - low) - of_q
    normal = np.stack([q[..., 1] - p[..., 1], p[..., 0] - q[..., 0]])
    return normal * of_p + np.roll(normal * of_q, 1, 2)


def _span_inside(p: np.ndarray, q: np.ndarray, polygon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of each segment ``p`` to ``q`` (n, k, 2) that lies in a convex polygon (n, m, 2)."""
    start, along = polygon[:, None], (np.roll(polygon, -1, 1) - polygon)[:, None]
    at_p, at_q = (
        along[..., 0] * (x[:, :, None, 1] - start[..., 1])
        - along[..., 1] * (x[:, :, None, 0] - start[..., 0])
        for x in (p, q)
    )
    crossing = at_p / np.where(at_p == at_q, 1.0, at_p - at_q)
    low = np.where((at_p < 0) & (at_q >= 0), crossing, 0.0).max(-1)
    high = np.where((at_p >= 0) & (at_q < 0), crossing, 1.0).min(-1)
    outside = ((at_p < 0) & (at_q < 0)).any(-1)
    return np.where(outside, 0.0, low), np.where(outside, 0.0, np.maximum(low, high))


def _add(grad: np.ndarray, hull: Hulls, corners: np.ndarray) -> None:
    """Add what belongs to corners ``(2, n, k)`` to the points they are; targets get nothing."""
    rows, places = np.nonzero(hull.chosen < grad.shape[1])
    np.add.at(grad, (rows, hull.chosen[rows, places]), corners[:, rows, places].T)
