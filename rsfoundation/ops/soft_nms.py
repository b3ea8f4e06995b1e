"""Soft suppression (Bodla et al. 2017) and matching of upright boxes."""

import torch
from torch import Tensor

from rsfoundation.ops.box_iou import box_iou
from rsfoundation.ops.checks import check_finite, check_last_dim


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
    from rsfoundation.ops.kernels.soft_nms import soft_suppress

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
