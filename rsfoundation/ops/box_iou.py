"""Overlap of upright boxes ``(x1, y1, x2, y2)``."""

from typing import Literal

import torch
from torch import Tensor


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
