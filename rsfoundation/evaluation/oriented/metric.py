"""Mean average precision of oriented boxes, computed in this process and gathered over ranks."""

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
from rsfoundation.evaluation.oriented.image_results import (
    ImageResult,
    LabelFolder,
    devkit_ignored_difficulty,
    join_results,
    result_from_sample,
    sort_unique,
)
from rsfoundation.evaluation.oriented.matching import Matching
from rsfoundation.evaluation.oriented.patch_merging import merge_patches
from rsfoundation.registry import METRICS


class ImageResultMetric(BaseMetric):
    """Keeps detections and ground truth of each tested sample as small arrays, and gathers them over ranks.

    Samples are identified by name and file: what a sampler hands out twice to even out the ranks counts
    once, and metrics do not depend on the number of ranks.
    """

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the results of one batch.

        Args:
            data_batch: Unused.
            data_samples: Tested ``DetDataSample`` given as dicts.
        """
        self.results.extend(result_from_sample(sample) for sample in data_samples)

    def sorted_results(self, results: list[ImageResult]) -> list[ImageResult]:
        """Return each image once, by name.

        Raises:
            ConfigError: The model has more classes than the data set.
        """
        images, names = sort_unique(results), self.dataset_meta["classes"]
        largest = max((int(result.labels.max()) for result in images if len(result.labels)), default=-1)
        if largest >= len(names):
            raise ConfigError(
                f"the model found an object of class number {largest + 1}, and the data set has {len(names)}",
                where="num_classes of the model, classes of the data set",
                fix="test on the classes that the model was trained with",
            )
        return images

    def evaluate(self, size: int) -> dict[str, float]:
        """Gather, and compute on the first rank.

        Args:
            size: Number of samples in the data set.
        """
        named = all(result.name or result.path for result in self.results)
        return super().evaluate(max(size, len(self.results) * get_world_size()) if named else size)


@METRICS.register_module()
class DOTAMetric(ImageResultMetric):
    """Mean AP of oriented boxes: ``mAP50``, ``mAP75``, ``mAP`` (.5:.95), and ``AP50/<class>``
    of each class with objects.

    Ignored objects neither count as missed nor make their detections wrong. ``mAP50_voc07`` and
    ``mAP50_voc12`` are both reported; ``rule`` chooses the one that all others follow. Metrics are NaN when
    there is no object at all.

    Args:
        rule: ``voc07`` (11 points; DOTA's and most papers' rule) or ``voc12`` (area).
        matching: ``mmrotate``: IoU of rectangles fitted around the labels reaches the threshold; the mean
            runs over classes with objects. ``devkit``, as DOTA's server and devkit: IoU of the corners as
            labelled is above it, difficult objects do not count (but in DOTA 1.5 and 2.0), and the mean runs
            over all classes, 0 for one without objects.
        full_images: Merge the patches of each image by NMS per class, and evaluate in its pixels.
        full_image_labels: Folder of DOTA label files of the full images; the labels of the patches joined,
            when not given.
        merge_iou: Of that NMS.
        class_agnostic: Whether that NMS compares detections of different classes too.
        collect_device: Where results of ranks are gathered.
        prefix: Put before every name.

    Attributes:
        evaluation: The last evaluation, on the first rank.
    """

    default_prefix = "detection"

    def __init__(
        self,
        rule: ApRule = "voc07",
        matching: Matching = "mmrotate",
        full_images: bool = False,
        full_image_labels: str | None = None,
        merge_iou: float = 0.1,
        class_agnostic: bool = False,
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
        self.class_agnostic = class_agnostic
        self.evaluation: Evaluation | None = None

    def compute_metrics(self, results: list[ImageResult]) -> dict[str, float]:
        """Evaluate the results of all images, and log a table of classes."""
        images, names = self.sorted_results(results), self.dataset_meta["classes"]
        if self.full_images:
            labels = self._labels(names)
            images = list(
                merge_patches(images, self.merge_iou, labels.read if labels else None, self.class_agnostic)
            )
        self.evaluation = evaluate(join_results(images), names, self.rule, self.matching)
        self._log_table(self.evaluation)
        return self.evaluation.metrics()

    def _labels(self, names: Sequence[str]) -> LabelFolder | None:
        if self.full_image_labels is None:
            return None
        ignore = devkit_ignored_difficulty(names) if self.matching == "devkit" else None
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
