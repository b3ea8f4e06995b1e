"""Metrics of binary and of semantic change detection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.evaluation.confusion_matrix import class_scores, count_pixels, kappa, mean, overall_accuracy
from rsfoundation.evaluation.segmentation_metric import (
    ImageCounts,
    LabelMapEvaluation,
    LabelMapMetric,
    label_file,
    read_map,
)
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.registry import METRICS

Variant = Literal["per_image", "per_batch"]


@METRICS.register_module()
class ChangeMetric(LabelMapMetric):
    """``<class>/{F1,IoU,Precision,Recall}`` of the changed class, ``OA`` and ``Kappa``, in 0..1.

    They are those of the changed class over all pixels of the test set, as almost all papers report them; an
    average with the unchanged class is a different and higher number. ``variants`` adds those of papers that
    average otherwise.

    Args:
        class_name: Name of the changed class.
        variants: ``per_image`` adds ``<class>/F1_per_image`` and so on: the mean over images.
            ``per_batch`` adds ``<class>/F1_per_batch8`` and so on: the mean over groups of ``batch_size``
            images in the order of the data set. An image or group in which the metric is not defined, as F1
            where nothing changed and nothing was predicted, does not count.
        batch_size: Of ``per_batch``.
        ignore_index: Label of pixels that do not count.
        collect_device: Where counts are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every name, as ``prefix/name``.
    """

    def __init__(
        self,
        class_name: str = "changed",
        variants: Sequence[Variant] = (),
        batch_size: int = 8,
        ignore_index: int = IGNORED,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ignore_index, collect_device, prefix)
        for variant in variants:
            check_choice("variants", variant, get_args(Variant), "ChangeMetric")
        self.class_name = class_name
        self.variants = tuple(variants)
        self.batch_size = batch_size

    def evaluate_counts(self, counts: list[ImageCounts]) -> LabelMapEvaluation:
        """Compute the metrics of the counts of all images.

        Raises:
            ConfigError: The data set has no class of that name.
        """
        names = self.classes
        if self.class_name not in names:
            raise ConfigError(
                f"the data set has no class '{self.class_name}', only {', '.join(names)}",
                where="val_evaluator / test_evaluator",
                fix="set class_name to the name of the changed class",
            )
        index = names.index(self.class_name)
        matrices = [one.matrix for one in counts]
        matrix = np.sum(matrices, axis=0)
        metrics = {
            **_named(self.class_name, matrix, index),
            "OA": overall_accuracy(matrix),
            "Kappa": kappa(matrix),
        }
        if "per_image" in self.variants:
            metrics.update(_averaged(self.class_name, matrices, index, "per_image"))
        if "per_batch" in self.variants:
            starts = range(0, len(matrices), self.batch_size)
            groups = [np.sum(matrices[start : start + self.batch_size], axis=0) for start in starts]
            metrics.update(_averaged(self.class_name, groups, index, f"per_batch{self.batch_size}"))
        _warn_if_constant(matrix, index, self.class_name)
        protocol = f"{len(counts)} images, all pixels in one matrix, label {self.ignore_index} ignored"
        return LabelMapEvaluation(names, matrix, protocol, metrics)


def _named(name: str, matrix: np.ndarray, index: int, suffix: str = "") -> dict[str, float]:
    score = class_scores(matrix, index)
    return {
        f"{name}/F1{suffix}": score.f1,
        f"{name}/IoU{suffix}": score.iou,
        f"{name}/Precision{suffix}": score.precision,
        f"{name}/Recall{suffix}": score.recall,
    }


def _averaged(name: str, matrices: Sequence[np.ndarray], index: int, variant: str) -> dict[str, float]:
    rows = [_named(name, matrix, index, f"_{variant}") for matrix in matrices]
    return {key: mean([row[key] for row in rows]) for key in rows[0]} if rows else {}


def _warn_if_constant(matrix: np.ndarray, index: int, name: str) -> None:
    """Warn where all pixels, or none, are predicted as changed: a threshold, label or weights are wrong."""
    total, predicted, true = int(matrix.sum()), int(matrix[:, index].sum()), int(matrix[index].sum())
    if total and predicted in (0, total):
        MMLogger.get_current_instance().warning(
            "%s pixel is predicted as '%s' (true: %.2f %%): check that the weights were loaded, that the "
            "values of the labels are read as the config says, and the threshold of the head",
            "every" if predicted else "no",
            name,
            100 * true / total,
        )


@dataclass(frozen=True)
class SemanticCounts:
    """Counts of one pair of images; class 0 is unchanged.

    Attributes:
        binary: ``(2, 3)`` unchanged and changed.
        dates: ``(2, N + 1, N + 2)``, land cover of the first and of the second date.
        transitions: ``(2, N + 1, N + 1)`` pixels by land cover before and after: true, predicted.
    """

    binary: np.ndarray
    dates: np.ndarray
    transitions: np.ndarray


@dataclass(frozen=True)
class SemanticChangeEvaluation(LabelMapEvaluation):
    """Counts and metrics of semantic change; ``matrix`` has the land cover of both dates together.

    Attributes:
        dates: ``(2, N + 1, N + 2)``, the matrices of the two dates.
        transitions: ``(2, N + 1, N + 1)`` pixels by land cover before and after: true, predicted.
    """

    dates: np.ndarray
    transitions: np.ndarray


@METRICS.register_module()
class SemanticChangeMetric(LabelMapMetric):
    """Change and land cover before and after: ``SeK``, ``SCD_Score``, ``changed/...`` and ``semantic/...``.

    ``changed/{F1,IoU,Precision,Recall}`` are those of :class:`ChangeMetric`, ``binary/mIoU`` averages changed
    and unchanged. ``semantic/mIoU``, ``semantic/OA``, ``semantic/Fscd`` and ``semantic/<class>/{IoU,F1}``
    come from one matrix of both dates, in which class 0 is unchanged. ``SeK`` is the separated kappa of Yang
    et al. (SECOND, 2021): kappa without the pixels that are rightly unchanged, times
    ``exp(IoU of changed) / e``. ``SCD_Score`` is ``0.3 binary/mIoU + 0.7 SeK``. All are fractions; papers
    print them in per cent.

    Samples have ``gt_sem_seg`` (0, 1), ``gt_sem_seg_from`` and ``gt_sem_seg_to``, and predictions likewise.

    Args:
        covered: Whether land cover is 0 where nothing changed and counts from 1, as a model with
            ``postprocess_pred_and_label='cover_semantic'`` leaves it. Otherwise it counts from 0, and the
            binary map decides where it counts.
        ignore_index: Label of pixels that do not count.
        collect_device: Where counts are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every name, as ``prefix/name``.
    """

    def __init__(
        self,
        covered: bool = False,
        ignore_index: int = IGNORED,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ignore_index, collect_device, prefix)
        self.covered = covered

    @property
    def land_cover(self) -> tuple[str, ...]:
        """Names of the land cover classes, unchanged first.

        Raises:
            ConfigError: The data set does not name them.
        """
        names = tuple(self.dataset_meta.get("semantic_classes") or ())
        if not names:
            raise ConfigError(
                "the data set does not name its land cover classes",
                where="metainfo.semantic_classes of the data set",
                fix="use a data set of semantic change, or list them: unchanged first",
            )
        return names

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: Unused.
            data_samples: Tested samples given as dicts.
        """
        for sample in data_samples:
            maps = {
                f"{kind}{date}": read_map(sample, f"{kind}_sem_seg{date}")
                for kind in ("gt", "pred")
                for date in ("", "_from", "_to")
            }
            self.results.append(self._count_pair(maps, label_file(sample)))

    def _count_pair(self, maps: Mapping[str, np.ndarray], where: str | None) -> SemanticCounts:
        count = len(self.land_cover)
        truth, prediction = maps["gt"], maps["pred"]
        binary = count_pixels(truth, prediction, 2, self.ignore_index, where)
        changed, found = truth == 1, prediction == 1
        true, predicted = (
            [self._cover(maps[f"{kind}{date}"], where_changed) for date in ("_from", "_to")]
            for kind, where_changed in (("gt", changed), ("pred", found))
        )
        ignored = truth == self.ignore_index
        for cover in true:
            cover[ignored] = self.ignore_index
        dates = np.stack(
            [
                count_pixels(cover, other, count, self.ignore_index, where)
                for cover, other in zip(true, predicted, strict=True)
            ]
        )
        counted = (true[0] != self.ignore_index) & (true[1] != self.ignore_index)
        return SemanticCounts(
            binary, dates, np.stack([_transitions(pair, counted, count) for pair in (true, predicted)])
        )

    def _cover(self, labels: np.ndarray, changed: np.ndarray) -> np.ndarray:
        """Return land cover with unchanged as 0; ignored labels stay ignored where something changed."""
        if self.covered:
            return np.where(changed, labels, 0)
        return np.where(changed, np.where(labels == self.ignore_index, labels, labels + 1), 0)

    def evaluate_counts(self, counts: list[SemanticCounts]) -> SemanticChangeEvaluation:
        """Compute the metrics of the counts of all pairs, and log a table of classes."""
        names = self.land_cover
        binary = np.sum([one.binary for one in counts], axis=0)
        dates = np.sum([one.dates for one in counts], axis=0)
        matrix = dates.sum(axis=0)
        scores = [class_scores(binary, index) for index in range(2)]
        cover = [class_scores(matrix, index) for index in range(len(names))]
        binary_iou, sek = mean([score.iou for score in scores]), separated_kappa(matrix)
        metrics = {
            "SeK": sek,
            "SCD_Score": 0.3 * binary_iou + 0.7 * sek,
            **_named("changed", binary, 1),
            "binary/mIoU": binary_iou,
            "binary/OA": overall_accuracy(binary),
            "semantic/mIoU": mean([score.iou for score in cover]),
            "semantic/OA": overall_accuracy(matrix),
            "semantic/Fscd": changed_f1(matrix),
        }
        for name, score in zip(names, cover, strict=True):
            metrics[f"semantic/{name}/IoU"] = score.iou
            metrics[f"semantic/{name}/F1"] = score.f1
        _warn_if_constant(binary, 1, "changed")
        transitions = np.sum([one.transitions for one in counts], axis=0)
        protocol = f"{len(counts)} pairs, both dates in one matrix, label {self.ignore_index} ignored"
        logger = MMLogger.get_current_instance()
        logger.info("semantic change (%s)\n%s", protocol, _transition_table(names, transitions))
        return SemanticChangeEvaluation(names, matrix, protocol, metrics, dates, transitions)


def _transitions(pair: Sequence[np.ndarray], counted: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by land cover before and after; predictions of no class are left out."""
    before, after = (cover[counted].astype(np.int64) for cover in pair)
    known = (before < classes) & (after < classes)
    flat = before[known] * classes + after[known]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def separated_kappa(matrix: np.ndarray) -> float:
    """Return SeK of the land cover of both dates, class 0 unchanged.

    Args:
        matrix: ``(N + 1, N + 2)`` or ``(N + 1, N + 1)``, truth by row.
    """
    counted = matrix.astype(np.float64)
    counted[0, 0] = 0
    total = counted.sum()
    if not total:
        return math.nan
    agreement = kappa(counted)
    found = counted[1:, 1:].sum() / total  # IoU of changed: rightly unchanged pixels are not in the total
    return agreement * math.exp(found - 1)


def changed_f1(matrix: np.ndarray) -> float:
    """Return the F1 of land cover in changed pixels (``Fscd``): right ones over those predicted, and true.

    Args:
        matrix: ``(N + 1, N + 2)`` or ``(N + 1, N + 1)``, truth by row, class 0 unchanged.
    """
    right = float(np.trace(matrix[1:, 1:]))
    predicted, true = float(matrix[:, 1:].sum()), float(matrix[1:].sum())
    return 2 * right / (predicted + true) if predicted + true else math.nan


def _transition_table(names: Sequence[str], transitions: np.ndarray) -> str:
    """Return true and predicted pixels of the ten most frequent changes of land cover."""
    true, predicted = (one.copy() for one in transitions)
    true[0, 0] = predicted[0, 0] = 0
    order = np.argsort(-(true + predicted), axis=None, kind="stable")[:10]
    lines = [f"{'from':<20} {'to':<20} {'true px':>12} {'predicted':>12}"]
    for row, column in zip(*np.unravel_index(order, true.shape), strict=True):
        if true[row, column] or predicted[row, column]:
            pixels = f"{true[row, column]:>12} {predicted[row, column]:>12}"
            lines.append(f"{names[row]:<20} {names[column]:<20} {pixels}")
    return "\n".join(lines)
