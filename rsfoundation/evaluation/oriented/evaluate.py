"""Metrics of a data set: average precision of every class at ten thresholds, and confusion of classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsfoundation.evaluation.average_precision import ApRule, ClassCurve, Matches, class_curve
from rsfoundation.evaluation.oriented.image_results import DetectionTable
from rsfoundation.evaluation.oriented.matching import Matching, Overlaps, best_overlaps

THRESHOLDS = tuple(float(value) for value in np.round(np.arange(0.5, 1.0, 0.05), 2))  # COCO's ten
CONFUSION_SCORE = 0.3  # least score of the detections that the confusion matrix counts


@dataclass(frozen=True)
class Evaluation:
    """Average precision and confusion of one data set.

    Attributes:
        classes: Names, in label order.
        rule: Of average precision.
        matching: Of detections with objects.
        images: Number of images.
        curves: ``curves[label][k]`` at ``THRESHOLDS[k]``.
        confusion: ``(C + 1, C + 1)`` counts, truth by row; the last row and column are the background.
    """

    classes: tuple[str, ...]
    rule: ApRule
    matching: Matching
    images: int
    curves: tuple[tuple[ClassCurve, ...], ...]
    confusion: np.ndarray

    def aps(self, rule: ApRule | None = None) -> np.ndarray:
        """Return ``(C, 10)`` APs, by default by the evaluation's rule; NaN for classes without objects."""
        return np.array(
            [[curve.average_precision(rule or self.rule) for curve in row] for row in self.curves]
        )

    def mean(self, aps: np.ndarray) -> float:
        """Average over classes: those with objects, or under ``devkit`` all, without objects as 0.

        Returns:
            NaN when no class has objects.
        """
        if not np.isfinite(aps).any():
            return float("nan")
        return float(np.nan_to_num(aps).mean() if self.matching == "devkit" else np.nanmean(aps))

    def metrics(self) -> dict[str, float]:
        """Return the metrics under the names by which they are reported."""
        aps = self.aps()
        by_rule = {f"mAP50_{rule}": self.mean(self.aps(rule)[:, 0]) for rule in ("voc07", "voc12")}
        return {
            "mAP50": self.mean(aps[:, 0]),
            "mAP75": self.mean(aps[:, THRESHOLDS.index(0.75)]),
            "mAP": self.mean(aps),
            **by_rule,
            **{
                f"AP50/{name}": float(ap)
                for name, ap in zip(self.classes, aps[:, 0], strict=True)
                if not np.isnan(ap)
            },
        }


def evaluate(
    table: DetectionTable, classes: Sequence[str], rule: ApRule = "voc07", matching: Matching = "mmrotate"
) -> Evaluation:
    """Match detections with objects and compute the metrics.

    Args:
        table: Detections and objects.
        classes: Names, in label order.
        rule: ``voc07`` or ``voc12``.
        matching: See :func:`best_overlaps`. In addition, ``devkit`` requires an IoU above the threshold, and
            ``mmrotate`` one that reaches it.
    """
    overlaps = best_overlaps(table, matching)
    strict = matching == "devkit"
    matches = _by_class(table, overlaps, len(classes))
    curves = tuple(tuple(class_curve(one, threshold, strict) for threshold in THRESHOLDS) for one in matches)
    confusion = confusion_matrix(table, len(classes), matching)
    return Evaluation(tuple(classes), rule, matching, len(table.names), curves, confusion)


def confusion_matrix(
    table: DetectionTable, classes: int, matching: Matching, score: float = CONFUSION_SCORE, iou: float = 0.5
) -> np.ndarray:
    """Count objects by true and detected class.

    Each detection belongs to the object, of any class, that it overlaps most. The best scored one of each
    object counts; others are counted as found in the background; those of ignored objects are not counted.

    Args:
        table: Detections and objects.
        classes: Number of classes.
        matching: Rule of overlaps.
        score: Least score of the detections that count.
        iou: Overlap from which a detection belongs to an object.

    Returns:
        ``(classes + 1, classes + 1)``: truth by row, detected class by column, background last.
    """
    shown = table.scores >= score
    seen = replace(
        table,
        image=table.image[shown],
        boxes=table.boxes[shown],
        scores=table.scores[shown],
        labels=table.labels[shown],
    )
    overlaps, targets = best_overlaps(seen, matching, by_class=False)
    order = np.argsort(-seen.scores, kind="stable")
    near = order[(overlaps[order] >= iou) & (targets[order] >= 0)]
    taken, first = np.unique(targets[near], return_index=True)
    owner = near[first]
    free = np.ones(len(seen.scores), dtype=bool)
    free[owner] = False
    free[near[table.ignored[targets[near]]]] = False
    missed = ~table.ignored
    missed[taken] = False
    counted = ~table.ignored[taken]
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(matrix, (table.truth_labels[taken[counted]], seen.labels[owner[counted]]), 1)
    np.add.at(matrix[classes], seen.labels[free], 1)
    np.add.at(matrix[:, classes], table.truth_labels[missed], 1)
    return matrix


def _by_class(table: DetectionTable, overlaps: Overlaps, classes: int) -> list[Matches]:
    """Divide detections, best score first and of equal scores the earlier first, and objects by class."""
    ranked = np.lexsort((-table.scores, table.labels))
    edges = np.searchsorted(table.labels[ranked], np.arange(classes + 1))
    matches = []
    for label in range(classes):
        mine = ranked[edges[label] : edges[label + 1]]
        objects = np.flatnonzero(table.truth_labels == label)
        place = np.searchsorted(objects, overlaps.targets[mine])
        targets = np.where(overlaps.targets[mine] >= 0, place, -1)
        matches.append(Matches(table.scores[mine], overlaps.overlaps[mine], targets, table.ignored[objects]))
    return matches
