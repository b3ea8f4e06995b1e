"""Oriented mean average precision, computed in process and gathered over ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures.bbox import get_box_tensor
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from torch import Tensor

from rsfoundation.detection.average_precision import ApRule, ClassCurve, ClassMatches, class_curve
from rsfoundation.ops import box_iou_rotated
from rsfoundation.registry import METRICS
from rsfoundation.structures.boxes import quad_to_rbox

_THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2))  # COCO's ten
_NOTHING = ClassMatches(*(np.zeros(0, kind) for kind in (float, float, int, bool)))


@METRICS.register_module()
class DOTAMetric(BaseMetric):
    """Mean AP of oriented boxes: ``mAP50``, ``mAP75``, ``mAP`` (.5:.95), and ``AP50/<class>``
    of each class with objects.

    IoU is that of rotated rectangles, matched with ``>=``. Ignored objects neither count as missed nor
    make their detections wrong. The mean runs over classes with objects, and is NaN when there is none.
    ``mAP50_voc07`` and ``mAP50_voc12`` are both reported; ``rule`` chooses the one that all others follow.

    Args:
        rule: ``voc07`` (11 points; DOTA's and most papers' rule) or ``voc12`` (area).
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.
    """

    default_prefix = "detection"

    def __init__(
        self, rule: ApRule = "voc07", collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.rule: ApRule = rule

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Match one batch; keeps ``label -> ClassMatches`` per image, not the boxes."""
        self.results.extend(match_image(sample) for sample in data_samples)

    def compute_metrics(self, results: list[dict[int, ClassMatches]]) -> dict[str, float]:
        """Turn the matches of all images into figures, and log a table of classes."""
        names = self.dataset_meta["classes"]
        curves = [self._curves(results, label) for label in range(len(names))]
        aps = np.array([[curve.average_precision(self.rule) for curve in row] for row in curves])
        by_rule: dict[str, float] = {
            f"mAP50_{rule}": _mean(np.array([row[0].average_precision(rule) for row in curves]))
            for rule in ("voc07", "voc12")
        }
        self._log_table(names, [row[0] for row in curves], aps)
        return {
            "mAP50": _mean(aps[:, 0]),
            "mAP75": _mean(aps[:, _THRESHOLDS.index(0.75)]),
            "mAP": _mean(aps),
            **by_rule,
            **{
                f"AP50/{name}": float(ap)
                for name, ap in zip(names, aps[:, 0], strict=True)
                if not np.isnan(ap)
            },
        }

    def _curves(self, results: list[dict[int, ClassMatches]], label: int) -> list[ClassCurve]:
        images = [image.get(label, _NOTHING) for image in results] or [_NOTHING]
        return [class_curve(images, threshold) for threshold in _THRESHOLDS]

    def _log_table(self, names: Sequence[str], curves: Sequence[ClassCurve], aps: np.ndarray) -> None:
        lines = [f"{'class':<20} {'objects':>8} {'found':>8} {'recall':>7} {'AP50':>7} {'AP':>7}"]
        for name, curve, row in zip(names, curves, aps, strict=True):
            if curve.objects or curve.detections:
                recall = curve.recall[-1] if len(curve.recall) else 0.0
                lines.append(
                    f"{name:<20} {curve.objects:>8} {curve.detections:>8} {recall:>7.3f}"
                    f" {row[0]:>7.3f} {np.mean(row):>7.3f}"
                )
        MMLogger.get_current_instance().info("average precision (%s)\n%s", self.rule, "\n".join(lines))


def match_image(sample: Mapping[str, Any]) -> dict[int, ClassMatches]:
    """Match the predictions of one sample with its ground truth, class by class.

    Args:
        sample: A ``DetDataSample`` as dict: ``pred_instances``, ``gt_instances``, ``ignored_instances``.
    """
    predicted, scores = sample["pred_instances"], sample["pred_instances"]["scores"].detach().cpu()
    found, found_labels = _rboxes(predicted["bboxes"]), predicted["labels"].cpu()
    truth = [sample["gt_instances"], sample.get("ignored_instances", {})]
    truth = [part for part in truth if "bboxes" in part]
    boxes = torch.cat([_rboxes(part["bboxes"]) for part in truth] or [torch.zeros(0, 5)])
    labels = torch.cat([part["labels"].cpu() for part in truth] or [torch.zeros(0, dtype=torch.long)])
    ignored = torch.arange(len(labels)) >= (len(truth[0]["labels"]) if truth else 0)
    matches = {}
    for label in torch.cat([found_labels, labels]).unique().tolist():
        mine, theirs = found_labels == label, labels == label
        order = scores[mine].argsort(descending=True, stable=True)
        overlaps, targets = _best(found[mine][order], boxes[theirs])
        matches[int(label)] = ClassMatches(
            scores[mine][order].numpy(), overlaps.numpy(), targets.numpy(), ignored[theirs].numpy()
        )
    return matches


def _best(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the IoU with, and the index of, the object that each found box overlaps most."""
    if not len(truth) or not len(found):
        return torch.zeros(len(found)), torch.zeros(len(found), dtype=torch.long)
    best = box_iou_rotated(found, truth).max(dim=1)
    return best.values, best.indices


def _rboxes(bboxes: Any) -> Tensor:
    """Return boxes of any mm box type as ``(N, 5)`` on the CPU."""
    tensor = get_box_tensor(bboxes).detach().cpu().float()
    if tensor.shape[-1] == 8:
        return torch.from_numpy(quad_to_rbox(tensor.numpy())).float()
    return tensor.reshape(-1, 5)


def _mean(aps: np.ndarray) -> float:
    return float(np.nanmean(aps)) if np.isfinite(aps).any() else float("nan")
