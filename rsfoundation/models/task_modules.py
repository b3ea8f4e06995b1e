"""Coders and samplers of oriented detectors."""

import math
from collections.abc import Sequence
from typing import Any

import mmdet.models.task_modules as mmdet_modules
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.bbox import HorizontalBoxes, get_box_tensor
from mmengine.structures import InstanceData
from mmrotate.models.task_modules.coders import DeltaXYWHTRBBoxCoder
from mmrotate.models.task_modules.coders import MidpointOffsetCoder as UpstreamCoder
from mmrotate.structures.bbox import RotatedBoxes
from torch import Tensor

from rsfoundation.registry import TASK_UTILS

_EDGE = 1e-4  # radians; an upright box within this of angle 0 is one of angle pi/2


@TASK_UTILS.register_module()
class OpenCVAngleCoder(DeltaXYWHTRBBoxCoder):
    """``DeltaXYWHTRBBoxCoder`` whose targets have angles in (0, pi/2], as OpenCV since 4.5.1 gives them.

    mmrotate 0.x trained its ``oc`` detectors on these, mmrotate 1.x means [-pi/2, 0) by the same name: the
    same rectangles with other sides called width. Decoding is that of ``oc``, which keeps the angle that the
    deltas lead to, so boxes of either version stay in their own range from stage to stage.

    Args:
        **kwargs: ``target_means``, ``target_stds``, ``use_box_type`` as upstream.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(angle_version="oc", norm_factor=None, edge_swap=False, proj_xy=False, **kwargs)

    def encode(self, bboxes: RotatedBoxes, gt_bboxes: RotatedBoxes) -> Tensor:
        """Return the deltas ``(N, 5)`` that turn ``bboxes`` into ``gt_bboxes``.

        Args:
            bboxes: Boxes to start from, one per target.
            gt_bboxes: Targets.
        """
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


_MOST_OFFSET = 0.5  # a midpoint stays on its side


def _length(x: Tensor, y: Tensor) -> Tensor:
    """Return the lengths of vectors; ONNX has no ``hypot``."""
    return (x * x + y * y).sqrt()


@TASK_UTILS.register_module()
class MidpointOffsetCoder(UpstreamCoder):
    """``mmrotate.MidpointOffsetCoder`` (Xie et al., ICCV 2021) that decodes without leaving the device.

    Six deltas move and scale an upright box and place a corner on its upper and on its right side; the
    parallelogram of these two and their mirror images is made a rectangle by stretching the shorter diagonal.
    Upstream fits a rectangle around each of an image's thousands of proposals with OpenCV, one at a time on
    the CPU; but they are rectangles already.

    Args:
        **kwargs: ``target_means``, ``target_stds``, ``angle_version``, ``use_box_type`` as upstream.
    """

    def decode(
        self,
        bboxes: HorizontalBoxes | Tensor,
        pred_bboxes: Tensor,
        max_shape: Sequence[int] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> RotatedBoxes | Tensor:
        """Apply deltas ``(N, 6)`` to upright boxes ``(N, 4)``.

        Args:
            bboxes: ``x1 y1 x2 y2`` in pixels.
            pred_bboxes: Output of the network; decoded in float32 at least.
            max_shape: Not used, as upstream.
            wh_ratio_clip: Sides change by at most this factor or its inverse.

        Returns:
            ``(N, 5)`` in the range of the angle version.
        """
        boxes = get_box_tensor(bboxes)
        kind = torch.promote_types(pred_bboxes.dtype, torch.float32)
        deltas = pred_bboxes.to(kind) * boxes.new_tensor(self.stds) + boxes.new_tensor(self.means)
        dx, dy, dw, dh, upper, right = deltas.unbind(-1)
        x1, y1, x2, y2 = boxes.to(kind).unbind(-1)
        most = abs(math.log(wh_ratio_clip))
        width, height = (
            (x2 - x1) * dw.clamp(-most, most).exp(),
            (y2 - y1) * dh.clamp(-most, most).exp(),
        )
        cx, cy = (x1 + x2) / 2 + (x2 - x1) * dx, (y1 + y2) / 2 + (y2 - y1) * dy
        ax, ay = upper.clamp(-_MOST_OFFSET, _MOST_OFFSET) * width, -height / 2
        bx, by = width / 2, right.clamp(-_MOST_OFFSET, _MOST_OFFSET) * height
        a, b = _length(ax, ay), _length(bx, by)
        longer = torch.maximum(a, b)
        ax, ay, bx, by = ax * longer / a, ay * longer / a, bx * longer / b, by * longer / b
        one, other = _length(bx - ax, by - ay), _length(ax + bx, ay + by)
        along = one >= other  # a side of no length has no direction
        angle = torch.where(along, torch.atan2(by - ay, bx - ax), torch.atan2(ay + by, ax + bx))
        sides = torch.maximum(one, other), torch.minimum(one, other)
        decoded = torch.stack([cx, cy, *sides, angle], dim=-1)
        regular = RotatedBoxes(decoded, clone=False).regularize_boxes(self.angle_version)
        return RotatedBoxes(regular, clone=False) if self.use_box_type else regular


@TASK_UTILS.register_module()
class RotatedRandomSampler(mmdet_modules.RandomSampler):
    """``mmdet.RandomSampler`` whose ground truth has ``w >= h`` and theta in [-pi/2, pi/2).

    Ground truth is added to the proposals, and RoI pooling reads features along the sides of a proposal: the
    same rectangle under another name, with its sides exchanged or theta out of range, is pooled as other
    features. After loading, half of all boxes are named so, after rotation more.
    """

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        **kwargs: object,
    ) -> SamplingResult:
        """Sample proposals.

        Args:
            assign_result: Of an assigner.
            pred_instances: The proposals as ``priors``.
            gt_instances: ``bboxes`` and ``labels``.
            **kwargs: Passed to mmdet's.
        """
        boxes = gt_instances.bboxes
        if isinstance(boxes, RotatedBoxes):
            boxes = RotatedBoxes(long_side_first(boxes.tensor), clone=False)
        named = InstanceData(bboxes=boxes, labels=gt_instances.labels)
        return super().sample(assign_result, pred_instances, named, **kwargs)


def long_side_first(boxes: torch.Tensor) -> torch.Tensor:
    """Return boxes ``(N, 5)`` with ``w >= h`` and theta in [-pi/2, pi/2); those named so stay as they are."""
    centre, w, h, theta = boxes[:, :2], boxes[:, 2], boxes[:, 3], boxes[:, 4]
    swap = h > w
    theta = torch.where(swap, theta + torch.pi / 2, theta)
    inside = (theta >= -torch.pi / 2) & (theta < torch.pi / 2)
    wrapped = (theta + torch.pi / 2) % torch.pi - torch.pi / 2
    wrapped = torch.where(wrapped >= torch.pi / 2, -torch.pi / 2, wrapped)  # rounding can reach the open end
    sides = torch.where(swap, h, w), torch.where(swap, w, h), torch.where(inside, theta, wrapped)
    return torch.cat([centre, torch.stack(sides, dim=1)], dim=1)
