"""What each detection overlaps most: the one costly step of evaluation."""

from typing import Literal, NamedTuple

import numpy as np

from rsfoundation.evaluation.oriented.records import Findings
from rsfoundation.geometry.boxes import quad_to_rbox, rbox_to_quad
from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.polygon import overlap
from rsfoundation.ops.kernels.rotated_boxes import CY, REACH_Y, meet, ratio
from rsfoundation.ops.kernels.runtime import inlined, kernel
from rsfoundation.ops.polygons import hulls_of


@inlined
def _first(lefts: np.ndarray, low: int, high: int, left: float) -> int:
    """Return the first object of a group that begins late enough to reach ``left``."""
    while low < high:
        middle = (low + high) // 2
        if lefts[middle] < left:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def best_rectangles(
    boxes: np.ndarray,
    bounds: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    others: np.ndarray,
    lefts: np.ndarray,
    rights: np.ndarray,
    widest: np.ndarray,
    order: np.ndarray,
    overlaps: np.ndarray,
    targets: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill ``overlaps`` (n,), rounded to float32, and ``targets`` (n,) for boxes ``start..stop``.

    Args:
        boxes: ``(n, 9)``, described by ``rotated_rect.describe``.
        bounds: ``(n, 2)``: left and right edge of each.
        starts: See above.
        stops: See above.
        others: ``(m, 9)``, the objects, described likewise.
        lefts: ``(m,)``, ascending within each group.
        rights: ``(m,)``.
        widest: See above.
        order: ``(m,)``, what each object is called; of equal overlaps the least is taken.
        overlaps: All 0 on entry.
        targets: All -1 on entry.
        start: First box.
        stop: After the last.
    """
    for i in range(start, stop):
        if starts[i] == stops[i]:
            continue
        left, right = bounds[i, 0], bounds[i, 1]
        for j in range(_first(lefts, starts[i], stops[i], left - widest[starts[i]]), stops[i]):
            if lefts[j] > right:
                break
            apart = abs(boxes[i, CY] - others[j, CY]) > boxes[i, REACH_Y] + others[j, REACH_Y]
            if rights[j] < left or apart or not meet(boxes, i, others, j):
                continue
            iou = np.float64(np.float32(ratio(boxes, i, others, j, False)))
            if iou > overlaps[i] or (iou == overlaps[i] and iou > 0 and order[j] < targets[i]):
                overlaps[i], targets[i] = iou, order[j]


@kernel
def best_polygons(
    corners: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    bounds: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    other_corners: np.ndarray,
    other_sizes: np.ndarray,
    other_areas: np.ndarray,
    other_bounds: np.ndarray,
    lefts: np.ndarray,
    widest: np.ndarray,
    order: np.ndarray,
    overlaps: np.ndarray,
    targets: np.ndarray,
    work: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Do the same for convex polygons as ``ops.hulls`` has them, in float64."""
    for i in range(start, stop):
        if starts[i] == stops[i] or areas[i] < MIN_AREA:
            continue
        first = _first(lefts, starts[i], stops[i], bounds[i, 0] - widest[starts[i]])
        for j in range(first, stops[i]):
            if lefts[j] > bounds[i, 2]:
                break
            if (
                other_bounds[j, 2] < bounds[i, 0]
                or other_bounds[j, 1] > bounds[i, 3]
                or other_bounds[j, 3] < bounds[i, 1]
                or other_areas[j] < MIN_AREA
            ):
                continue
            common = overlap(corners, sizes[i], i, other_corners, other_sizes[j], j, work)
            iou = common / (areas[i] + other_areas[j] - common)
            if iou > overlaps[i] or (iou == overlaps[i] and iou > 0 and order[j] < targets[i]):
                overlaps[i], targets[i] = iou, order[j]


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
    from rsfoundation.ops.kernels.rotated_boxes import CX, REACH_X, describe
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
