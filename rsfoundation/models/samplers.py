"""Samplers of proposals for oriented detectors."""

import mmdet.models.task_modules as mmdet_modules
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.registry import TASK_UTILS


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
