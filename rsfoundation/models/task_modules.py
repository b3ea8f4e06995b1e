"""Coders, anchors, assigners and samplers of detectors."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import mmdet.models.task_modules as mmdet_modules
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes, cat_boxes, get_box_tensor
from mmengine.structures import InstanceData
from mmrotate.models.task_modules.coders import DeltaXYWHTRBBoxCoder
from mmrotate.models.task_modules.coders import MidpointOffsetCoder as UpstreamCoder
from mmrotate.models.task_modules.prior_generators import (
    FakeRotatedAnchorGenerator as UpstreamRotatedGenerator,
)
from mmrotate.structures.bbox import RotatedBoxes
from torch import Tensor

from rsfoundation.registry import TASK_UTILS

MOST_SIZES = 8  # sizes of images whose anchors are kept: those of multi-scale training
_OBJECTS_AT_ONCE = 128  # whose claims on anchors are compared at once
_Value = TypeVar("_Value")

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


class KeptPriors:
    """Mixin before a generator of anchors or points: those of the sizes seen last are kept, in float32.

    Upstream makes them anew for every batch, and in the type of the scores: in bfloat16, which mixed
    precision gives, an anchor at pixel 1000 is moved by up to 4 pixels.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._known: dict[tuple[Any, ...], list[BaseBoxes | Tensor]] = {}

    def grid_priors(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cuda",
        **kwargs: Any,
    ) -> list[BaseBoxes | Tensor]:
        """Return the anchors or points of each level, in pixels; they are not to be changed in place.

        Args:
            featmap_sizes: Height and width of each level's map.
            dtype: Their type, if it is wider than float32.
            device: Where they are needed.
            **kwargs: ``with_stride`` of points.
        """
        upstream: Any = super()
        dtype = torch.promote_types(dtype, torch.float32)
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return upstream.grid_priors(featmap_sizes, dtype=dtype, device=device, **kwargs)
        sizes = tuple((int(height), int(width)) for height, width in featmap_sizes)
        key = (sizes, dtype, str(device), *kwargs.items())

        def make() -> list[BaseBoxes | Tensor]:
            with torch.inference_mode(False):  # they may be part of a training step later
                return upstream.grid_priors(featmap_sizes, dtype=dtype, device=device, **kwargs)

        return kept(self._known, key, make)


@TASK_UTILS.register_module()
class AnchorGenerator(KeptPriors, mmdet_modules.AnchorGenerator):
    """``mmdet.AnchorGenerator`` with the anchors of :class:`KeptPriors`."""


@TASK_UTILS.register_module()
class FakeRotatedAnchorGenerator(KeptPriors, UpstreamRotatedGenerator):
    """``mmrotate.FakeRotatedAnchorGenerator`` with the anchors of :class:`KeptPriors`."""


@TASK_UTILS.register_module()
class MlvlPointGenerator(KeptPriors, mmdet_modules.MlvlPointGenerator):
    """``mmdet.MlvlPointGenerator`` with the points of :class:`KeptPriors`."""


def kept(known: dict[Any, _Value], key: Any, make: Callable[[], _Value]) -> _Value:
    """Return the value of a key, made where it is not known; of more than ``MOST_SIZES`` the oldest goes.

    Args:
        known: Values by their keys.
        key: Of the value.
        make: Makes it.
    """
    value = known.get(key)
    if value is None:
        value = make()
        while len(known) >= MOST_SIZES:
            del known[next(iter(known))]
        known[key] = value
    return value


@TASK_UTILS.register_module()
class MaxIoUAssigner(mmdet_modules.MaxIoUAssigner):
    """``mmdet.MaxIoUAssigner`` without a step per object, and without waiting for the device.

    Upstream gives each object its best anchors one object after the other, and looks at a value on the way:
    on a GPU that is a wait for all work so far per object, hundreds a step with scenes of ships or cars.
    Assignments are equal.

    Args:
        **kwargs: Those of ``mmdet.MaxIoUAssigner``; ``neg_iou_thr`` is a number or a pair.
    """

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign anchors or proposals to objects.

        Args:
            overlaps: ``(objects, boxes)``; -1 in the column of a box that is to be ignored.
            gt_labels: ``(objects,)``.

        Returns:
            For each box the number of its object from 1, 0 for background, -1 for neither.
        """
        objects, boxes = overlaps.shape
        if not objects or not boxes:
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        best, best_object = overlaps.max(dim=0)
        pair = isinstance(self.neg_iou_thr, tuple | list)
        low, high = self.neg_iou_thr if pair else (0.0, self.neg_iou_thr)
        assigned = torch.where((best >= low) & (best < high), 0, -1)
        assigned = torch.where(best >= self.pos_iou_thr, best_object + 1, assigned)
        if self.match_low_quality:
            own_best, own_box = overlaps.max(dim=1)
            numbers = torch.arange(1, objects + 1, dtype=torch.int32, device=overlaps.device)
            numbers = torch.where(own_best >= self.min_pos_iou, numbers, 0)
            if self.gt_max_assign_all:
                # the best box of several objects goes to the last of them, as in upstream's loop
                claims = numbers.new_zeros(boxes)
                parts = (one.split(_OBJECTS_AT_ONCE) for one in (overlaps, own_best, numbers))
                for rows, highest, names in zip(*parts, strict=True):
                    claimed = torch.where(rows == highest[:, None], names[:, None], 0)
                    claims = torch.maximum(claims, claimed.amax(dim=0))
            else:
                claims = numbers.new_zeros(boxes).scatter_reduce_(0, own_box, numbers, "amax")
            assigned = torch.where(claims > 0, claims.long(), assigned)
        labels = torch.where(assigned > 0, gt_labels[(assigned - 1).clamp(min=0)], -1)
        return AssignResult(num_gts=objects, gt_inds=assigned, max_overlaps=best, labels=labels)


@TASK_UTILS.register_module()
class RandomSampler(mmdet_modules.RandomSampler):
    """``mmdet.RandomSampler`` that waits for the device less often; it draws the same.

    It does not look for equal indices among those it drew, of which there are none.

    Args:
        **kwargs: Those of ``mmdet.RandomSampler``.
    """

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        **kwargs: object,
    ) -> SamplingResult:
        """Draw positive boxes, and negative ones for the rest of ``num``.

        Args:
            assign_result: Of an assigner; with ``add_gt_as_proposals`` the objects are added to it.
            pred_instances: Anchors or proposals as ``priors``.
            gt_instances: ``bboxes`` and ``labels``.
            **kwargs: Passed to the draws.

        Returns:
            Indices in ascending order.
        """
        objects, priors = self._named(gt_instances.bboxes), pred_instances.priors
        is_object = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        if self.add_gt_as_proposals and len(objects):
            added = objects
            if isinstance(objects, BaseBoxes) and isinstance(priors, BaseBoxes):
                added = objects.convert_to(type(priors))
            priors = cat_boxes([added, priors], dim=0)
            assign_result.add_gt_(gt_instances.labels)
            is_object = torch.cat([is_object.new_ones(len(added)), is_object])
        positive = self._sample_pos(assign_result, int(self.num * self.pos_fraction), **kwargs).flatten()
        wanted = self.num - len(positive)
        if self.neg_pos_ub >= 0:
            wanted = min(wanted, int(self.neg_pos_ub * max(1, len(positive))))
        negative = self._sample_neg(assign_result, wanted, **kwargs).flatten()
        return SamplingResult(
            pos_inds=positive.sort()[0],
            neg_inds=negative.sort()[0],
            priors=priors,
            gt_bboxes=objects,
            assign_result=assign_result,
            gt_flags=is_object,
        )

    def _named(self, objects: BaseBoxes | Tensor) -> BaseBoxes | Tensor:
        """Return the objects as they join the proposals."""
        return objects


@TASK_UTILS.register_module()
class RotatedRandomSampler(RandomSampler):
    """:class:`RandomSampler` whose ground truth has ``w >= h`` and theta in [-pi/2, pi/2).

    Ground truth is added to the proposals, and RoI pooling reads features along the sides of a proposal: the
    same rectangle under another name, with its sides exchanged or theta out of range, is pooled as other
    features. After loading, half of all boxes are named so, after rotation more.
    """

    def _named(self, objects: BaseBoxes | Tensor) -> BaseBoxes | Tensor:
        if isinstance(objects, RotatedBoxes):
            return RotatedBoxes(long_side_first(objects.tensor), clone=False)
        return objects


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
