"""Overlap and suppression of convex polygons, and geometry of point sets.

A polygon counts as the convex hull of its corners, in whatever order they come. The work is done on
the CPU in float64; tensors of other devices travel there and back.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim
from rsfoundation.ops.convex_giou import generalized_iou
from rsfoundation.ops.hulls import MIN_AREA, Hulls, common_areas, hulls_of


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
