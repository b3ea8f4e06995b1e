"""The object that each detection overlaps most: the one costly step of evaluation."""

from typing import Literal, NamedTuple

import numpy as np

from rsfoundation.evaluation.oriented.image_results import DetectionTable
from rsfoundation.geometry.boxes import quad_to_rbox, rbox_to_quad
from rsfoundation.ops.kernels import MIN_AREA
from rsfoundation.ops.kernels.polygon import overlap
from rsfoundation.ops.kernels.rotated_boxes import CY, REACH_Y, meet, ratio
from rsfoundation.ops.kernels.runtime import inlined, kernel
from rsfoundation.ops.polygons import hulls_of


@inlined
def _first(lefts: np.ndarray, low: int, high: int, left: float) -> int:
    """Return the first object of a sorted group whose left edge is at ``left`` or beyond."""
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
        boxes: ``(n, 9)``, described by ``rotated_boxes.describe``.
        bounds: ``(n, 2)``: left and right edge of each.
        starts: ``(n,)``, first object of each detection's group.
        stops: ``(n,)``, after the last.
        others: ``(m, 9)``, the objects by group and left edge, described likewise.
        lefts: ``(m,)``, left edges, ascending within each group.
        rights: ``(m,)``, right edges.
        widest: ``(m,)``, width of the widest object of a group, at the group's first object.
        order: ``(m,)``, index of each object; of equal overlaps the least is taken.
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


@inlined
def _common_area(
    corners: np.ndarray,
    sizes: np.ndarray,
    signs: np.ndarray,
    second: np.ndarray,
    i: int,
    other_corners: np.ndarray,
    other_sizes: np.ndarray,
    other_signs: np.ndarray,
    other_second: np.ndarray,
    j: int,
    work: np.ndarray,
) -> float:
    """Return the area common to two quads: the signed sum over their convex pieces, see :class:`_Quads`."""
    total, a = 0.0, i
    while a >= 0:
        b = j
        while b >= 0:
            common = overlap(corners, sizes[a], a, other_corners, other_sizes[b], b, work)
            total += signs[a] * other_signs[b] * common
            b = other_second[b]
        a = second[a]
    return total


@kernel
def best_quads(
    corners: np.ndarray,
    sizes: np.ndarray,
    signs: np.ndarray,
    second: np.ndarray,
    areas: np.ndarray,
    bounds: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    other_corners: np.ndarray,
    other_sizes: np.ndarray,
    other_signs: np.ndarray,
    other_second: np.ndarray,
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
    """Do the same as :func:`best_rectangles` for the pieces of quads, in float64; see :class:`_Quads`.

    Args:
        corners: ``(p, 4, 2)``, pieces of the detections.
        sizes: ``(p,)``.
        signs: ``(p,)``.
        second: ``(p,)``.
        areas: ``(n,)``.
        bounds: ``(n, 4)``.
        starts: ``(n,)``, first object of each detection's group.
        stops: ``(n,)``, after the last.
        other_corners: ``(q, 4, 2)``, pieces of the objects.
        other_sizes: ``(q,)``.
        other_signs: ``(q,)``.
        other_second: ``(q,)``.
        other_areas: ``(m,)``, by group and left edge, as all that follow.
        other_bounds: ``(m, 4)``.
        lefts: ``(m,)``, left edges, ascending within each group.
        widest: ``(m,)``, width of the widest object of a group, at the group's first object.
        order: ``(m,)``, index of each object; of equal overlaps the least is taken.
        overlaps: All 0 on entry.
        targets: All -1 on entry.
        work: Memory for clipping.
        start: First detection.
        stop: After the last.
    """
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
            common = _common_area(
                corners,
                sizes,
                signs,
                second,
                i,
                other_corners,
                other_sizes,
                other_signs,
                other_second,
                order[j],
                work,
            )
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


def best_overlaps(table: DetectionTable, matching: Matching, by_class: bool = True) -> Overlaps:
    """Find for each detection the object of its image (and class) with the largest IoU.

    Of equally large ones the first is taken.

    Args:
        table: Detections and objects.
        matching: ``mmrotate`` compares rectangles, with corners replaced by the smallest rectangle around
            them, and rounds the IoU to float32 as mmrotate does; ``devkit`` compares corners as they were
            written, in float64.
        by_class: Whether only objects of the detection's class are considered.
    """
    group, truth_group = table.image, table.truth_image
    if by_class:
        classes = 1 + max(table.labels.max(initial=0), table.truth_labels.max(initial=0))
        group = group * classes + table.labels
        truth_group = truth_group * classes + table.truth_labels
    found, targets = np.zeros(len(group)), np.full(len(group), -1)
    if len(group) and len(truth_group):
        fill = _fill_rectangles if matching == "mmrotate" else _fill_quads
        fill(table, group, truth_group, found, targets)
    return Overlaps(found.astype(np.float32) if matching == "mmrotate" else found, targets)


class _Sorted:
    """Objects sorted by group and left edge, and the range of each detection's group among them."""

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
    table: DetectionTable,
    group: np.ndarray,
    truth_group: np.ndarray,
    overlaps: np.ndarray,
    targets: np.ndarray,
) -> None:
    from rsfoundation.ops.kernels.rotated_boxes import CX, REACH_X, describe
    from rsfoundation.ops.kernels.threads import run_chunks

    boxes, others = (
        describe((quad_to_rbox(rows) if rows.shape[1] == 8 else rows).astype(np.float32))
        for rows in (table.boxes, table.truth)
    )
    lefts, rights = others[:, CX] - others[:, REACH_X], others[:, CX] + others[:, REACH_X]
    ranked = _Sorted(lefts, rights, truth_group, group)
    bounds = np.stack([boxes[:, CX] - boxes[:, REACH_X], boxes[:, CX] + boxes[:, REACH_X]], axis=1)
    mine = boxes, bounds, ranked.starts, ranked.stops
    theirs = others[ranked.order], ranked.lefts, rights[ranked.order], ranked.widest, ranked.order
    run_chunks(best_rectangles, len(boxes), *mine, *theirs, overlaps, targets, grain=_GRAIN, pieces=4)


class _Quads(NamedTuple):
    """Quads as signed convex pieces, as DOTA's devkit measures them.

    The devkit's area common to two quads is the integral of the product of their winding numbers. A convex
    quad is one piece. A concave or crossed one is two triangles along a diagonal; the sign of a triangle
    tells whether it adds or subtracts, so that the triangles of a bow tie cancel each other.

    Attributes:
        corners: ``(p, 4, 2)``; the first ``n`` pieces belong to the quads in order.
        sizes: ``(p,)``, corners of each piece.
        signs: ``(p,)``, 1 or -1.
        second: ``(p,)``, index of the quad's second piece; -1 where there is none.
        areas: ``(n,)``.
        bounds: ``(n, 4)``: x1, y1, x2, y2.
    """

    corners: np.ndarray
    sizes: np.ndarray
    signs: np.ndarray
    second: np.ndarray
    areas: np.ndarray
    bounds: np.ndarray


def _split(corners: np.ndarray) -> _Quads:
    """Return quads ``(n, 4, 2)`` as pieces."""
    edges = np.roll(corners, -1, axis=1) - corners
    after = np.roll(edges, -1, axis=1)
    turns = edges[..., 0] * after[..., 1] - edges[..., 1] * after[..., 0]
    odd = np.flatnonzero((turns > 0).any(axis=1) & (turns < 0).any(axis=1))
    pieces = np.concatenate([corners, corners[odd][:, [0, 2, 3, 3]]])
    pieces[odd] = corners[odd][:, [0, 1, 2, 2]]
    hulls = hulls_of(pieces)
    signs, second = np.ones(len(pieces)), np.full(len(pieces), -1)
    second[odd] = len(corners) + np.arange(len(odd))
    areas = hulls.areas[: len(corners)].copy()
    spokes = corners[odd][:, 1:] - corners[odd][:, :1]
    halves = spokes[:, :-1, 0] * spokes[:, 1:, 1] - spokes[:, :-1, 1] * spokes[:, 1:, 0]
    whole = halves.sum(axis=1)
    signs[odd], signs[second[odd]] = (np.sign(halves) * np.where(whole < 0, -1, 1)[:, None]).T
    areas[odd] = np.abs(whole) / 2
    bounds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return _Quads(hulls.corners, hulls.sizes, signs, second, areas, bounds)


def _fill_quads(
    table: DetectionTable,
    group: np.ndarray,
    truth_group: np.ndarray,
    overlaps: np.ndarray,
    targets: np.ndarray,
) -> None:
    from rsfoundation.ops.kernels.polygon import scratch
    from rsfoundation.ops.kernels.threads import run_chunks

    found, others = (
        _split((rows.reshape(-1, 4, 2) if rows.shape[1] == 8 else rbox_to_quad(rows)).astype(np.float64))
        for rows in (table.boxes, table.truth)
    )
    ranked = _Sorted(others.bounds[:, 0], others.bounds[:, 2], truth_group, group)
    mine = *found, ranked.starts, ranked.stops
    pieces = others.corners, others.sizes, others.signs, others.second
    theirs = (
        others.areas[ranked.order],
        others.bounds[ranked.order],
        ranked.lefts,
        ranked.widest,
        ranked.order,
    )
    args = *mine, *pieces, *theirs, overlaps, targets
    run_chunks(best_quads, len(group), *args, grain=_GRAIN, pieces=4, scratch=scratch)
