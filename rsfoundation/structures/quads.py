"""Quadrilaterals as label files hold them: crossed, flat, or beyond the image.

Corners are ``(N, 8)`` or ``(N, 4, 2)`` pixels; see :mod:`.boxes` for the conventions.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]


def is_crossed(quads: ArrayLike) -> Mask:
    """Return which quads ``(N,)`` are bow ties: two opposite sides run through each other."""
    p = _corners(quads)
    return _cuts(p[:, 0], p[:, 1], p[:, 2], p[:, 3]) | _cuts(p[:, 1], p[:, 2], p[:, 3], p[:, 0])


def uncrossed(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the quads ``(N, 8)`` with the corners of bow ties in clockwise order; others are left alone."""
    corners = _corners(quads).copy()
    ties = np.flatnonzero(is_crossed(corners))
    if len(ties):
        away = corners[ties] - corners[ties].mean(axis=1, keepdims=True)
        order = np.argsort(np.arctan2(away[..., 1], away[..., 0]), axis=1)
        corners[ties] = np.take_along_axis(corners[ties], order[..., None], axis=1)
    return corners.reshape(-1, 8)


def short_sides(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the shorter side ``(N,)`` of the smallest rectangle around each quad."""
    corners = _corners(quads)
    local = (corners - corners.mean(axis=1, keepdims=True)).astype(np.float32)
    return np.array([min(cv2.minAreaRect(points)[1]) for points in local], dtype=np.float64)


def is_outside(quads: ArrayLike, sizes: ArrayLike) -> Mask:
    """Return which quads ``(N,)`` lie wholly beyond their image.

    Args:
        quads: Corners.
        sizes: Width and height ``(N, 2)`` or ``(2,)`` of the images; infinite where it is not known.
    """
    corners = _corners(quads)
    low, high = corners.min(axis=1), corners.max(axis=1)
    limit = np.broadcast_to(np.asarray(sizes, dtype=np.float64), (len(corners), 2))
    return np.asarray(((high < 0) | (low > limit)).any(axis=1), dtype=np.bool_)


def _corners(quads: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2)


def _cuts(a: NDArray, b: NDArray, c: NDArray, d: NDArray) -> Mask:
    """Return where the inner part of segment ab meets that of cd."""
    return (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)


def _turn(a: NDArray, b: NDArray, c: NDArray) -> NDArray[np.float64]:
    """Return twice the signed area of triangles abc."""
    u, v = b - a, c - a
    return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
