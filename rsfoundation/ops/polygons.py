"""Overlap and suppression of convex polygons, and geometry of point sets.

A polygon counts as the convex hull of its corners, in whatever order they come. The work is done on
the CPU in float64; tensors of other devices travel there and back.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim


class _Hulls(NamedTuple):
    corners: np.ndarray
    sizes: np.ndarray
    areas: np.ndarray


def _points(name: str, tensor: Tensor, width: int) -> np.ndarray:
    check_last_dim(name, tensor, width)
    check_finite(name, tensor)
    return tensor.detach().double().cpu().contiguous().view(-1, width // 2, 2).numpy()


def _hulls(points: np.ndarray) -> _Hulls:
    from rsfoundation.ops.kernels.polygon_sets import convex

    return _Hulls(*convex(points))


def _iou(a: _Hulls, b: _Hulls, foreground: bool, aligned: bool) -> Tensor:
    from rsfoundation.ops.kernels.polygon_sets import iou_rows
    from rsfoundation.ops.kernels.threads import run_chunks

    out = torch.zeros(len(a.sizes), 1 if aligned else len(b.sizes), dtype=torch.float64)
    run_chunks(iou_rows, len(a.sizes), *a, *b, foreground, aligned, out.numpy(), grain=64, pieces=4)
    return out[:, 0] if aligned else out


def box_iou_quadri(
    boxes1: Tensor, boxes2: Tensor, mode: Literal["iou", "iof"] = "iou", aligned: bool = False
) -> Tensor:
    """Return the overlap of quadrilaterals ``(x1, y1, ..., x4, y4)``.

    Args and result as in ``box_iou_rotated``, with eight columns.
    """
    if aligned and len(boxes1) != len(boxes2):
        raise OperatorInputError(f"box_iou_quadri: aligned, but {len(boxes1)} and {len(boxes2)} boxes")
    first, second = (_hulls(_points("box_iou_quadri", boxes, 8)) for boxes in (boxes1, boxes2))
    return _iou(first, second, mode == "iof", aligned).to(boxes1)


def nms_quadri(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the indices of the quadrilaterals ``(n, 8)`` that stay; rules as in ``nms_rotated``."""
    from rsfoundation.ops.kernels.polygon_sets import suppress

    order = scores.sort(0, descending=True)[1]
    hulls = _hulls(_points("nms_quadri", boxes[order], 8))
    groups = np.empty(0, np.int64) if labels is None else labels[order].long().cpu().numpy()
    kind = np.float64 if boxes.dtype == torch.float64 else np.float32
    keep = suppress(*hulls, groups, float(np.float32(iou_threshold)), np.empty(1, kind))
    return order[torch.from_numpy(keep).to(order.device)]


def convex_iou(points: Tensor, polygons: Tensor) -> Tensor:
    """Return the IoU ``(n, m)`` of the hulls of point sets ``(n, 18)`` with quadrilaterals ``(m, 8)``."""
    first, second = _hulls(_points("convex_iou", points, 18)), _hulls(_points("convex_iou", polygons, 8))
    return _iou(first, second, False, False).to(points)


def convex_giou(points: Tensor, polygons: Tensor) -> tuple[Tensor, Tensor]:
    """Return generalised IoU ``(n,)`` and its gradient ``(n, 18)`` for the point sets.

    Args:
        points: ``(n, 18)``, nine points each; they count as their hull.
        polygons: ``(n, 8)``.
    """
    from rsfoundation.ops.kernels.polygon_sets import generalized_iou

    if len(points) != len(polygons):
        raise OperatorInputError(f"convex_giou: {len(points)} point sets, {len(polygons)} polygons")
    sets, targets = _points("convex_giou", points, 18), _points("convex_giou", polygons, 8)
    values, grad = np.zeros(len(sets)), np.zeros_like(sets)
    generalized_iou(sets, targets, values, grad)
    return torch.from_numpy(values).to(points), torch.from_numpy(grad).flatten(1).to(points)


def min_area_polygons(points: Tensor) -> Tensor:
    """Return the corners ``(n, 8)`` of the rectangle of least area around each point set ``(n, 18)``."""
    from rsfoundation.ops.kernels.polygon_sets import smallest_rectangles

    hulls = _hulls(_points("min_area_polygons", points, 18))
    out = np.zeros((len(points), 8))
    smallest_rectangles(hulls.corners, hulls.sizes, out)
    return torch.from_numpy(out).to(points)


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Tell which points ``(n, 2)`` lie in which quadrilaterals ``(m, 8)``: ``(n, m)`` of bool.

    Counts how often a ray to the right crosses the edges; points on an edge may fall either way.
    """
    check_last_dim("points_in_polygons", points, 2)
    check_last_dim("points_in_polygons", polygons, 8)
    start = polygons.view(1, -1, 4, 2)
    end = start.roll(1, 2)
    x, y = points[:, None, None, 0], points[:, None, None, 1]
    straddles = (start[..., 1] < y) != (end[..., 1] < y)
    rise = torch.where(straddles, end[..., 1] - start[..., 1], 1.0)
    meets = start[..., 0] + (y - start[..., 1]) * (end[..., 0] - start[..., 0]) / rise
    return (straddles & (meets > x)).sum(-1) % 2 == 1
