"""Figures of semantic segmentation, per class and averaged."""

from __future__ import annotations

import numpy as np

from rsfoundation.registry import METRICS
from rsfoundation.structures.confusion import class_scores, mean, overall_accuracy
from rsfoundation.structures.confusion_metric import ConfusionMetric


@METRICS.register_module()
class SegmentationMetric(ConfusionMetric):
    """``mIoU``, ``mF1``, ``OA`` and ``<class>/{IoU,F1,Precision,Recall}``, fractions in 0..1.

    Areas are summed over the whole test set before anything is divided, so an image counts by its
    pixels. A class that occurs neither in truth nor in prediction is NaN and left out of the averages.
    """

    def figures(self, matrix: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of the summed matrix."""
        scores = [class_scores(matrix, index) for index in range(len(names))]
        found = {
            "mIoU": mean([score.iou for score in scores]),
            "mF1": mean([score.f1 for score in scores]),
            "OA": overall_accuracy(matrix),
        }
        for name, score in zip(names, scores, strict=True):
            found[f"{name}/IoU"], found[f"{name}/F1"] = score.iou, score.f1
            found[f"{name}/Precision"], found[f"{name}/Recall"] = score.precision, score.recall
        return found
