"""Nearest neighbours between two sets of points in the plane."""

import torch
from torch import Tensor

from rsfoundation.ops import polygons
from rsfoundation.ops.nms import nms as keep_upright
from rsfoundation.ops.nms import nms_match as match_groups
from rsfoundation.ops.nms import nms_rotated as keep_rotated
from rsfoundation.ops.nms import soft_nms
from rsfoundation.ops.rotated_iou import box_iou
from rsfoundation.ops.rotated_iou import box_iou_rotated as iou_rotated


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the kept indices."""
    return keep_upright(boxes, scores, iou_threshold, offset)


def nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Return the kept indices; ``dets`` has a sixth column with ``multi_label``, which is ignored."""
    groups = labels if multi_label else None
    return keep_rotated(dets[:, :5], scores, iou_threshold, groups)


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Fill ``ious``, flat. Columns after the fifth are ignored: mmrotate's evaluation leaves scores there."""
    first, second = boxes1[:, :5], boxes2[:, :5]
    ratios = iou_rotated(first, second, "iof" if mode_flag == 1 else "iou", aligned)
    ious.copy_(ratios.reshape(ious.shape))


def bbox_overlaps(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fill ``ious``."""
    ious.copy_(box_iou(boxes1, boxes2, "iof" if mode == 1 else "iou", aligned, offset))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Fill the first rows of ``dets`` with boxes and new scores; return the kept indices."""
    kept, indices = soft_nms(boxes, scores, iou_threshold, sigma, min_score, method, offset)
    dets[: len(kept)] = kept
    return indices


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of indices: each kept box and those it suppresses."""
    return match_groups(dets, iou_threshold)


def diff_iou_rotated_sort_vertices_forward(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Return the order of the corners; their number follows from ``mask``."""
    return sort_vertices(vertices, mask)


def box_iou_quadri(boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Fill ``ious``, flat. Columns after the eighth are ignored: mmrotate leaves scores there."""
    first, second = boxes1[:, :8], boxes2[:, :8]
    ratios = polygons.box_iou_quadri(first, second, "iof" if mode_flag == 1 else "iou", aligned)
    ious.copy_(ratios.reshape(ious.shape))


def nms_quadri(
    dets: Tensor, scores: Tensor, order: Tensor, dets_sorted: Tensor, iou_threshold: float, multi_label: bool
) -> Tensor:
    """Return the kept indices; with ``multi_label`` the ninth column of ``dets`` is the label."""
    return polygons.nms_quadri(dets[:, :8], scores, iou_threshold, dets[:, 8] if multi_label else None)


def convex_iou(points: Tensor, quads: Tensor, ious: Tensor) -> None:
    """Fill ``ious`` (n, m)."""
    ious.copy_(polygons.convex_iou(points, quads))


def convex_giou(points: Tensor, quads: Tensor, output: Tensor) -> None:
    """Fill ``output`` (n, 19): gradient of the points, then the generalised IoU."""
    output[:, 18], output[:, :18] = polygons.convex_giou(points, quads)


def min_area_polygons(points: Tensor, rectangles: Tensor) -> None:
    """Fill ``rectangles`` (n, 8)."""
    rectangles.copy_(polygons.min_area_polygons(points))


def points_in_polygons_forward(points: Tensor, quads: Tensor, output: Tensor) -> None:
    """Fill ``output`` (n, m) with ones and zeros."""
    output.copy_(polygons.points_in_polygons(points, quads))


def chamfer_distance_forward(
    xyz1: Tensor, xyz2: Tensor, dist1: Tensor, dist2: Tensor, idx1: Tensor, idx2: Tensor
) -> None:
    """Fill distances and indices in both directions."""
    for pair, distance, index in (((xyz1, xyz2), dist1, idx1), ((xyz2, xyz1), dist2, idx2)):
        squared, nearest = nearest_neighbours(*pair)
        distance.copy_(squared)
        index.copy_(nearest)


def chamfer_distance_backward(
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


_SLOTS = 9  # an overlap of two rectangles has at most 8 corners, and the first is repeated
_CROSSINGS = 8  # candidates from here on are edge crossings: zero where invalid
_SAME = 1e-6  # corners nearer than this, relative to the polygon, are one


def sort_vertices(vertices: Tensor, mask: Tensor) -> Tensor:
    """Return the indices of the valid corners by angle, the first once more, then padding.

    Coincident corners appear once: the area formula would otherwise run out of slots when two boxes
    share corners.

    Args:
        vertices: ``(b, n, m, 2)`` candidates, centred on the polygon.
        mask: ``(b, n, m)``, which are valid.

    Returns:
        ``(b, n, 9)`` int32; padding is the first invalid crossing, which is the origin.
    """
    angle = torch.atan2(vertices[..., 1], vertices[..., 0]).masked_fill(~mask, torch.inf)
    order = angle.argsort(dim=-1, stable=True)
    ranked = vertices.gather(2, order[..., None].expand_as(vertices))
    valid = mask.gather(2, order) & ~_repeats(ranked, mask)
    order = order.gather(2, (~valid).to(torch.uint8).argsort(dim=-1, stable=True))[..., :_SLOTS]
    count = valid.sum(-1, keepdim=True).clamp(max=_SLOTS - 1)
    slot = torch.arange(_SLOTS, device=mask.device).expand_as(order)
    padding = (~mask[..., _CROSSINGS:]).to(torch.uint8).argmax(-1, keepdim=True) + _CROSSINGS
    closed = torch.where(slot == count, order[..., :1], torch.where(slot < count, order, padding))
    return torch.where(count < 3, padding, closed).int()


def _repeats(ranked: Tensor, mask: Tensor) -> Tensor:
    """Tell which corners coincide with the one before; the last is compared with the first as well."""
    scale = ranked.masked_fill(~mask.any(-1)[..., None, None], 0).abs().amax((-2, -1), keepdim=True)
    near = ((ranked - ranked.roll(1, 2)).abs() <= _SAME * scale).all(-1)
    near[..., 0] = False
    last = mask.sum(-1, keepdim=True) - 1
    closing = (ranked[..., :1, :] - ranked).abs().amax(-1) <= _SAME * scale[..., 0]
    slot = torch.arange(ranked.shape[2], device=mask.device)
    return near | (closing & (slot == last) & (last > 0))


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
    """Return the gradients of both sets for the distances of ``nearest_neighbours``."""
    chosen = index.long()[..., None].expand_as(points1)
    slope = 2 * grad[..., None] * (points1 - points2.gather(1, chosen))
    return slope, torch.zeros_like(points2).scatter_add_(1, chosen, -slope)
