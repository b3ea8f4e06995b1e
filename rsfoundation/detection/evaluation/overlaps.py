"""What each detection overlaps most: the one costly step of evaluation."""

from typing import Literal, NamedTuple

import numpy as np

from rsfoundation.detection.evaluation.records import Findings
from rsfoundation.ops.hulls import hulls_of
from rsfoundation.structures.boxes import quad_to_rbox, rbox_to_quad

Matching = Literal["mmrotate", "devkit"]
_GRAIN = 4096  # fewest detections worth a thread of their own


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
    group, truth_group = findings.image, findings.truth_image
    if by_class:
        classes = 1 + max(findings.labels.max(initial=0), findings.truth_labels.max(initial=0))
        group = group * classes + findings.labels
        truth_group = truth_group * classes + findings.truth_labels
    found, targets = np.zeros(len(group)), np.full(len(group), -1)
    if len(group) and len(truth_group):
        fill = _fill_rectangles if matching == "mmrotate" else _fill_polygons
        fill(findings, group, truth_group, found, targets)
    return Overlaps(found.astype(np.float32) if matching == "mmrotate" else found, targets)


class _Sorted:
    """Objects sorted by group and left edge, and where each detection's group lies among them."""

    def __init__(
        self, lefts: np.ndarray, rights: np.ndarray, truth_group: np.ndarray, group: np.ndarray
    ) -> None:
        self.order = np.lexsort((lefts, truth_group))
        self.lefts, ranked = lefts[self.order], truth_group[self.order]
        firsts = np.flatnonzero(np.diff(ranked, prepend=ranked[0] - 1))
        self.widest = np.zeros(len(ranked))
        self.widest[firsts] = np.maximum.reduceat(rights[self.order] - self.lefts, firsts)
        self.starts, self.stops = (np.searchsorted(ranked, group, side) for side in ("left", "right"))


def _fill_rectangles(
    findings: Findings, group: np.ndarray, truth_group: np.ndarray, overlaps: np.ndarray, targets: np.ndarray
) -> None:
    from rsfoundation.detection.evaluation.best_kernels import best_rectangles  # loads numba
    from rsfoundation.ops.kernels.rotated_rect import CX, REACH_X, describe
    from rsfoundation.ops.kernels.threads import run_chunks

    truth = findings.truth
    fitted = quad_to_rbox(truth) if truth.shape[1] == 8 else truth
    boxes, others = describe(findings.boxes.astype(np.float32)), describe(fitted.astype(np.float32))
    lefts, rights = others[:, CX] - others[:, REACH_X], others[:, CX] + others[:, REACH_X]
    ranked = _Sorted(lefts, rights, truth_group, group)
    bounds = np.stack([boxes[:, CX] - boxes[:, REACH_X], boxes[:, CX] + boxes[:, REACH_X]], axis=1)
    mine = boxes, bounds, ranked.starts, ranked.stops
    theirs = others[ranked.order], ranked.lefts, rights[ranked.order], ranked.widest, ranked.order
    run_chunks(best_rectangles, len(boxes), *mine, *theirs, overlaps, targets, grain=_GRAIN, pieces=4)


def _fill_polygons(
    findings: Findings, group: np.ndarray, truth_group: np.ndarray, overlaps: np.ndarray, targets: np.ndarray
) -> None:
    from rsfoundation.detection.evaluation.best_kernels import best_polygons
    from rsfoundation.ops.kernels.polygon import scratch
    from rsfoundation.ops.kernels.threads import run_chunks

    truth = findings.truth
    corners = truth.reshape(-1, 4, 2) if truth.shape[1] == 8 else rbox_to_quad(truth)
    found, others = hulls_of(rbox_to_quad(findings.boxes)), hulls_of(corners.astype(np.float64))
    ranked = _Sorted(others.bounds[:, 0], others.bounds[:, 2], truth_group, group)
    mine = *found[1:], ranked.starts, ranked.stops
    theirs = *(column[ranked.order] for column in others[1:]), ranked.lefts, ranked.widest, ranked.order
    args = *mine, *theirs, overlaps, targets
    run_chunks(best_polygons, len(group), *args, grain=_GRAIN, pieces=4, scratch=scratch)
