"""Box deltas in the ``oc`` angles of mmrotate 0.x."""

import math
from typing import Any

import torch
from mmrotate.models.task_modules.coders import DeltaXYWHTRBBoxCoder
from mmrotate.structures.bbox import RotatedBoxes
from torch import Tensor

from rsfoundation.registry import TASK_UTILS

_EDGE = 1e-4  # radians; an upright box within this of angle 0 is one of angle pi/2


@TASK_UTILS.register_module()
class OpenCVAngleCoder(DeltaXYWHTRBBoxCoder):
    """``DeltaXYWHTRBBoxCoder`` whose targets have angles in (0, pi/2], as OpenCV since 4.5.1 gives them.

    mmrotate 0.x trained its ``oc`` detectors on these, mmrotate 1.x means [-pi/2, 0) by the same name: the
    same rectangles with other sides called width. Decoding is that of ``oc``, which keeps whatever angle the
    deltas lead to, so boxes of weights of either stay in their own range from stage to stage.

    Args:
        **kwargs: ``target_means``, ``target_stds``, ``use_box_type`` as upstream.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(angle_version="oc", norm_factor=None, edge_swap=False, proj_xy=False, **kwargs)

    def encode(self, bboxes: RotatedBoxes, gt_bboxes: RotatedBoxes) -> Tensor:
        """Return the deltas ``(N, 5)`` that turn ``bboxes`` into ``gt_bboxes``."""
        cx, cy, w, h, angle = to_opencv_range(gt_bboxes.tensor).unbind(-1)
        x, y, width, height, start = bboxes.tensor.unbind(-1)
        deltas = torch.stack(
            [
                (cx - x) / width,
                (cy - y) / height,
                (w / width).log(),
                (h / height).log(),
                angle - start,
            ],
            dim=-1,
        )
        return (deltas - deltas.new_tensor(self.means)) / deltas.new_tensor(self.stds)


def to_opencv_range(boxes: Tensor) -> Tensor:
    """Rewrite boxes ``(N, 5)`` with angles in (0, pi/2] without moving a corner."""
    cx, cy, w, h, angle = boxes.unbind(-1)
    turned = angle.remainder(math.pi)
    turned = torch.where(turned < _EDGE, turned + math.pi, turned)
    swap = turned > math.pi / 2 + _EDGE
    return torch.stack(
        [
            cx,
            cy,
            torch.where(swap, h, w),
            torch.where(swap, w, h),
            torch.where(swap, turned - math.pi / 2, turned),
        ],
        dim=-1,
    )
