"""Box operators as ``mmcv.ops`` calls them."""

from torch import Tensor

from rsfoundation.ops.box_iou import box_iou
from rsfoundation.ops.nms import nms as keep_upright
from rsfoundation.ops.nms_rotated import nms_rotated as keep_rotated
from rsfoundation.ops.rotated_iou import box_iou_rotated as iou_rotated
from rsfoundation.ops.soft_nms import nms_match as match_groups
from rsfoundation.ops.soft_nms import soft_nms
from rsfoundation.ops.vertex_order import sort_vertices


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
