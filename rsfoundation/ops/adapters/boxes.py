"""Box operators as ``mmcv.ops`` calls them."""

from torch import Tensor

from rsfoundation.ops.nms import nms as keep_upright
from rsfoundation.ops.nms_rotated import nms_rotated as keep_rotated
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
    """Fill ``ious``, flat."""
    ratios = iou_rotated(boxes1, boxes2, "iof" if mode_flag == 1 else "iou", aligned)
    ious.copy_(ratios.reshape(ious.shape))
