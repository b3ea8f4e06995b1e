"""Overlap and suppression of convex polygons, and geometry of point sets.

A polygon counts as the convex hull of its corners, in whatever order they come. The work is done on
the CPU in float64; tensors of other devices travel there and back.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim
from rsfoundation.ops.kernels import MIN_AREA


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


def _points(name: str, tensor: Tensor, width: int) -> np.ndarray:
    check_last_dim(name, tensor, width)
    check_finite(name, tensor)
    return tensor.detach().double().cpu().contiguous().view(-1, width // 2, 2).numpy()


def _hulls(name: str, tensor: Tensor, width: int) -> Hulls:
    return hulls_of(_points(name, tensor, width))


def _iou(a: Hulls, b: Hulls, foreground: bool, aligned: bool) -> Tensor:
    """Return overlap over union, or over the area of the first; polygons of no area overlap nothing."""
    common = common_areas(a, b, aligned)
    area_a, area_b = a.areas[:, None], b.areas[:, None] if aligned else b.areas[None]
    solid = (area_a >= MIN_AREA) & (area_b >= MIN_AREA)
    base = area_a if foreground else area_a + area_b - common
    ratio = np.where(solid, common / np.where(solid, base, 1.0), 0.0)
    return torch.from_numpy(ratio[:, 0] if aligned else ratio)


def box_iou_quadri(
    boxes1: Tensor, boxes2: Tensor, mode: Literal["iou", "iof"] = "iou", aligned: bool = False
) -> Tensor:
    """Return the overlap of quadrilaterals ``(x1, y1, ..., x4, y4)``.

    Args and result as in ``box_iou_rotated``, with eight columns.
    """
    if aligned and len(boxes1) != len(boxes2):
        raise OperatorInputError(f"box_iou_quadri: aligned, but {len(boxes1)} and {len(boxes2)} boxes")
    first, second = (_hulls("box_iou_quadri", boxes, 8) for boxes in (boxes1, boxes2))
    return _iou(first, second, mode == "iof", aligned).to(boxes1)


def nms_quadri(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the indices of the quadrilaterals ``(n, 8)`` that stay; rules as in ``nms_rotated``."""
    from rsfoundation.ops.kernels.polygon import scratch, suppress

    if scores.shape != boxes.shape[:1]:
        raise OperatorInputError(f"nms_quadri: {len(boxes)} boxes, but scores of shape {tuple(scores.shape)}")
    check_finite("nms_quadri", scores)
    order = scores.sort(0, descending=True)[1]
    ranked = _hulls("nms_quadri", boxes[order], 8)
    groups = np.zeros(len(order), np.int64) if labels is None else labels[order].long().cpu().numpy()
    limit, single = float(np.float32(iou_threshold)), boxes.dtype != torch.float64
    kept = np.empty(len(order), np.int64)
    count = suppress(*ranked[1:], groups, limit, single, kept, *scratch())
    return order[torch.from_numpy(kept[:count]).to(order.device)]


def convex_iou(points: Tensor, polygons: Tensor) -> Tensor:
    """Return the IoU ``(n, m)`` of the hulls of point sets ``(n, 18)`` with quadrilaterals ``(m, 8)``."""
    first, second = _hulls("convex_iou", points, 18), _hulls("convex_iou", polygons, 8)
    return _iou(first, second, False, False).to(points)


def convex_giou(points: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Return generalised IoU ``(n,)`` and its gradient ``(n, 18)`` for the point sets.

    Args:
        points: ``(n, 18)``, nine points each; they count as their hull.
        polygons: ``(n, 8)``.
    """
    if len(points) != len(polygons):
        raise OperatorInputError(f"convex_giou: {len(points)} point sets, {len(polygons)} polygons")
    sets, targets = _points("convex_giou", points, 18), _points("convex_giou", polygons, 8)
    values, grad = generalized_iou(sets, targets)
    return torch.from_numpy(values).to(points), torch.from_numpy(grad).flatten(1).to(points)


def min_area_polygons(points: Tensor) -> Tensor:
    """Return the corners ``(n, 8)`` of the rectangle of least area around each point set ``(n, 18)``."""
    corners = _hulls("min_area_polygons", points, 18).corners
    edges = np.roll(corners, -1, 1) - corners  # a side of the least rectangle lies on an edge of the hull
    angle = np.arctan2(edges[..., 1], edges[..., 0]) % (np.pi / 2)
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    x, y = corners[:, None, :, 0], corners[:, None, :, 1]
    along, across = x * cos + y * sin, y * cos - x * sin
    x1, x2, y1, y2 = along.min(-1), along.max(-1), across.min(-1), across.max(-1)
    best = ((x2 - x1) * (y2 - y1)).argmin(1)[:, None]
    x1, x2, y1, y2, cos, sin = (
        np.take_along_axis(value, best, 1) for value in (x1, x2, y1, y2, cos[..., 0], sin[..., 0])
    )
    u, v = np.concatenate([x2, x1, x1, x2], 1), np.concatenate([y1, y1, y2, y2], 1)
    return torch.from_numpy(np.stack([u * cos - v * sin, u * sin + v * cos], 2)).flatten(1).to(points)


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Tell which points ``(n, 2)`` lie in which quadrilaterals ``(m, 8)``: ``(n, m)`` of bool.

    Counts how often a ray to the right crosses the edges; points on an edge may fall either way.
    """
    check_last_dim("points_in_polygons", points, 2)
    check_last_dim("points_in_polygons", polygons, 8)
    check_finite("points_in_polygons", points)
    check_finite("points_in_polygons", polygons)
    start = polygons.view(1, -1, 4, 2)
    end = start.roll(1, 2)
    x, y = points[:, None, None, 0], points[:, None, None, 1]
    straddles = (start[..., 1] < y) != (end[..., 1] < y)
    rise = torch.where(straddles, end[..., 1] - start[..., 1], 1.0)
    meets = start[..., 0] + (y - start[..., 1]) * (end[..., 0] - start[..., 0]) / rise
    return (straddles & (meets > x)).sum(-1) % 2 == 1
