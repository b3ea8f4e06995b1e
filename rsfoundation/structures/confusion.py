"""Confusion matrices of class maps and the figures computed from them.

A matrix counts pixels: row = true class, column = predicted class. Matrices add up, so a whole test
set is one pass with one small matrix per image, whatever the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsfoundation.structures.labels import IGNORED


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
