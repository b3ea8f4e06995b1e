"""Non-maximum suppression of rotated boxes ``(cx, cy, w, h, theta)``."""

import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim


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

    from rsfoundation.ops.kernels.rotated_nms import file_boxes, suppress
    from rsfoundation.ops.kernels.rotated_rect import describe

    count, table = len(boxes), describe(boxes.double().cpu().numpy())
    places, cells = file_boxes(table, np.zeros(count) if labels is None else labels.long().cpu().numpy())
    keep, filed = np.ones(count, np.bool_), np.zeros(len(cells), np.int64)
    buckets, levels = np.full(1 << max(6, (2 * count - 1).bit_length()), -1), np.full(len(cells), -1)
    limit = float(np.float32(threshold))  # mmcv hands the threshold over as a C float
    single = boxes.dtype != torch.float64
    suppress(table, places, limit, single, cells, keep, filed, buckets, levels, np.full((2, count), -1))
    return torch.from_numpy(keep).to(boxes.device)
