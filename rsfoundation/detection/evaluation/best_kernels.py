"""For each box the object of its group that it overlaps most, without comparing all with all.

Objects are sorted by group, then by left edge; ``starts`` and ``stops`` (n,) tell where the group of each box
lies among them, and ``widest`` (m,) holds the largest width of the group that begins there.
"""

import numpy as np

from rsfoundation.ops.hulls import MIN_AREA
from rsfoundation.ops.kernels.jit import inlined, kernel
from rsfoundation.ops.kernels.polygon import overlap
from rsfoundation.ops.kernels.rotated_rect import CY, REACH_Y, meet, ratio


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
