"""Non-maximum suppression: upright, rotated and soft; overlap of upright boxes.

Equal scores are taken in the order of the boxes, on every device. Scores that are NaN come before all
numbers, as in ``torch.sort`` and torchvision. A box with NaN or infinity overlaps nothing: it is kept and
suppresses nothing. Such values are logged once for each operator.
"""

from typing import Literal

import torch
import torchvision
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, blank_non_finite, check_last_dim, finite_rows


def box_iou(
    boxes1: Tensor,
    boxes2: Tensor,
    mode: Literal["iou", "iof"] = "iou",
    aligned: bool = False,
    offset: int = 0,
) -> Tensor:
    """Return intersection over union, or over the area of the first box (``iof``).

    Args:
        boxes1: ``(n, 4)``.
        boxes2: ``(m, 4)``; with ``aligned`` ``(n, 4)``.
        mode: ``iou`` or ``iof``.
        aligned: Compare boxes of equal index only.
        offset: 1 when a box includes its last pixel.

    Returns:
        ``(n, m)``, or ``(n,)`` with ``aligned``.
    """
    a, b = (boxes1, boxes2) if aligned else (boxes1[:, None], boxes2[None])
    extent = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2]) + offset
    common = extent.clamp(min=0).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2] + offset).prod(-1) for box in (a, b))
    base = area_a.expand_as(common) if mode == "iof" else area_a + area_b - common
    return common / base.clamp(min=max(offset, torch.finfo(base.dtype).tiny))


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Return the indices of the boxes that stay, best score first, by torchvision's operator.

    Args:
        boxes: ``(n, 4)``.
        scores: ``(n,)``.
        iou_threshold: A box goes when its IoU with a better kept box is larger.
        offset: 1 when a box includes its last pixel, so that its width is ``x2 - x1 + 1``.

    Raises:
        OperatorInputError: Wrong shapes.
    """
    check_last_dim("nms", boxes, 4)
    _check_scores("nms", boxes, scores)
    finite_rows("nms", boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    kind = torch.promote_types(torch.promote_types(boxes.dtype, scores.dtype), torch.float32)
    return torchvision.ops.nms(boxes.detach().to(kind), scores.detach().to(kind), float(iou_threshold))


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float, labels: Tensor | None = None) -> Tensor:
    """Return the indices of the boxes that stay, best score first.

    A box goes when its IoU with a better kept box (of the same label) is at least the threshold, as
    in mmcv's CPU operator. The IoU is rounded to the type of ``boxes`` before it is compared.

    Args:
        boxes: ``(n, 5)``.
        scores: ``(n,)``.
        iou_threshold: Largest tolerated overlap.
        labels: ``(n,)``; boxes of unlike labels ignore each other.

    Raises:
        OperatorInputError: Wrong shapes.
    """
    check_last_dim("nms_rotated", boxes, 5)
    order = rank("nms_rotated", boxes, scores)
    ranked = blank_non_finite("nms_rotated", boxes.detach())[order]
    ranked_labels = None if labels is None else labels[order]
    if iou_threshold <= 0:
        keep = _first_of_each(ranked, ranked_labels)
    else:
        keep = _keep(ranked, ranked_labels, iou_threshold)
    return order[keep]


def rank(name: str, boxes: Tensor, scores: Tensor) -> Tensor:
    """Return the order of boxes: best score first, NaN before all numbers, equal scores by index.

    Args:
        name: The operator, for messages.
        boxes: ``(n, ...)``.
        scores: ``(n,)``.

    Raises:
        OperatorInputError: Not one score for each box.
    """
    _check_scores(name, boxes, scores)
    return scores.detach().sort(dim=0, descending=True, stable=True)[1]


def _check_scores(name: str, boxes: Tensor, scores: Tensor) -> None:
    if scores.shape != boxes.shape[:1]:
        raise OperatorInputError(f"{name}: {len(boxes)} boxes, but scores of shape {tuple(scores.shape)}")
    finite_rows(f"{name} (scores)", scores)


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
    limit = float(np.float32(threshold))  # mmcv passes the threshold as a C float
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

    Raises:
        OperatorInputError: Wrong shapes.
    """
    from rsfoundation.ops.kernels.rotated_boxes import soft_suppress

    check_last_dim("soft_nms", boxes, 4)
    _check_scores("soft_nms", boxes, scores)
    finite_rows("soft_nms", boxes)
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

    Raises:
        OperatorInputError: Wrong shapes.
    """
    check_last_dim("nms_match", dets, 5)
    finite_rows("nms_match", dets[:, :4])
    left, groups = rank("nms_match", dets, dets[:, 4]), []
    while len(left):
        taken = box_iou(dets[left[:1], :4], dets[left, :4])[0] >= iou_threshold
        taken[0] = True
        groups.append(left[taken].tolist())
        left = left[~taken]
    return groups


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_bbox_overlaps(
    boxes1: Tensor, boxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Fill ``ious``."""
    ious.copy_(box_iou(boxes1, boxes2, "iof" if mode == 1 else "iou", aligned, offset))


def _mmcv_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the kept indices."""
    return nms(boxes, scores, iou_threshold, offset)


def _mmcv_nms_rotated(
    dets: Tensor,
    scores: Tensor,
    order: Tensor,
    dets_sorted: Tensor,
    labels: Tensor,
    iou_threshold: float,
    multi_label: bool,
) -> Tensor:
    """Return the kept indices; ``dets`` has a sixth column with ``multi_label``, which is ignored."""
    return nms_rotated(dets[:, :5], scores, iou_threshold, labels if multi_label else None)


def _mmcv_softnms(
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


def _mmcv_nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Return groups of indices: each kept box and those it suppresses."""
    return nms_match(dets, iou_threshold)
