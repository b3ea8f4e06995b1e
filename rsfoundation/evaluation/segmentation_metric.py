"""Metrics of semantic segmentation from one confusion matrix over the whole test set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from rsfoundation.core.errors import ConfigError, check_choice, nearest
from rsfoundation.evaluation.confusion_matrix import (
    ClassScores,
    class_scores,
    count_pixels,
    kappa,
    mean,
    overall_accuracy,
)
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.registry import METRICS

ClutterRule = Literal["keep", "ignore"]
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True)  # mmengine would turn a named tuple into a plain one
class ImageCounts:
    """Counts of one image.

    Attributes:
        matrix: ``(C, C + 1)``, see :func:`~rsfoundation.evaluation.confusion_matrix.count_pixels`.
        boundaries: ``(C, 4)``, see :func:`count_boundaries`; ``None`` where they are not measured.
    """

    matrix: np.ndarray
    boundaries: np.ndarray | None = None


@dataclass(frozen=True)
class LabelMapEvaluation:
    """Counts and metrics of one data set.

    Attributes:
        classes: Names, in label order.
        matrix: ``(C, C + 1)`` pixels, truth by row; the last column counts predictions of no class.
        protocol: The rules that the metrics follow, for tables and pictures.
        metrics: Name of each metric -> value.
    """

    classes: tuple[str, ...]
    matrix: np.ndarray
    protocol: str
    metrics: Mapping[str, float]


class LabelMapMetric(BaseMetric):
    """Counts ``gt_sem_seg`` against ``pred_sem_seg`` image by image, and gathers the counts over ranks.

    The counts of each image are kept, not those of each process, so that images which a distributed sampler
    repeats to fill its last round are dropped, and metrics do not depend on the number of ranks.

    Args:
        ignore_index: Label of pixels that do not count.
        collect_device: Where counts are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every name, as ``prefix/name``.

    Attributes:
        evaluation: The last evaluation, on the first rank.
    """

    def __init__(
        self, ignore_index: int = IGNORED, collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index
        self.evaluation: LabelMapEvaluation | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: Unused.
            data_samples: Tested samples given as dicts.
        """
        for sample in data_samples:
            truth, prediction = read_map(sample, "gt_sem_seg"), read_map(sample, "pred_sem_seg")
            self.results.append(self.count(truth, prediction, label_file(sample)))

    def count(self, truth: np.ndarray, prediction: np.ndarray, where: str | None) -> Any:
        """Return the counts of one image.

        Args:
            truth: ``(H, W)`` labels.
            prediction: ``(H, W)`` labels.
            where: File of the labels.
        """
        return ImageCounts(count_pixels(truth, prediction, len(self.classes), self.ignore_index, where))

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the data set."""
        return tuple(self.dataset_meta["classes"])

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Sum the counts and compute the metrics."""
        self.evaluation = self.evaluate_counts(results)
        log_unknown_predictions(self.evaluation.matrix)
        return dict(self.evaluation.metrics)

    @abstractmethod
    def evaluate_counts(self, counts: list[Any]) -> LabelMapEvaluation:
        """Compute the metrics of the counts of all images, in the order of the data set."""


def read_map(sample: Mapping[str, Any], field: str) -> np.ndarray:
    """Return a label map ``(H, W)`` of a sample given as dict.

    Args:
        sample: The sample.
        field: Such as ``gt_sem_seg``.
    """
    return sample[field]["data"].squeeze(0).cpu().numpy()


def label_file(sample: Mapping[str, Any]) -> str | None:
    """Return the file that a sample's labels were read from, or that of its image."""
    path = sample.get("seg_map_path") or sample.get("img_path")
    return str(path) if path else None


def log_unknown_predictions(matrix: np.ndarray) -> None:
    """Warn of predictions that are no class of the data set, last column of ``matrix`` (C, C + 1)."""
    unknown, total = int(matrix[:, -1].sum()), int(matrix.sum())
    if unknown:
        MMLogger.get_current_instance().warning(
            "%d pixels (%.1f %%) were predicted as none of the data set's %d classes, and count as missed: "
            "the model has more classes than the data set",
            unknown,
            100 * unknown / total,
            len(matrix),
        )


@METRICS.register_module()
class SegmentationMetric(LabelMapMetric):
    """``mIoU``, ``mF1``, ``mPrecision``, ``mRecall``, ``OA``, ``Kappa`` and those of each class.

    Classes have ``<class>/{IoU,F1,Precision,Recall}``. All are fractions in 0..1. Pixels are counted over the
    whole test set before anything is divided, so an image counts by its pixels. A class that is neither in
    the truth nor in the prediction is NaN and left out of means; one that is only in the prediction has an
    IoU and F1 of 0, which count.

    Args:
        subsets: Name -> classes: means over these classes are reported as ``mIoU/<name>`` and so on. The
            matrix is that of all classes: a car predicted as clutter is a missed car.
        clutter: Report the means without the clutter classes, by one of two rules that differ by about a
            point. ``keep``, of GeoSeg, LSKNet and LWGANet: clutter pixels stay in the matrix, so one that is
            predicted as car is a false car; names end in ``/clutter_kept``, and ``OA/clutter_kept`` is over
            all classes. ``ignore``, of RSP: pixels whose true class is clutter do not count; names end in
            ``/clutter_ignored``.
        clutter_classes: Names of the clutter classes.
        boundary_tolerance: Pixels by which boundaries may differ: reports ``mBF1`` and ``<class>/BF1``, see
            :func:`count_boundaries`. They are not measured when not given.
        ignore_index: Label of pixels that do not count.
        collect_device: Where counts are gathered, ``cpu`` or ``gpu``.
        prefix: Put before every name, as ``prefix/name``.
    """

    def __init__(
        self,
        subsets: Mapping[str, Sequence[str]] | None = None,
        clutter: ClutterRule | None = None,
        clutter_classes: Sequence[str] = ("clutter",),
        boundary_tolerance: float | None = None,
        ignore_index: int = IGNORED,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(ignore_index, collect_device, prefix)
        if clutter is not None:
            check_choice("clutter", clutter, get_args(ClutterRule), "SegmentationMetric")
        self.subsets = {name: tuple(classes) for name, classes in (subsets or {}).items()}
        self.clutter = clutter
        self.clutter_classes = tuple(clutter_classes)
        self.boundary_tolerance = boundary_tolerance

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """Meta of the data set; classes of the options are looked up in it at once, before the first step.

        Raises:
            ConfigError: When it is set: a class of ``subsets`` or ``clutter_classes`` is unknown.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict[str, Any] | None) -> None:
        self._dataset_meta = meta
        if meta and meta.get("classes"):
            for classes in self.subsets.values():
                self._indices(classes, "subsets")
            if self.clutter is not None:
                self._indices(self.clutter_classes, "clutter_classes")

    def count(self, truth: np.ndarray, prediction: np.ndarray, where: str | None) -> ImageCounts:
        """Return the counts of one image, with those of boundaries where they are measured.

        Args:
            truth: ``(H, W)`` labels.
            prediction: ``(H, W)`` labels.
            where: File of the labels.
        """
        matrix = count_pixels(truth, prediction, len(self.classes), self.ignore_index, where)
        if self.boundary_tolerance is None:
            return ImageCounts(matrix)
        args = len(self.classes), self.boundary_tolerance, self.ignore_index
        return ImageCounts(matrix, count_boundaries(truth, prediction, *args))

    def evaluate_counts(self, counts: list[ImageCounts]) -> LabelMapEvaluation:
        """Compute the metrics of the counts of all images, and log a table of classes.

        Raises:
            ConfigError: A class of ``subsets`` or ``clutter_classes`` is unknown.
        """
        matrix = np.sum([one.matrix for one in counts], axis=0)
        names, every = self.classes, range(len(self.classes))
        scores = [class_scores(matrix, index) for index in every]
        metrics = {
            **_means(scores, every),
            "OA": overall_accuracy(matrix),
            "Kappa": kappa(matrix),
        }
        for name, classes in self.subsets.items():
            metrics.update(_means(scores, self._indices(classes, "subsets"), f"/{name}"))
        if self.clutter is not None:
            metrics.update(self._without_clutter(matrix, self.clutter))
        boundary: list[float] = []
        if self.boundary_tolerance is not None:
            edges = [one.boundaries for one in counts if one.boundaries is not None]
            boundary = boundary_f1(np.sum(edges, axis=0))
            metrics["mBF1"] = mean(boundary)
            metrics.update({f"{name}/BF1": f1 for name, f1 in zip(names, boundary, strict=True)})
        for name, score in zip(names, scores, strict=True):
            metrics[f"{name}/IoU"], metrics[f"{name}/F1"] = score.iou, score.f1
            metrics[f"{name}/Precision"], metrics[f"{name}/Recall"] = score.precision, score.recall
        evaluation = LabelMapEvaluation(names, matrix, self._protocol(len(counts)), metrics)
        _log_table(evaluation, scores, boundary)
        return evaluation

    def _indices(self, classes: Sequence[str], option: str) -> list[int]:
        for name in classes:
            if name not in self.classes:
                hint = nearest(name, self.classes)
                raise ConfigError(
                    f"the data set has no class '{name}', only {', '.join(self.classes)}",
                    where=f"{option} of the evaluator",
                    fix=hint
                    or f"name classes of the data set, or leave {option.split('_')[0]} out of the evaluator",
                )
        return [self.classes.index(name) for name in classes]

    def _without_clutter(self, matrix: np.ndarray, rule: ClutterRule) -> dict[str, float]:
        dropped = self._indices(self.clutter_classes, "clutter_classes")
        chosen = [index for index in range(len(self.classes)) if index not in dropped]
        counted = matrix.copy()
        if rule == "ignore":
            counted[dropped] = 0
        suffix = "/clutter_kept" if rule == "keep" else "/clutter_ignored"
        scores = [class_scores(counted, index) for index in range(len(self.classes))]
        return {**_means(scores, chosen, suffix), f"OA{suffix}": overall_accuracy(counted)}

    def _protocol(self, images: int) -> str:
        rules = [f"{images} images", f"label {self.ignore_index} ignored"]
        if self.clutter is not None:
            kept = "kept in the matrix" if self.clutter == "keep" else "ignored"
            rules.append(f"clutter {kept} for */clutter_{'kept' if self.clutter == 'keep' else 'ignored'}")
        if self.boundary_tolerance is not None:
            rules.append(f"boundaries within {self.boundary_tolerance:g} px")
        return ", ".join(rules)


def _means(scores: Sequence[ClassScores], chosen: Sequence[int], suffix: str = "") -> dict[str, float]:
    values = {
        "mIoU": [scores[index].iou for index in chosen],
        "mF1": [scores[index].f1 for index in chosen],
        "mPrecision": [scores[index].precision for index in chosen],
        "mRecall": [scores[index].recall for index in chosen],
    }
    return {f"{name}{suffix}": mean(numbers) for name, numbers in values.items()}


def _log_table(
    evaluation: LabelMapEvaluation, scores: Sequence[ClassScores], boundary: Sequence[float]
) -> None:
    total = max(int(evaluation.matrix.sum()), 1)
    head = f"{'class':<20} {'of pixels':>9} {'IoU':>7} {'F1':>7} {'prec.':>7} {'recall':>7}"
    lines = [head + (f" {'BF1':>7}" if boundary else "")]
    for index, (name, score) in enumerate(zip(evaluation.classes, scores, strict=True)):
        share = evaluation.matrix[index].sum() / total
        row = f"{name:<20} {share:>9.2%} {score.iou:>7.4f} {score.f1:>7.4f}"
        row += f" {score.precision:>7.4f} {score.recall:>7.4f}"
        lines.append(row + (f" {boundary[index]:>7.4f}" if boundary else ""))
    logger = MMLogger.get_current_instance()
    logger.info("segmentation (%s)\n%s", evaluation.protocol, "\n".join(lines))


def count_boundaries(
    truth: np.ndarray, prediction: np.ndarray, classes: int, tolerance: float, ignore_index: int = IGNORED
) -> np.ndarray:
    """Count boundary pixels that have a partner in the other map.

    A boundary pixel of a class has a 4-neighbour of another class; the edge of the image and ignored pixels
    make no boundary. Its partner is a boundary pixel of the same class within ``tolerance``.

    Args:
        truth: ``(H, W)`` labels.
        prediction: ``(H, W)`` labels.
        classes: Number of classes.
        tolerance: Euclidean distance in pixels.
        ignore_index: Label of pixels that do not count.

    Returns:
        ``(classes, 4)`` int64: predicted with a partner, predicted, true with a partner, true.
    """
    counts = np.zeros((classes, 4), np.int64)
    ignored = truth == ignore_index
    margin = int(np.ceil(tolerance)) + 1
    present = np.union1d(np.unique(truth[~ignored]), np.unique(prediction[~ignored]))
    for index in present[(present >= 0) & (present < classes)].tolist():
        masks = [((labels == index) & ~ignored) for labels in (prediction, truth)]
        rows, columns = (np.flatnonzero((masks[0] | masks[1]).any(axis=axis)) for axis in (1, 0))
        window = tuple(slice(max(place[0] - margin, 0), place[-1] + margin + 1) for place in (rows, columns))
        edges = [_boundary(mask[window], ignored[window]) for mask in masks]
        for column, (mine, other) in enumerate((edges, edges[::-1])):
            counts[index, 2 * column] = _partners(mine, other, tolerance)
            counts[index, 2 * column + 1] = np.count_nonzero(mine)
    return counts


def _boundary(mask: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    inside = cv2.erode((mask | ignored).astype(np.uint8), _CROSS)  # beyond the edge it erodes nothing
    return mask & (inside == 0)


def _partners(mine: np.ndarray, other: np.ndarray, tolerance: float) -> int:
    if not mine.any() or not other.any():
        return 0
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return int(np.count_nonzero(distance[mine] <= tolerance))


def boundary_f1(counts: np.ndarray) -> list[float]:
    """Return the boundary F1 of each class from summed counts ``(C, 4)``; NaN where it has no boundary."""
    scores = []
    for matched, predicted, found, true in counts.tolist():
        precision = matched / predicted if predicted else 0.0
        recall = found / true if true else 0.0
        both = precision + recall
        absent = not predicted and not true
        scores.append(float("nan") if absent else 2 * precision * recall / both if both else 0.0)
    return scores
