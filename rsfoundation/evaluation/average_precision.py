"""Average precision by the two rules of PASCAL VOC, on matches of oriented boxes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

ApRule = Literal["voc07", "voc12"]

# Multiples of 0.1 as in every public implementation: 3 * 0.1 is a little above 0.3, so that a recall of
# exactly 0.3 does not reach that level.
_LEVELS = np.arange(11) * 0.1


@dataclass(frozen=True)
class Matches:
    """Detections of one class over all images, best score first, and the objects of that class.

    Attributes:
        scores: ``(n,)``, descending.
        overlaps: ``(n,)`` IoU with the object of the same image and class that each overlaps most.
        targets: ``(n,)`` index of that object in ``ignored``; -1 without one.
        ignored: ``(m,)``, which objects do not count.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    targets: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class ClassCurve:
    """Precision over recall of one class over all images.

    Attributes:
        objects: Number of objects that count.
        detections: Number of detections.
        scores: ``(k,)`` of the detections that count, best first.
        recall: ``(k,)`` after each of them.
        precision: ``(k,)`` likewise.
    """

    objects: int
    detections: int
    scores: np.ndarray
    recall: np.ndarray
    precision: np.ndarray

    def average_precision(self, rule: ApRule) -> float:
        """Return the AP, or NaN for a class without objects."""
        if self.objects == 0:
            return float("nan")
        return (_eleven_points if rule == "voc07" else _area)(self.recall, self.precision)

    def best_f1(self) -> tuple[float, float]:
        """Return the largest F1, and the score threshold that gives it."""
        if self.objects == 0 or not len(self.scores):
            return 0.0, 1.0
        f1 = 2 * self.recall * self.precision / np.maximum(self.recall + self.precision, 1e-12)
        best = int(f1.argmax())
        return float(f1[best]), float(self.scores[best])


def unmatched_share(overlaps: np.ndarray, threshold: float = 0.5) -> float:
    """Return 1 - F1 of the detections of one image: 0 where every object is found and nothing else.

    Args:
        overlaps: IoU ``(detections, objects)``, the best detection first; 0 where classes differ.
        threshold: Least IoU of a match; each object is matched once.
    """
    found, objects = overlaps.shape
    if not found + objects:
        return 0.0
    taken = np.zeros(objects, dtype=bool)
    for row in overlaps:
        best = int(np.argmax(np.where(taken, -1.0, row))) if objects else -1
        if best >= 0 and not taken[best] and row[best] >= threshold:
            taken[best] = True
    return 1 - 2 * int(taken.sum()) / (found + objects)


def class_curve(matches: Matches, threshold: float, strict: bool = False) -> ClassCurve:
    """Mark every detection as true or false positive at an IoU threshold.

    A detection is a true positive when its object reaches the threshold and no better scored one has it; it
    does not count when that object is ignored; else it is a false positive.

    Args:
        matches: Detections and objects of the class.
        threshold: Least IoU.
        strict: Whether the IoU must be above the threshold.
    """
    reached = matches.overlaps > threshold if strict else matches.overlaps >= threshold
    near = np.flatnonzero(reached & (matches.targets >= 0))
    taken = matches.targets[near]
    counts = np.ones(len(matches.scores), dtype=bool)
    counts[near] = ~matches.ignored[taken]
    right = np.zeros(len(matches.scores), dtype=bool)
    _, first = np.unique(taken, return_index=True)
    right[near[first]] = True
    true_positives = np.cumsum(right[counts])
    objects = int((~matches.ignored).sum())
    return ClassCurve(
        objects=objects,
        detections=len(matches.scores),
        scores=matches.scores[counts],
        recall=true_positives / max(objects, 1),
        precision=true_positives / np.arange(1, len(true_positives) + 1),
    )


def _envelope(precision: np.ndarray) -> np.ndarray:
    """Return the best precision at the recall of each point or beyond."""
    return np.maximum.accumulate(precision[::-1])[::-1]


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2007: mean of the best precision at recall 0, 0.1, ..., 1."""
    envelope = np.append(_envelope(precision), 0.0)
    return float(envelope[np.searchsorted(recall, _LEVELS, "left")].mean())


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2010 and later: area under the precision envelope."""
    return float(np.sum(np.diff(recall, prepend=0.0) * _envelope(precision)))
