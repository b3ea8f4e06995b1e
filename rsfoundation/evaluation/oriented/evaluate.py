"""Figures of a data set: average precision of every class at ten thresholds, and confusion of classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rsfoundation.evaluation.average_precision import ApRule, ClassCurve, Matches, class_curve
from rsfoundation.evaluation.oriented.matching import Matching, Overlaps, best_overlaps
from rsfoundation.evaluation.oriented.records import Findings

THRESHOLDS = tuple(float(value) for value in np.round(np.arange(0.5, 1.0, 0.05), 2))  # COCO's ten
CONFUSION_SCORE = 0.3  # from here on a detection is one that a user would see


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Attributes:
        classes: Names, in label order.
        rule: By which APs are computed.
        matching: By which detections are matched with objects.
        images: How many images.
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
        """Return ``(C, 10)`` APs; NaN for classes without objects."""
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
        """Return the figures under the names the metric reports them by."""
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
    findings: Findings, classes: Sequence[str], rule: ApRule = "voc07", matching: Matching = "mmrotate"
) -> Evaluation:
    """Match detections with objects and draw up the figures.

    Args:
        findings: Detections and objects.
        classes: Names, in label order.
        rule: ``voc07`` or ``voc12``.
        matching: See :func:`best_overlaps`. Besides, ``devkit`` asks for an IoU above the threshold, where
            ``mmrotate`` is content with one that reaches it.
    """
    overlaps = best_overlaps(findings, matching)
    strict = matching == "devkit"
    matches = _by_class(findings, overlaps, len(classes))
    curves = tuple(tuple(class_curve(one, threshold, strict) for threshold in THRESHOLDS) for one in matches)
    confusion = confusion_matrix(findings, len(classes), matching)
    return Evaluation(tuple(classes), rule, matching, len(findings.names), curves, confusion)


def confusion_matrix(
    findings: Findings, classes: int, matching: Matching, score: float = CONFUSION_SCORE, iou: float = 0.5
) -> np.ndarray:
    """Count which classes objects were taken for.

    Each detection belongs to the object, of whatever class, that it overlaps most; the best scored one of
    each object counts, others are found in the background, and ignored objects leave theirs uncounted.

    Args:
        findings: Detections and objects.
        classes: How many classes there are.
        matching: How overlaps are measured.
        score: Least score of the detections looked at.
        iou: Overlap from which a detection belongs to an object.

    Returns:
        ``(classes + 1, classes + 1)``: truth by row, detected class by column, background last.
    """
    shown = findings.scores >= score
    seen = replace(
        findings,
        image=findings.image[shown],
        boxes=findings.boxes[shown],
        scores=findings.scores[shown],
        labels=findings.labels[shown],
    )
    overlaps, targets = best_overlaps(seen, matching, by_class=False)
    order = np.argsort(-seen.scores, kind="stable")
    near = order[(overlaps[order] >= iou) & (targets[order] >= 0)]
    taken, first = np.unique(targets[near], return_index=True)
    owner = near[first]
    free = np.ones(len(seen.scores), dtype=bool)
    free[owner] = False
    free[near[findings.ignored[targets[near]]]] = False
    missed = ~findings.ignored
    missed[taken] = False
    counted = ~findings.ignored[taken]
    matrix = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(matrix, (findings.truth_labels[taken[counted]], seen.labels[owner[counted]]), 1)
    np.add.at(matrix[classes], seen.labels[free], 1)
    np.add.at(matrix[:, classes], findings.truth_labels[missed], 1)
    return matrix


def _by_class(findings: Findings, overlaps: Overlaps, classes: int) -> list[Matches]:
    """Share out detections, best score first, and objects over the classes."""
    ranked = np.lexsort((-findings.scores, findings.labels))
    edges = np.searchsorted(findings.labels[ranked], np.arange(classes + 1))
    matches = []
    for label in range(classes):
        mine = ranked[edges[label] : edges[label + 1]]
        objects = np.flatnonzero(findings.truth_labels == label)
        place = np.searchsorted(objects, overlaps.targets[mine])
        targets = np.where(overlaps.targets[mine] >= 0, place, -1)
        matches.append(
            Matches(findings.scores[mine], overlaps.overlaps[mine], targets, findings.ignored[objects])
        )
    return matches
