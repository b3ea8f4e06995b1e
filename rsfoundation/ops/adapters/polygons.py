"""Polygon operators as ``mmcv.ops`` calls them; results are written into given tensors."""

from torch import Tensor

from rsfoundation.ops import polygons
from rsfoundation.ops.chamfer import nearest_backward, nearest_neighbours


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
