"""Non-maximum suppression of upright boxes ``(x1, y1, x2, y2)``."""

import torchvision
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim


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
