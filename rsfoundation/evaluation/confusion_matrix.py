"""Confusion matrices of label maps, counted image by image, and the metrics that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.ops.kernels.runtime import kernel

_GRAIN = 1 << 18  # fewest pixels worth a thread of their own
_LANES = 4  # counters of each cell, used in turn: a single one would wait for its own last increment


@kernel
def _count_chunk(
    truth: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    ignore_index: int,
    counts: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add pixels ``start..stop`` to ``counts`` (lanes * (classes + 2) * (classes + 1),) without a branch.

    Labels and predictions of no class go to row and column ``classes``, ignored pixels to the next row.
    """
    limit, width = np.uint64(classes), np.uint64(classes + 1)
    size = (limit + np.uint64(2)) * width
    for i in range(start, stop):
        # a negative number is a large unsigned one
        row = min(np.uint64(truth[i]), limit) if truth[i] != ignore_index else width
        column = min(np.uint64(prediction[i]), limit)
        counts[np.uint64(i & (_LANES - 1)) * size + row * width + column] += 1


def count_pixels(
    truth: np.ndarray,
    prediction: np.ndarray,
    classes: int,
    ignore_index: int = IGNORED,
    where: str | None = None,
) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args:
        truth: Integer labels of any shape; pixels of ``ignore_index`` are not counted.
        prediction: Integer labels of the same shape.
        classes: Number of classes.
        ignore_index: Label of pixels that are not counted.
        where: File of the labels, for the error.

    Returns:
        ``(classes, classes + 1)`` int64, truth by row. The last column counts predictions of no class, as
        a model with more classes makes them: missed pixels of their true class, and false ones of no other.

    Raises:
        DataError: A label is no class, or the shapes differ.
    """
    from rsfoundation.ops.kernels.threads import run_chunks

    if truth.shape != prediction.shape:
        raise DataError(
            f"the label map is {truth.shape}, and the prediction {prediction.shape}",
            where=where,
            fix="check that the label has the size of its image",
        )
    parts: list[np.ndarray] = []

    def counters() -> tuple[np.ndarray]:
        parts.append(np.zeros(_LANES * (classes + 2) * (classes + 1), np.int64))
        return (parts[-1],)

    labels, found = np.ascontiguousarray(truth).reshape(-1), np.ascontiguousarray(prediction).reshape(-1)
    run_chunks(
        _count_chunk, labels.size, labels, found, classes, ignore_index, grain=_GRAIN, scratch=counters
    )
    total = np.sum(parts, axis=0).reshape(_LANES, classes + 2, classes + 1).sum(axis=0)
    if total[classes].any():
        _refuse_labels(labels, classes, ignore_index, where)
    return total[:classes]


def _refuse_labels(truth: np.ndarray, classes: int, ignore_index: int, where: str | None) -> None:
    values, counts = np.unique(truth, return_counts=True)
    wrong = [
        f"{value} ({count} pixels)"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value != ignore_index and not 0 <= value < classes
    ]
    raise DataError(
        f"labels that are no class: {', '.join(wrong[:5])}; there are {classes} classes, 0 to {classes - 1}, "
        f"and {ignore_index} is ignored",
        where=where,
        fix="list all classes in the data set's metainfo, map the values with label_map={value: class}, "
        "or set reduce_zero_label=True where 0 is no class",
    )


@dataclass(frozen=True)
class ClassScores:
    """Metrics of one class, fractions in 0..1; NaN where their denominator is zero."""

    iou: float
    f1: float
    precision: float
    recall: float


def class_scores(matrix: np.ndarray, index: int) -> ClassScores:
    """Compute the metrics of one class.

    A class that is neither in the truth nor in the prediction has NaN for all of them.

    Args:
        matrix: ``(C, C)`` or ``(C, C + 1)``, see :func:`count_pixels`.
        index: Of the class.
    """
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
    predicted = matrix.sum(axis=0)[: len(matrix)]
    chance = _ratio(float((predicted / max(total, 1)) @ matrix.sum(axis=1)), total)
    return _ratio(overall_accuracy(matrix) - chance, 1 - chance)


def mean(values: Sequence[float]) -> float:
    """Average the values that are numbers; NaN, of classes that occur nowhere, does not count."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
