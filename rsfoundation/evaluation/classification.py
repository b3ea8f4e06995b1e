"""Metrics of scene recognition: top-1 and top-5, classes, confusion; for several labels average precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import write_json
from rsfoundation.evaluation.confusion_matrix import class_scores, kappa, mean
from rsfoundation.evaluation.pictures import draw_confusion_matrix, report_folders
from rsfoundation.registry import METRICS

_TOP = 5
_THRESHOLD = 0.5  # of F1 over several labels


@dataclass(frozen=True)
class SceneEvaluation:
    """One evaluation.

    Attributes:
        classes: Names.
        metrics: Overall metrics, fractions in 0..1.
        per_class: Metrics of each class, in class order.
        matrix: ``(C, C)`` counts of images, truth by row; ``None`` for several labels.
    """

    classes: tuple[str, ...]
    metrics: Mapping[str, float]
    per_class: tuple[Mapping[str, float], ...]
    matrix: np.ndarray | None = None


def evaluate_single(ranks: np.ndarray, matrix: np.ndarray, classes: Sequence[str]) -> SceneEvaluation:
    """Evaluate images with one class each.

    Args:
        ranks: Of each image, how many classes score higher than the true one ``(N,)``.
        matrix: ``(C, C)``: images by true and predicted class.
        classes: Names.
    """
    scores = [class_scores(matrix, index) for index in range(len(classes))]
    per_class = tuple(
        dict(accuracy=one.recall, precision=one.precision, f1=one.f1, images=int(matrix[index].sum()))
        for index, one in enumerate(scores)
    )
    metrics = {
        "top1": float((ranks < 1).mean()),
        **({"top5": float((ranks < _TOP).mean())} if len(classes) > _TOP else {}),
        "class_mean_accuracy": mean([one.recall for one in scores]),
        "macro_f1": mean([one.f1 for one in scores]),
        "kappa": kappa(matrix),
    }
    return SceneEvaluation(tuple(classes), metrics, per_class, matrix)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the area under the steps of precision over recall; images of equal score enter together.

    The definition is that of scikit-learn's ``average_precision_score``.

    Args:
        scores: ``(N,)``.
        truth: ``(N,)`` booleans.

    Returns:
        NaN where nothing is true.
    """
    if not truth.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    hits = np.cumsum(truth[order])[ends]
    recall = hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * (hits / (ends + 1))).sum())


def evaluate_multi(scores: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> SceneEvaluation:
    """Evaluate images with any number of classes.

    Args:
        scores: ``(N, C)`` in 0..1.
        truth: ``(N, C)`` booleans.
        classes: Names.
    """
    per_class = []
    chosen = scores >= _THRESHOLD
    for index in range(len(classes)):
        ap = average_precision(scores[:, index], truth[:, index])
        f1 = _f1(chosen[:, index], truth[:, index])
        per_class.append(dict(ap=ap, f1=f1, images=int(truth[:, index].sum())))
    metrics = {
        "mAP": mean([one["ap"] for one in per_class]),
        "micro_mAP": average_precision(scores.ravel(), truth.ravel()),
        "macro_f1": mean([one["f1"] for one in per_class]),
        "micro_f1": _f1(chosen, truth),
    }
    return SceneEvaluation(tuple(classes), metrics, tuple(per_class))


def _f1(found: np.ndarray, truth: np.ndarray) -> float:
    total = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / total if total else math.nan


@METRICS.register_module()
class SceneMetric(BaseMetric):
    """Top-1, top-5 and accuracy per class; mean average precision where images have several labels.

    Args:
        multi_label: Whether images have any number of classes.
        **kwargs: As for mmengine's ``BaseMetric``.

    Attributes:
        evaluation: The last evaluation; ``None`` before.
    """

    default_prefix = ""  # None makes mmengine warn

    def __init__(self, multi_label: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multi_label = multi_label
        self.evaluation: SceneEvaluation | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep what a batch adds: rank, label and prediction of each image, or all of its scores.

        Args:
            data_batch: Not used.
            data_samples: With ``gt_label`` and ``pred_score``.

        Raises:
            DataError: An image has no label, or several and ``multi_label`` is not set.
        """
        for sample in data_samples:
            scores = sample["pred_score"].float().cpu().numpy()
            labels = sample["gt_label"].cpu().numpy() if "gt_label" in sample else np.empty(0, np.int64)
            if self.multi_label:
                truth = np.zeros(len(scores), bool)
                truth[labels] = True
                self.results.append((scores, truth))
                continue
            if len(labels) != 1:
                raise DataError(
                    f"an image has {len(labels)} labels, and accuracy counts images with one",
                    where=sample.get("img_path"),
                    fix="set multi_label=True in the evaluator, or label the image",
                )
            label = int(labels[0])
            # a tie is no hit: an untrained model that says the same of all classes has an accuracy of 0
            others = np.delete(scores, label)
            self.results.append((int((others >= scores[label]).sum()), label, int(scores.argmax())))

    def compute_metrics(self, results: list) -> dict[str, Any]:
        """Evaluate all images.

        Args:
            results: Of :meth:`process`, of all ranks.
        """
        classes = tuple((self.dataset_meta or {}).get("classes") or ())
        if self.multi_label:
            scores, truth = (np.stack(part) for part in zip(*results, strict=True))
            classes = classes or tuple(map(str, range(scores.shape[1])))
            self.evaluation = evaluate_multi(scores, truth, classes)
        else:
            table = np.asarray(results, dtype=np.int64)
            classes = classes or tuple(map(str, range(int(table[:, 1:].max()) + 1)))
            matrix = np.zeros((len(classes), len(classes)), np.int64)
            np.add.at(matrix, (table[:, 1], table[:, 2]), 1)
            self.evaluation = evaluate_single(table[:, 0], matrix, classes)
        first = "ap" if self.multi_label else "accuracy"
        named = zip(self.evaluation.classes, self.evaluation.per_class, strict=True)
        return {**self.evaluation.metrics, **{f"{first}/{name}": one[first] for name, one in named}}


def write_scene_reports(metrics: Sequence[Any], folder: Path) -> list[Path]:
    """Write ``evaluation/evaluation.json`` and, for one class per image, ``evaluation/confusion.png``.

    Args:
        metrics: The evaluator's metric objects after a test; others are left out.
        folder: The run folder.

    Returns:
        The files.
    """
    files: list[Path] = []
    for evaluation, target in report_folders(metrics, SceneMetric, folder):
        target.mkdir(parents=True, exist_ok=True)
        matrix = evaluation.matrix
        named = zip(evaluation.classes, evaluation.per_class, strict=True)
        content = dict(
            metrics=dict(evaluation.metrics),
            classes={name: dict(one) for name, one in named},
            confusion_truth_by_row=None if matrix is None else matrix.tolist(),
        )
        write_json(target / "evaluation.json", content)
        files.append(target / "evaluation.json")
        if matrix is not None:
            picture = target / "confusion.png"
            labels = ("labelled as", "predicted as")
            draw_confusion_matrix(matrix, list(evaluation.classes), picture, "images", labels)
            files.append(picture)
    return files
