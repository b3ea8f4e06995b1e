"""Convex hulls of point sets as arrays: what all polygon operators start from."""

from typing import NamedTuple

import numpy as np

MIN_AREA = 1e-14  # mmcv: a smaller polygon overlaps nothing


class Hulls(NamedTuple):
    """Convex polygons of up to ``k`` corners, in float64; unused places repeat the first corner.

    Attributes:
        chosen: ``(n, k)``, which of the given points each corner is.
        corners: ``(n, k, 2)``.
        sizes: ``(n,)``; fewer than three where the points are collinear.
        areas: ``(n,)``.
        bounds: ``(n, 4)``: x1, y1, x2, y2.
    """

    chosen: np.ndarray
    corners: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray
    bounds: np.ndarray


def hulls_of(points: np.ndarray) -> Hulls:
    """Return the hulls of point sets ``(n, k, 2)``."""
    from rsfoundation.ops.kernels import polygon  # loads numba

    count, width = points.shape[:2]
    order = np.lexsort((points[..., 1], points[..., 0]), axis=-1)
    chain, sizes = np.zeros((count, 2 * width), np.int64), np.zeros(count, np.int64)
    polygon.hulls(points, np.concatenate([order, order[:, -2::-1]], 1), chain, sizes)
    sizes = np.maximum(sizes - 1, 1)
    chosen = np.where(np.arange(width) < sizes[:, None], chain[:, :width], chain[:, :1])
    corners = np.take_along_axis(points, chosen[..., None], 1)
    spokes = corners[:, 1:] - corners[:, :1]
    x, y = spokes[..., 0], spokes[..., 1]
    areas = (x[:, :-1] * y[:, 1:] - y[:, :-1] * x[:, 1:]).sum(1) / 2
    return Hulls(chosen, corners, sizes, areas, np.concatenate([corners.min(1), corners.max(1)], 1))


def common_areas(a: Hulls, b: Hulls, aligned: bool) -> np.ndarray:
    """Return the areas common to all pairs ``(n, m)``, or to pairs of equal index ``(n, 1)``."""
    from rsfoundation.ops.kernels import polygon
    from rsfoundation.ops.kernels.threads import run_chunks

    out = np.zeros((len(a.sizes), 1 if aligned else len(b.sizes)))
    pair = (a.corners, a.sizes, a.bounds, b.corners, b.sizes, b.bounds)
    args = (*pair, aligned, out)
    run_chunks(polygon.common_rows, len(out), *args, grain=64, pieces=4, scratch=polygon.scratch)
    return out
