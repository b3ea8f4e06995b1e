"""Quadrilaterals as label files hold them: crossed, flat, or beyond the image.

Corners are ``(N, 8)`` or ``(N, 4, 2)`` pixels; see :mod:`.boxes` for the conventions.
"""

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]


def is_crossed(quads: ArrayLike) -> Mask:
    """Return which quads ``(N,)`` are bow ties: two opposite sides run through each other."""
    corners = _corners(quads)
    x, y = np.ascontiguousarray(corners.transpose(2, 1, 0))
    dx, dy = np.roll(x, -1, axis=0) - x, np.roll(y, -1, axis=0) - y
    left = dx * np.roll(dy, -1, axis=0) > dy * np.roll(dx, -1, axis=0)  # which way each corner turns
    odd = left.any(axis=0) & ~left.all(axis=0)
    p = corners[odd]
    crossed = np.zeros(len(corners), dtype=np.bool_)
    crossed[odd] = _cuts(p[:, 0], p[:, 1], p[:, 2], p[:, 3]) | _cuts(p[:, 1], p[:, 2], p[:, 3], p[:, 0])
    return crossed


def in_order(quads: ArrayLike) -> NDArray[np.float64]:
    """Return the corners of quads ``(N, 8)``, crossed or not, clockwise about their middle."""
    corners = _corners(quads)
    away = corners - corners.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(away[..., 1], away[..., 0]), axis=1)
    return np.take_along_axis(corners, order[..., None], axis=1).reshape(-1, 8)


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
    x, y = np.ascontiguousarray(_corners(quads).transpose(2, 1, 0))
    width, height = np.asarray(sizes, dtype=np.float64).reshape(-1, 2).T
    beyond_x = (x.max(axis=0) < 0) | (x.min(axis=0) > width)
    return np.asarray(beyond_x | (y.max(axis=0) < 0) | (y.min(axis=0) > height), dtype=np.bool_)


def _corners(quads: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(quads, dtype=np.float64).reshape(-1, 4, 2)


def _cuts(a: NDArray, b: NDArray, c: NDArray, d: NDArray) -> Mask:
    """Return where the inner part of segment ab meets that of cd."""
    return (_turn(a, b, c) * _turn(a, b, d) < 0) & (_turn(c, d, a) * _turn(c, d, b) < 0)


def _turn(a: NDArray, b: NDArray, c: NDArray) -> NDArray[np.float64]:
    """Return twice the signed area of triangles abc."""
    u, v = b - a, c - a
    return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])
