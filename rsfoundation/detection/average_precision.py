"""Average precision by the two rules of PASCAL VOC, on matches of oriented boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

ApRule = Literal["voc07", "voc12"]


@dataclass(frozen=True)
class ClassMatches:
    """Detections of one class in one image, best score first, and what they overlap most.

    Attributes:
        scores: ``(n,)``, descending.
        overlaps: ``(n,)`` IoU with the best object of that class; 0 without objects.
        targets: ``(n,)`` index of that object.
        ignored: ``(m,)`` whether each object is one that does not count.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    targets: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class ClassCurve:
    """Precision over recall of one class over all images.

    Attributes:
        objects: How many objects count.
        detections: How many detections there are.
        recall: ``(k,)`` after each detection that counts, best score first.
        precision: ``(k,)`` likewise.
    """

    objects: int
    detections: int
    recall: np.ndarray
    precision: np.ndarray

    def average_precision(self, rule: ApRule) -> float:
        """Return the AP, or NaN for a class without objects."""
        if self.objects == 0:
            return float("nan")
        return (_eleven_points if rule == "voc07" else _area)(self.recall, self.precision)


def class_curve(images: Sequence[ClassMatches], threshold: float) -> ClassCurve:
    """Judge every detection at an IoU threshold and accumulate over images.

    A detection is right when its best object reaches the threshold and no better scored one took it;
    it does not count when that object is ignored; else it is wrong.
    """
    judged = [_judge(image, threshold) for image in images]
    scores = np.concatenate([image.scores[counts] for image, (_, counts) in zip(images, judged, strict=True)])
    right = np.concatenate([hits[counts] for hits, counts in judged])
    right = right[np.argsort(-scores, kind="stable")]
    true_positives = np.cumsum(right)
    objects = sum(int((~image.ignored).sum()) for image in images)
    return ClassCurve(
        objects=objects,
        detections=sum(len(image.scores) for image in images),
        recall=true_positives / max(objects, 1),
        precision=true_positives / np.arange(1, len(right) + 1),
    )


def _judge(image: ClassMatches, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections are right, and which count."""
    hits = np.zeros(len(image.scores), dtype=bool)
    if not len(image.ignored):
        return hits, ~hits
    near = np.flatnonzero(image.overlaps >= threshold)
    _, first = np.unique(image.targets[near], return_index=True)
    hits[near[first]] = True
    counts = np.ones(len(hits), dtype=bool)
    counts[near] = ~image.ignored[image.targets[near]]
    return hits & counts, counts


def _eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2007: mean of the best precision at recall 0, 0.1, ..., 1."""
    levels = np.arange(11) / 10
    return float(np.mean([precision[recall >= level - 1e-9].max(initial=0.0) for level in levels]))


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """VOC 2010 and later: area under the precision envelope."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
