"""Figures of binary change detection, of the changed class alone as papers report them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from rsfoundation.core.errors import ConfigError
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.registry import METRICS


def confusion_matrix(
    truth: np.ndarray, prediction: np.ndarray, classes: int, ignore_index: int = IGNORED
) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args:
        truth: Integer labels of any shape; ``ignore_index`` is left out.
        prediction: Integer labels of the same shape, in ``[0, classes)``.
        classes: Number of classes.
        ignore_index: Truth label that counts nowhere.

    Returns:
        ``(classes, classes)`` int64.
    """
    counted = truth != ignore_index
    flat = truth[counted].astype(np.int64) * classes + prediction[counted].astype(np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class ClassScores:
    """Figures of one class, fractions in 0..1; NaN where the class occurs nowhere."""

    iou: float
    f1: float
    precision: float
    recall: float


def class_scores(matrix: np.ndarray, index: int) -> ClassScores:
    """Compute the figures of one class from a confusion matrix."""
    hit = float(matrix[index, index])
    true, predicted = float(matrix[index].sum()), float(matrix[:, index].sum())
    return ClassScores(
        iou=_ratio(hit, true + predicted - hit),
        f1=_ratio(2 * hit, true + predicted),
        precision=_ratio(hit, predicted),
        recall=_ratio(hit, true),
    )


def overall_accuracy(matrix: np.ndarray) -> float:
    """Return the share of counted pixels whose class is right."""
    return _ratio(float(np.trace(matrix)), float(matrix.sum()))


def kappa(matrix: np.ndarray) -> float:
    """Return Cohen's kappa: the accuracy above chance."""
    total = float(matrix.sum())
    chance = _ratio(float((matrix.sum(axis=0) / max(total, 1)) @ matrix.sum(axis=1)), total)
    return _ratio(overall_accuracy(matrix) - chance, 1 - chance)


def mean(values: Sequence[float]) -> float:
    """Average what is a number: classes that occur nowhere do not count."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


class ConfusionMetric(BaseMetric):
    """Collects a confusion matrix per image.

    One matrix per image, not one per process, so that the images a distributed sampler repeats to
    fill up its last round can be dropped again.

    Args:
        ignore_index: Truth label that counts nowhere.
        collect_device: Where matrices are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every key, as ``prefix/key``.
    """

    def __init__(
        self, ignore_index: int = IGNORED, collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch of ``gt_sem_seg`` and ``pred_sem_seg``."""
        classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            truth = sample["gt_sem_seg"]["data"].squeeze(0).cpu().numpy()
            prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            self.results.append(confusion_matrix(truth, prediction, classes, self.ignore_index))

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Sum the matrices and compute the figures."""
        return self.figures(np.sum(results, axis=0), tuple(self.dataset_meta["classes"]))

    @abstractmethod
    def figures(self, matrix: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of the summed matrix; ``names`` are the class names."""


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


@METRICS.register_module()
class ChangeMetric(ConfusionMetric):
    """``<class>/{F1,IoU,Precision,Recall}`` of the changed class, ``OA`` and ``Kappa``, in 0..1.

    Published change detection figures are those of the changed class over the whole test set; an
    average with the unchanged class, or over images, is a different and higher number.

    Args:
        class_name: Name of the class whose figures count.
        ignore_index: Truth label that counts nowhere.
        collect_device: Where matrices are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every key, as ``prefix/key``.
    """

    def __init__(
        self,
        class_name: str = "changed",
        ignore_index: int = IGNORED,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ignore_index, collect_device, prefix)
        self.class_name = class_name

    def figures(self, matrix: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
        """Return the figures of the summed matrix.

        Raises:
            ConfigError: The data set has no class of that name.
        """
        if self.class_name not in names:
            raise ConfigError(
                f"the data set has no class '{self.class_name}', only {', '.join(names)}",
                where="val_evaluator / test_evaluator",
                fix="set class_name to the name of the changed class",
            )
        score = class_scores(matrix, names.index(self.class_name))
        return {
            f"{self.class_name}/F1": score.f1,
            f"{self.class_name}/IoU": score.iou,
            f"{self.class_name}/Precision": score.precision,
            f"{self.class_name}/Recall": score.recall,
            "OA": overall_accuracy(matrix),
            "Kappa": kappa(matrix),
        }
