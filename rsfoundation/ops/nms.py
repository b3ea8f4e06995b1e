"""Non-maximum suppression: upright, rotated and soft."""

import torch
import torchvision
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim
from rsfoundation.ops.rotated_iou import box_iou


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes that stay, best score first.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        iou_threshold: A box goes when its IoU with a better kept box is larger.
        offset: 1 when a box includes its last pixel, so that its width is ``x2 - x1 + 1``.

    Raises:
        OperatorInputError: Wrong shapes, NaN or infinity.
    """
    check_last_dim("nms", boxes, 4)
    if scores.shape != boxes.shape[:1]:
        raise OperatorInputError(f"nms: {len(boxes)} boxes, but scores of shape {tuple(scores.shape)}")
    check_finite("nms", boxes)
    check_finite("nms", scores)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes.detach(), scores.detach().to(boxes.dtype), float(iou_threshold))


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the indices of the boxes that stay, best score first.

    A box goes when its IoU with a better kept box (of the same label) is at least the threshold, as
    in mmcv's CPU operator. The IoU is rounded to the type of ``boxes`` before it is compared. Equal
    scores are taken in the order of ``torch.sort``.

    Args:
        boxes: ``(n, 5)``.
        scores: ``(n,)``.
        iou_threshold: Largest tolerated overlap.
        labels: ``(n,)``; boxes of unlike labels ignore each other.

    Raises:
        OperatorInputError: Wrong shapes, NaN or infinity.
    """
    check_last_dim("nms_rotated", boxes, 5)
    if scores.shape != boxes.shape[:1]:
        raise OperatorInputError(
            f"nms_rotated: {len(boxes)} boxes, but scores of shape {tuple(scores.shape)}"
        )
    check_finite("nms_rotated", boxes)
    check_finite("nms_rotated", scores)
    order = scores.sort(0, descending=True)[1]
    ranked = boxes.detach()[order]
    ranked_labels = None if labels is None else labels[order]
    if iou_threshold <= 0:
        keep = _first_of_each(ranked, ranked_labels)
    else:
        keep = _keep(ranked, ranked_labels, iou_threshold)
    return order[keep]


def _first_of_each(boxes: Tensor, labels: Tensor | None) -> Tensor:
    """Every IoU reaches a threshold of zero: only the best box of each label stays."""
    keep = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    groups = labels if labels is not None else torch.zeros_like(keep, dtype=torch.long)
    for group in groups.unique():
        keep[(groups == group).nonzero()[0]] = True
    return keep


def _keep(boxes: Tensor, labels: Tensor | None, threshold: float) -> Tensor:
    """Suppress on the CPU, whatever the device: one box after the other is no work for a GPU."""
    import numpy as np

    from rsfoundation.ops.kernels.rotated_boxes import describe, file_boxes, suppress

    count, table = len(boxes), describe(boxes.double().cpu().numpy())
    places, cells = file_boxes(table, np.zeros(count) if labels is None else labels.long().cpu().numpy())
    keep, filed = np.ones(count, np.bool_), np.zeros(len(cells), np.int64)
    buckets, levels = np.full(1 << max(6, (2 * count - 1).bit_length()), -1), np.full(len(cells), -1)
    limit = float(np.float32(threshold))  # mmcv hands the threshold over as a C float
    single = boxes.dtype != torch.float64
    suppress(table, places, limit, single, cells, keep, filed, buckets, levels, np.full((2, count), -1))
    return torch.from_numpy(keep).to(boxes.device)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of boxes by their overlap with better ones.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        iou_threshold: Overlap from which the naive and linear methods act.
        sigma: Width of the Gaussian method.
        min_score: Boxes that fall under it are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: 1 when a box includes its last pixel.

    Returns:
        Boxes with their new scores ``(k, 5)``, and their indices ``(k,)``; best first.
    """
    from rsfoundation.ops.kernels.rotated_boxes import soft_suppress

    check_last_dim("soft_nms", boxes, 4)
    check_finite("soft_nms", boxes)
    check_finite("soft_nms", scores)
    dets = torch.cat([boxes, scores[:, None]], 1).detach().float().cpu().contiguous()
    indices = torch.arange(len(boxes))
    limits = (float(iou_threshold), float(sigma), float(min_score))
    kept = soft_suppress(dets.numpy(), indices.numpy(), *limits, int(method), float(offset))
    return dets[:kept].to(boxes), indices[:kept].to(boxes.device)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return, for each box that suppression keeps, its index and those of the boxes it suppresses.

    Args:
        dets: ``(n, 5)``, boxes and scores.
        iou_threshold: A box is suppressed when its overlap with a better kept one reaches this.
    """
    check_last_dim("nms_match", dets, 5)
    check_finite("nms_match", dets)
    order = dets[:, 4].sort(0, descending=True)[1]
    left, groups = order, []
    while len(left):
        taken = box_iou(dets[left[:1], :4], dets[left, :4])[0] >= iou_threshold
        taken[0] = True
        groups.append(left[taken].tolist())
        left = left[~taken]
    return groups
