"""What each detection overlaps most: the one costly step of evaluation."""

from typing import Literal, NamedTuple

import numpy as np
import torch

from rsfoundation.detection.evaluation.records import Findings
from rsfoundation.ops import box_iou_quadri, box_iou_rotated
from rsfoundation.structures.boxes import quad_to_rbox, rbox_to_quad

Matching = Literal["mmrotate", "devkit"]
_AT_ONCE = 1 << 17  # detections whose pairs are in memory together


class Overlaps(NamedTuple):
    """The object that each detection overlaps most.

    Attributes:
        overlaps: ``(N,)`` IoU; 0 where nothing overlaps.
        targets: ``(N,)`` index of the object; -1 where nothing overlaps.
    """

    overlaps: np.ndarray
    targets: np.ndarray


def best_overlaps(findings: Findings, matching: Matching, by_class: bool = True) -> Overlaps:
    """Find for each detection the object of its image (and class) with the largest IoU.

    Of equally large ones the first is taken.

    Args:
        findings: Detections and objects.
        matching: ``mmrotate`` compares rectangles, labels by the smallest one around them, with the IoU
            rounded to float32 as there; ``devkit`` compares corners as labelled, in float64.
        by_class: Whether only objects of the detection's class are looked at.
    """
    found, truth = _shapes(findings, matching)
    group, truth_group = findings.image, findings.truth_image
    if by_class:
        classes = 1 + max(findings.labels.max(initial=0), findings.truth_labels.max(initial=0))
        group = group * classes + findings.labels
        truth_group = truth_group * classes + findings.truth_labels
    index = _Index(_bounds(truth), truth_group)
    overlaps = np.zeros(len(found), np.float32 if matching == "mmrotate" else np.float64)
    targets = np.full(len(found), -1)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows, columns = index.pairs(_bounds(found[part]), group[part])
        if len(rows):
            iou = _iou(found[part][rows], truth[columns], matching)
            _keep_best(rows, columns, iou, overlaps[part], targets[part])
    return Overlaps(overlaps, targets)


class _Index:
    """Objects sorted by group and left edge."""

    def __init__(self, bounds: np.ndarray, group: np.ndarray) -> None:
        self.order = np.lexsort((bounds[:, 0], group))
        self.group, self.bounds = group[self.order], np.ascontiguousarray(bounds[self.order])
        self.widest = np.zeros(len(group))
        if len(group):
            firsts = np.flatnonzero(np.diff(self.group, prepend=self.group[0] - 1))
            widths = self.bounds[:, 2] - self.bounds[:, 0]
            self.widest[firsts] = np.maximum.reduceat(widths, firsts)

    def pairs(self, bounds: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and object indices of all pairs of one group whose bounds meet, rows ascending."""
        from rsfoundation.detection.evaluation.candidates import meet  # loads numba

        starts, stops = (np.searchsorted(self.group, group, side) for side in ("left", "right"))
        offsets = np.zeros(len(bounds) + 1, np.int64)
        args = (np.ascontiguousarray(bounds), starts, stops, self.bounds, self.widest)
        meet(*args, offsets, np.zeros(0, np.int64), True)
        counts = offsets[1:].copy()
        np.cumsum(offsets, out=offsets)
        places = np.empty(offsets[-1], np.int64)
        meet(*args, offsets, places, False)
        return np.repeat(np.arange(len(bounds)), counts), self.order[places]


def _keep_best(
    rows: np.ndarray, columns: np.ndarray, iou: np.ndarray, overlaps: np.ndarray, targets: np.ndarray
) -> None:
    """Write the largest IoU of each row, and the first column that has it."""
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    best = np.maximum.reduceat(iou, firsts)
    is_best = iou == np.repeat(best, np.diff(firsts, append=len(rows)))
    first = np.minimum.reduceat(np.where(is_best, columns, np.iinfo(np.int64).max), firsts)
    some = best > 0
    overlaps[rows[firsts][some]] = best[some]
    targets[rows[firsts][some]] = first[some]


def _shapes(findings: Findings, matching: Matching) -> tuple[np.ndarray, np.ndarray]:
    """Return detections and objects in the form that is compared."""
    boxes, truth = findings.boxes, findings.truth
    if matching == "mmrotate":
        return boxes.astype(np.float32), (quad_to_rbox(truth) if truth.shape[1] == 8 else truth).astype(
            np.float32
        )
    corners = truth if truth.shape[1] == 8 else rbox_to_quad(truth).reshape(-1, 8)
    return rbox_to_quad(boxes).reshape(-1, 8), corners.astype(np.float64)


def _bounds(shapes: np.ndarray) -> np.ndarray:
    """Return x1, y1, x2, y2 around boxes ``(n, 5)`` or corners ``(n, 8)``."""
    corners = shapes.reshape(-1, 4, 2) if shapes.shape[1] == 8 else rbox_to_quad(shapes)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float64)


def _iou(found: np.ndarray, truth: np.ndarray, matching: Matching) -> np.ndarray:
    compare = box_iou_rotated if matching == "mmrotate" else box_iou_quadri
    return compare(torch.from_numpy(found), torch.from_numpy(truth), aligned=True).numpy()
