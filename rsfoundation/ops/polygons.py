"""Overlap and suppression of convex polygons, and geometry of point sets.

A polygon counts as the convex hull of its corners, in whatever order they come. The work is done on
the CPU in float64; tensors of other devices travel there and back.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, blank_non_finite, check_last_dim, finite_rows
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
    """Return the areas common to pairs of polygons.

    Args:
        a: n polygons.
        b: m polygons.
        aligned: Compare polygons of equal index only.

    Returns:
        ``(n, m)``, or ``(n, 1)`` with ``aligned``.
    """
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
    points move, over the part of it inside ``within``. Without ``within`` the area is that of the
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
    """Return the part of each segment ``p`` to ``q`` (n, k, 2) inside a convex polygon (n, m, 2)."""
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
    """Add gradients of corners ``(2, n, k)`` to those of the points they are; targets get none."""
    rows, places = np.nonzero(hull.chosen < grad.shape[1])
    np.add.at(grad, (rows, hull.chosen[rows, places]), corners[:, rows, places].T)


def _points(name: str, tensor: Tensor, width: int) -> np.ndarray:
    check_last_dim(name, tensor, width)
    return blank_non_finite(name, tensor.detach()).double().cpu().contiguous().view(-1, width // 2, 2).numpy()


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
    """Return intersection over union of quadrilaterals, or over the area of the first (``iof``).

    Computed in float64 and rounded to the type of ``boxes1``. Quadrilaterals of no area and those with NaN or
    infinity overlap nothing.

    Args:
        boxes1: ``(n, 8)``: x1, y1, ..., x4, y4.
        boxes2: ``(m, 8)``; with ``aligned`` ``(n, 8)``.
        mode: ``iou`` or ``iof``.
        aligned: Compare quadrilaterals of equal index only.

    Returns:
        ``(n, m)``, or ``(n,)`` with ``aligned``.

    Raises:
        OperatorInputError: Wrong shapes.
    """
    if aligned and len(boxes1) != len(boxes2):
        raise OperatorInputError(f"box_iou_quadri: aligned, but {len(boxes1)} and {len(boxes2)} boxes")
    first, second = (_hulls("box_iou_quadri", boxes, 8) for boxes in (boxes1, boxes2))
    return _iou(first, second, mode == "iof", aligned).to(boxes1)


def nms_quadri(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the indices of the quadrilaterals that stay, best score first; rules as in ``nms_rotated``.

    Args:
        boxes: ``(n, 8)``: x1, y1, ..., x4, y4.
        scores: ``(n,)``.
        iou_threshold: Largest tolerated overlap.
        labels: ``(n,)``; quadrilaterals of unlike labels ignore each other.

    Raises:
        OperatorInputError: Wrong shapes.
    """
    from rsfoundation.ops.kernels.polygon import scratch, suppress
    from rsfoundation.ops.suppression import rank

    check_last_dim("nms_quadri", boxes, 8)
    order = rank("nms_quadri", boxes, scores)
    ranked = _hulls("nms_quadri", boxes[order], 8)
    groups = np.zeros(len(order), np.int64) if labels is None else labels[order].long().cpu().numpy()
    limit, single = float(np.float32(iou_threshold)), boxes.dtype != torch.float64
    kept = np.empty(len(order), np.int64)
    count = suppress(*ranked[1:], groups, limit, single, kept, *scratch())
    return order[torch.from_numpy(kept[:count]).to(order.device)]


def convex_iou(points: Tensor, polygons: Tensor) -> Tensor:
    """Return the IoU ``(n, m)`` of the hulls of point sets with quadrilaterals.

    Args:
        points: ``(n, 18)``, nine points each.
        polygons: ``(m, 8)``.

    Raises:
        OperatorInputError: Wrong shapes.
    """
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
    known = finite_rows("convex_giou", torch.cat([points, polygons.to(points)], 1))
    values, grad = generalized_iou(sets, targets)
    value = torch.where(known, torch.from_numpy(values).to(points), torch.nan)
    return value, torch.where(known[:, None], torch.from_numpy(grad).flatten(1).to(points), torch.nan)


def min_area_polygons(points: Tensor) -> Tensor:
    """Return the corners ``(n, 8)`` of the rectangle of least area around each point set ``(n, 18)``."""
    corners = _hulls("min_area_polygons", points, 18).corners
    edges = np.roll(corners, -1, 1) - corners  # one side of the least rectangle is on an edge of the hull
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
    rectangles = torch.from_numpy(np.stack([u * cos - v * sin, u * sin + v * cos], 2)).flatten(1).to(points)
    return torch.where(finite_rows("min_area_polygons", points)[:, None], rectangles, torch.nan)


def points_in_polygons(points: Tensor, polygons: Tensor) -> Tensor:
    """Return which points ``(n, 2)`` are in which quadrilaterals ``(m, 8)``: ``(n, m)`` of bool.

    Counts how often a ray to the right crosses the edges. Boundaries follow the CUDA operator of mmcv (it has
    no CPU one): edges are taken in the order (4, 1), (1, 2), (2, 3), (3, 4), and counting ends at the first
    that holds the point: a point on the boundary is inside where an odd number of earlier edges were crossed.

    Args:
        points: x and y; those with NaN or infinity are in nothing.
        polygons: Corners; those with NaN or infinity hold nothing.

    Raises:
        OperatorInputError: Wrong shapes.
    """
    check_last_dim("points_in_polygons", points, 2)
    check_last_dim("points_in_polygons", polygons, 8)
    known = finite_rows("points_in_polygons", points)[:, None] & finite_rows("points_in_polygons", polygons)
    end = polygons.view(1, -1, 4, 2)
    start = end.roll(1, 2)
    x, y = points[:, None, None, 0], points[:, None, None, 1]
    straddles = (end[..., 1] < y) != (start[..., 1] < y)
    rise = torch.where(straddles, start[..., 1] - end[..., 1], 1.0)
    meets = end[..., 0] + (y - end[..., 1]) * (start[..., 0] - end[..., 0]) / rise
    corner = ((end[..., 0] == x) & (end[..., 1] == y)) | ((start[..., 0] == x) & (start[..., 1] == y))
    held = corner | (straddles & (meets == x))
    counts = held.cumsum(-1) == 0
    return known & ((straddles & (meets > x) & counts).sum(-1) % 2 == 1)


def nearest_neighbours(points1: Tensor, points2: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each point of the first set, the squared distance and index of the nearest in the second.

    Args:
        points1: ``(b, n, 2)``.
        points2: ``(b, m, 2)``.

    Returns:
        Two ``(b, n)``.
    """
    squared = (points1[:, :, None] - points2[:, None]).square().sum(-1)
    nearest = squared.min(-1)
    return nearest.values, nearest.indices


def nearest_backward(points1: Tensor, points2: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of both sets for the distances of ``nearest_neighbours``.

    Args:
        points1: As there.
        points2: As there.
        index: Indices of the nearest points.
        grad: Gradient of the squared distances, ``(b, n)``.
    """
    chosen = index.long()[..., None].expand_as(points1)
    slope = 2 * grad[..., None] * (points1 - points2.gather(1, chosen))
    return slope, torch.zeros_like(points2).scatter_add_(1, chosen, -slope)


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_box_iou_quadri(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Fill ``ious``, flat. Columns after the eighth are ignored: mmrotate leaves scores there."""
    ratios = box_iou_quadri(boxes1[:, :8], boxes2[:, :8], "iof" if mode_flag == 1 else "iou", aligned)
    ious.copy_(ratios.reshape(ious.shape))


def _mmcv_nms_quadri(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, iou_threshold: float, multi_label: bool
) -> Tensor:
    """Return the kept indices; with ``multi_label`` the ninth column of ``dets`` is the label."""
    return nms_quadri(dets[:, :8], scores, iou_threshold, dets[:, 8] if multi_label else None)


def _mmcv_convex_iou(points: Tensor, quads: Tensor, ious: Tensor) -> None:
    """Fill ``ious`` (n, m)."""
    ious.copy_(convex_iou(points, quads))


def _mmcv_convex_giou(points: Tensor, quads: Tensor, output: Tensor) -> None:
    """Fill ``output`` (n, 19): gradient of the points, then the generalised IoU."""
    output[:, 18], output[:, :18] = convex_giou(points, quads)


def _mmcv_min_area_polygons(points: Tensor, rectangles: Tensor) -> None:
    """Fill ``rectangles`` (n, 8)."""
    rectangles.copy_(min_area_polygons(points))


def _mmcv_points_in_polygons_forward(points: Tensor, quads: Tensor, output: Tensor) -> None:
    """Fill ``output`` (n, m) with ones and zeros."""
    output.copy_(points_in_polygons(points, quads))


def _mmcv_chamfer_distance_forward(
    xyz1: Tensor, xyz2: Tensor, dist1: Tensor, dist2: Tensor, idx1: Tensor, idx2: Tensor
) -> None:
    """Fill distances and indices in both directions."""
    for pair, distance, index in (((xyz1, xyz2), dist1, idx1), ((xyz2, xyz1), dist2, idx2)):
        squared, nearest = nearest_neighbours(*pair)
        distance.copy_(squared)
        index.copy_(nearest)


def _mmcv_chamfer_distance_backward(
    xyz1: Tensor,
    xyz2: Tensor,
    idx1: Tensor,
    idx2: Tensor,
    grad_dist1: Tensor,
    grad_dist2: Tensor,
    grad_xyz1: Tensor,
    grad_xyz2: Tensor,
) -> None:
    """Fill the gradients of both point sets."""
    own1, other2 = nearest_backward(xyz1, xyz2, idx1, grad_dist1)
    own2, other1 = nearest_backward(xyz2, xyz1, idx2, grad_dist2)
    grad_xyz1.copy_(own1 + other1)
    grad_xyz2.copy_(own2 + other2)
