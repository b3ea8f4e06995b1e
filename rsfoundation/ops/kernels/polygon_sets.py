"""Loops over many polygons: all pairs, suppression, smallest rectangles, generalised IoU."""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.polygon import add_area_gradient, area, hull, overlap

MIN_AREA = 1e-14  # mmcv: a smaller polygon overlaps nothing


@kernel
def convex(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hull corners ``(n, k, 2)`` in float64, their numbers ``(n,)`` and areas ``(n,)``."""
    corners = np.zeros((len(points), points.shape[1], 2))
    sizes, areas = np.empty(len(points), np.int64), np.empty(len(points))
    for i in range(len(points)):
        chosen = hull(points[i])
        sizes[i] = len(chosen)
        for k in range(len(chosen)):
            corners[i, k] = points[i, chosen[k]]
        areas[i] = area(corners[i, : sizes[i]])
    return corners, sizes, areas


@kernel
def bounds(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return upright bounds ``(n, 4)``: x1, y1, x2, y2."""
    result = np.empty((len(corners), 4))
    for i in range(len(corners)):
        x, y = corners[i, : sizes[i], 0], corners[i, : sizes[i], 1]
        result[i, 0], result[i, 1], result[i, 2], result[i, 3] = x.min(), y.min(), x.max(), y.max()
    return result


@kernel
def _apart(a: np.ndarray, b: np.ndarray) -> bool:
    return a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


@kernel
def iou_rows(
    a: np.ndarray,
    a_sizes: np.ndarray,
    a_areas: np.ndarray,
    b: np.ndarray,
    b_sizes: np.ndarray,
    b_areas: np.ndarray,
    foreground: bool,
    aligned: bool,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill rows of the zeroed ``out`` (n, m), or (n, 1) when only pairs of equal index are asked for."""
    a_bounds, b_bounds = bounds(a, a_sizes), bounds(b, b_sizes)
    for i in range(start, stop):
        for column in range(1 if aligned else len(b)):
            j = i if aligned else column
            if a_areas[i] < MIN_AREA or b_areas[j] < MIN_AREA or _apart(a_bounds[i], b_bounds[j]):
                continue
            common = overlap(a[i, : a_sizes[i]], b[j, : b_sizes[j]])
            out[i, column] = common / (a_areas[i] if foreground else a_areas[i] + b_areas[j] - common)


@kernel
def suppress(
    corners: np.ndarray,
    sizes: np.ndarray,
    areas: np.ndarray,
    labels: np.ndarray,
    threshold: float,
    rounded: np.ndarray,
) -> np.ndarray:
    """Return which polygons stay; they come best first. ``rounded`` gives the IoU the caller's type."""
    box = bounds(corners, sizes)
    keep = np.zeros(len(corners), np.bool_)
    kept = np.empty(len(corners), np.int64)
    count = 0
    for i in range(len(corners)):
        hit = False
        for k in range(count):
            j = kept[k]
            if areas[i] < MIN_AREA or areas[j] < MIN_AREA or _apart(box[i], box[j]):
                continue
            if len(labels) > 0 and labels[i] != labels[j]:
                continue
            common = overlap(corners[j, : sizes[j]], corners[i, : sizes[i]])
            rounded[0] = common / (areas[i] + areas[j] - common)
            if rounded[0] >= threshold:
                hit = True
                break
        if not hit:
            keep[i] = True
            kept[count] = i
            count += 1
    return keep


@kernel
def smallest_rectangles(corners: np.ndarray, sizes: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` (n, 8) with the rectangle of least area around each hull: a side lies on an edge."""
    for i in range(len(corners)):
        least = np.inf
        for k in range(sizes[i]):
            edge = corners[i, (k + 1) % sizes[i]] - corners[i, k]
            angle = np.arctan2(edge[1], edge[0]) % (np.pi / 2)
            cos, sin = np.cos(angle), np.sin(angle)
            along = corners[i, : sizes[i], 0] * cos + corners[i, : sizes[i], 1] * sin
            across = corners[i, : sizes[i], 1] * cos - corners[i, : sizes[i], 0] * sin
            x1, x2, y1, y2 = along.min(), along.max(), across.min(), across.max()
            if (x2 - x1) * (y2 - y1) < least:
                least = (x2 - x1) * (y2 - y1)
                for place, (u, v) in enumerate(((x2, y1), (x1, y1), (x1, y2), (x2, y2))):
                    out[i, 2 * place] = u * cos - v * sin
                    out[i, 2 * place + 1] = u * sin + v * cos


@kernel
def generalized_iou(points: np.ndarray, targets: np.ndarray, out: np.ndarray, grad: np.ndarray) -> None:
    """Fill the generalised IoU of point sets ``(n, k, 2)`` and polygons ``(n, 4, 2)``, and its gradient.

    With overlap I, union U and hull C it is ``I / U + U / C - 1`` (Rezatofighi et al. 2019).
    """
    nothing = np.empty((0, 2))
    for i in range(len(points)):
        own, other = hull(points[i]), hull(targets[i])
        everything = np.concatenate((points[i], targets[i]))
        around = hull(everything)
        if len(around) < 3:
            out[i] = 0.0
            continue
        a, b, c = points[i][own], targets[i][other], everything[around]
        area_a = area(a) if len(own) > 2 else 0.0
        area_b = area(b) if len(other) > 2 else 0.0
        common = overlap(a, b) if len(own) > 2 and len(other) > 2 else 0.0
        union, whole = area_a + area_b - common, area(c)
        if union < MIN_AREA:
            out[i] = 0.0
            continue
        out[i] = common / union + union / whole - 1.0
        by_union = 1.0 / whole - common / (union * union)
        local = np.zeros((len(own), 2))
        if len(own) > 2:
            add_area_gradient(a, nothing, by_union, local)
        if len(own) > 2 and len(other) > 2:
            add_area_gradient(a, b, 1.0 / union - by_union, local)
        outer = np.zeros((len(around), 2))
        add_area_gradient(c, nothing, -union / (whole * whole), outer)
        for k in range(len(own)):
            grad[i, own[k]] += local[k]
        for k in range(len(around)):
            if around[k] < points.shape[1]:
                grad[i, around[k]] += outer[k]
