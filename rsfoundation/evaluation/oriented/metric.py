"""Oriented mean average precision, computed in process and gathered over ranks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.evaluation.average_precision import ApRule
from rsfoundation.evaluation.oriented.evaluate import Evaluation, evaluate
from rsfoundation.evaluation.oriented.matching import Matching
from rsfoundation.evaluation.oriented.patch_merging import merge_patches
from rsfoundation.evaluation.oriented.records import (
    ImageRecord,
    LabelFolder,
    findings_of,
    record_of,
    sorted_once,
)
from rsfoundation.registry import METRICS


class RecordingMetric(BaseMetric):
    """Keeps detections and labels of each tested sample as small arrays, and gathers them over ranks.

    Samples are told apart by name and file: what a sampler hands out twice to even out the ranks counts
    once, and figures do not depend on the number of ranks.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Take the records of one batch."""
        self.results.extend(record_of(sample) for sample in data_samples)

    def sorted_records(self, results: list[ImageRecord]) -> list[ImageRecord]:
        """Return each image once, by name.

        Raises:
            ConfigError: The model knows more classes than the data set.
        """
        records, names = sorted_once(results), self.dataset_meta["classes"]
        largest = max((int(record.labels.max()) for record in records if len(record.labels)), default=-1)
        if largest >= len(names):
            raise ConfigError(
                f"the model found an object of class number {largest + 1}, and the data set has {len(names)}",
                where="num_classes of the model, classes of the data set",
                fix="test on the classes that the model was trained with",
            )
        return records

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather, and compute on the first rank.

        Args:
            size: Number of samples in the data set.
        """
        named = all(record.name or record.path for record in self.results)
        return super().evaluate(max(size, len(self.results) * get_world_size()) if named else size)


@METRICS.register_module()
class DOTAMetric(RecordingMetric):
    """Mean AP of oriented boxes: ``mAP50``, ``mAP75``, ``mAP`` (.5:.95), and ``AP50/<class>``
    of each class with objects.

    Ignored objects neither count as missed nor make their detections wrong. ``mAP50_voc07`` and
    ``mAP50_voc12`` are both reported; ``rule`` chooses the one that all others follow. Figures are NaN when
    there is no object at all.

    Args:
        rule: ``voc07`` (11 points; DOTA's and most papers' rule) or ``voc12`` (area).
        matching: ``mmrotate``: IoU of rectangles fitted around the labels reaches the threshold; the mean
            runs over classes with objects. ``devkit``, as DOTA's server and devkit: IoU of the corners as
            labelled lies above it, difficult objects do not count, and the mean runs over all classes, 0
            for one without objects.
        full_images: Merge the patches of each image by NMS per class, and evaluate in its pixels.
        full_image_labels: Folder of DOTA label files of the full images; the labels of the patches joined,
            when not given.
        merge_iou: Of that NMS.
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.

    Attributes:
        evaluation: What was measured last, on the first rank.
    """

    default_prefix = "detection"

    def __init__(
        self,
        rule: ApRule = "voc07",
        matching: Matching = "mmrotate",
        full_images: bool = False,
        full_image_labels: str | None = None,
        merge_iou: float = 0.1,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        for option, value, known in (("rule", rule, ApRule), ("matching", matching, Matching)):
            check_choice(option, value, get_args(known), "DOTAMetric")
        self.rule: ApRule = rule
        self.matching: Matching = matching
        self.full_images = full_images or full_image_labels is not None
        self.full_image_labels = full_image_labels
        self.merge_iou = merge_iou
        self.evaluation: Evaluation | None = None

    def compute_metrics(self, results: list[ImageRecord]) -> dict[str, float]:
        """Turn the records of all images into figures, and log a table of classes."""
        records, names = self.sorted_records(results), self.dataset_meta["classes"]
        if self.full_images:
            labels = self._labels(names)
            records = list(merge_patches(records, self.merge_iou, labels.read if labels else None))
        self.evaluation = evaluate(findings_of(records), names, self.rule, self.matching)
        self._log_table(self.evaluation)
        return self.evaluation.metrics()

    def _labels(self, names: Sequence[str]) -> LabelFolder | None:
        if self.full_image_labels is None:
            return None
        ignore = 1 if self.matching == "devkit" else None
        return LabelFolder(Path(self.full_image_labels), tuple(names), ignore)

    def _log_table(self, evaluation: Evaluation) -> None:
        lines = [f"{'class':<20} {'objects':>8} {'found':>8} {'recall':>7} {'AP50':>7} {'AP':>7}"]
        for name, curves, row in zip(evaluation.classes, evaluation.curves, evaluation.aps(), strict=True):
            if curves[0].objects or curves[0].detections:
                recall = curves[0].recall[-1] if len(curves[0].recall) else 0.0
                lines.append(
                    f"{name:<20} {curves[0].objects:>8} {curves[0].detections:>8} {recall:>7.3f}"
                    f" {row[0]:>7.3f} {np.mean(row):>7.3f}"
                )
        on = f"{evaluation.images} {'full images' if self.full_images else 'images'}"
        table = "\n".join(lines)
        logger = MMLogger.get_current_instance()
        logger.info("average precision (%s, %s matching, %s)\n%s", self.rule, self.matching, on, table)
        if not any(row[0].objects for row in evaluation.curves):
            logger.warning(
                "no labelled object: nothing can be measured; `rsf test --format-only` writes a submission"
            )
