"""Overlap of rotated rectangles: all pairs, aligned pairs, greedy suppression.

The overlap area is a contour integral. In the frame of the second rectangle, whose half sizes are
``W`` and ``H``, it is the sum over the four edges of the first of the integral of ``clamp(y, -H, H)``
over ``x`` in ``[-W, W]``. Every term is continuous in the corners, so that shared edges, shared
corners and identical rectangles need no special case, and no points are sorted.
"""

import numpy as np

from rsfoundation.ops.kernels.jit import inlined, kernel

# Columns of the table made by `describe`.
CX, CY, HALF_W, HALF_H, COS, SIN, REACH_X, REACH_Y, AREA = range(9)
MIN_AREA = 1e-14  # mmcv: a smaller rectangle overlaps nothing


def describe(boxes: np.ndarray) -> np.ndarray:
    """Precompute what each pair needs.

    Args:
        boxes: ``(n, 5)`` of cx, cy, w, h, theta (radians).

    Returns:
        ``(n, 9)`` float64: centre, half sizes, cosine, sine, half extents along x and y, area.
    """
    boxes = boxes.astype(np.float64)
    table = np.empty((len(boxes), 9))
    table[:, CX], table[:, CY] = boxes[:, 0], boxes[:, 1]
    half_w, half_h = np.abs(boxes[:, 2]) / 2, np.abs(boxes[:, 3]) / 2
    cos, sin = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    table[:, HALF_W], table[:, HALF_H], table[:, COS], table[:, SIN] = half_w, half_h, cos, sin
    table[:, REACH_X] = half_w * np.abs(cos) + half_h * np.abs(sin)
    table[:, REACH_Y] = half_w * np.abs(sin) + half_h * np.abs(cos)
    table[:, AREA] = boxes[:, 2] * boxes[:, 3]
    return table


@inlined
def _edge(x0: float, y0: float, x1: float, y1: float, width: float, height: float) -> float:
    """Integrate ``clamp(y, -height, height)`` over ``x`` within ``[-width, width]`` along one edge."""
    xa, xb = min(max(x0, -width), width), min(max(x1, -width), width)
    mean = 0.0
    if xa != xb:
        slope = (y1 - y0) / (x1 - x0)
        low, high = min(y0, y1), max(y0, y1)
        ya = min(max(y0 + (xa - x0) * slope, low), high)
        yb = min(max(y0 + (xb - x0) * slope, low), high)
        low, high = min(ya, yb), max(ya, yb)
        lower, upper = min(max(low, -height), height), min(max(high, -height), height)
        mean = lower
        if high > low:
            outside = max(high - max(low, height), 0.0) - max(min(high, -height) - low, 0.0)
            mean = (0.5 * (lower + upper) * (upper - lower) + height * outside) / (high - low)
    return (xb - xa) * mean


@inlined
def ratio(first: np.ndarray, i: int, second: np.ndarray, j: int, foreground: bool) -> float:
    """Return IoU of two described rectangles, or their overlap over the area of the first."""
    area_a, area_b, width, height = first[i, AREA], second[j, AREA], second[j, HALF_W], second[j, HALF_H]
    if area_a < MIN_AREA or area_b < MIN_AREA:
        return 0.0
    dx, dy, cos_b, sin_b = (
        first[i, CX] - second[j, CX],
        first[i, CY] - second[j, CY],
        second[j, COS],
        second[j, SIN],
    )
    # Centre and half axes of the first in the frame of the second.
    cx, cy = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    cos, sin = first[i, COS] * cos_b + first[i, SIN] * sin_b, first[i, SIN] * cos_b - first[i, COS] * sin_b
    ux, uy, vx, vy = (
        first[i, HALF_W] * cos,
        first[i, HALF_W] * sin,
        -first[i, HALF_H] * sin,
        first[i, HALF_H] * cos,
    )
    if abs(cx) >= abs(ux) + abs(vx) + width or abs(cy) >= abs(uy) + abs(vy) + height:
        return 0.0
    area = 0.0
    x0, y0 = cx - ux + vx, cy - uy + vy
    for corner in range(4):  # in the order (-, -), (+, -), (+, +), (-, +) of half axes u and v
        along, across = -1.0 if corner % 3 == 0 else 1.0, 1.0 if corner >= 2 else -1.0
        x1, y1 = cx + along * ux + across * vx, cy + along * uy + across * vy
        area += _edge(x0, y0, x1, y1, width, height)
        x0, y0 = x1, y1
    common = min(abs(area), area_a, area_b)
    return common / area_a if foreground else common / (area_a + area_b - common)


@kernel
def iou_rows(a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int) -> None:
    """Fill rows ``start..stop`` of the zeroed matrix ``out`` (n, m) with the ratios of all pairs."""
    for i in range(start, stop):
        cx, cy, reach_x, reach_y = a[i, CX], a[i, CY], a[i, REACH_X], a[i, REACH_Y]
        for j in range(len(b)):
            if abs(cx - b[j, CX]) < reach_x + b[j, REACH_X] and abs(cy - b[j, CY]) < reach_y + b[j, REACH_Y]:
                out[i, j] = ratio(a, i, b, j, foreground)


@kernel
def iou_aligned(
    a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int
) -> None:
    """Fill ``out[start:stop]`` with the ratios of pairs of equal index."""
    for i in range(start, stop):
        out[i] = ratio(a, i, b, i, foreground)
