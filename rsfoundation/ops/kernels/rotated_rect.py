"""Overlap of rotated rectangles: all pairs, aligned pairs, greedy suppression.

The overlap area is a contour integral. In the frame of the second rectangle, whose half sizes are
``W`` and ``H``, it is the sum over the four edges of the first of the integral of ``clamp(y, -H, H)``
over ``x`` in ``[-W, W]``. Every term is continuous in the corners, so that shared edges, shared
corners and identical rectangles need no special case, and no points are sorted.
"""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel

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


@kernel
def _edge(x0: float, y0: float, x1: float, y1: float, width: float, height: float) -> float:
    """Integrate ``clamp(y, -height, height)`` over ``x`` within ``[-width, width]`` along one edge."""
    xa = min(max(x0, -width), width)
    xb = min(max(x1, -width), width)
    if xa == xb:
        return 0.0
    slope = (y1 - y0) / (x1 - x0)
    low, high = min(y0, y1), max(y0, y1)
    ya = min(max(y0 + (xa - x0) * slope, low), high)
    yb = min(max(y0 + (xb - x0) * slope, low), high)
    low, high = min(ya, yb), max(ya, yb)
    lower, upper = min(max(low, -height), height), min(max(high, -height), height)
    span = high - low
    if span <= 0.0:
        return (xb - xa) * lower
    below = max(min(high, -height) - low, 0.0)
    above = max(high - max(low, height), 0.0)
    mean = (0.5 * (lower + upper) * (upper - lower) + height * (above - below)) / span
    return (xb - xa) * mean


@kernel
def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the area common to two described rectangles."""
    dx, dy = a[0] - b[0], a[1] - b[1]
    cos_b, sin_b = b[4], b[5]
    # Centre and half axes of `a` in the frame of `b`.
    cx, cy = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    cos, sin = a[4] * cos_b + a[5] * sin_b, a[5] * cos_b - a[4] * sin_b
    ux, uy, vx, vy = a[2] * cos, a[2] * sin, -a[3] * sin, a[3] * cos
    width, height = b[2], b[3]
    reach_x, reach_y = abs(ux) + abs(vx), abs(uy) + abs(vy)
    if abs(cx) >= reach_x + width or abs(cy) >= reach_y + height:
        return 0.0
    x0, y0, x1, y1 = cx - ux - vx, cy - uy - vy, cx + ux - vx, cy + uy - vy
    x2, y2, x3, y3 = cx + ux + vx, cy + uy + vy, cx - ux + vx, cy - uy + vy
    area = _edge(x0, y0, x1, y1, width, height) + _edge(x1, y1, x2, y2, width, height)
    area += _edge(x2, y2, x3, y3, width, height) + _edge(x3, y3, x0, y0, width, height)
    return abs(area)


@kernel
def ratio(a: np.ndarray, b: np.ndarray, foreground: bool) -> float:
    """Return IoU, or overlap over the area of ``a``."""
    if a[8] < MIN_AREA or b[8] < MIN_AREA:
        return 0.0
    common = min(_overlap(a, b), a[8], b[8])
    return common / a[8] if foreground else common / (a[8] + b[8] - common)


@kernel
def iou_rows(a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int) -> None:
    """Fill rows ``start..stop`` of the zeroed matrix ``out`` (n, m) with the ratios of all pairs."""
    for i in range(start, stop):
        cx, cy, reach_x, reach_y = a[i, 0], a[i, 1], a[i, 6], a[i, 7]
        for j in range(len(b)):
            if abs(cx - b[j, 0]) < reach_x + b[j, 6] and abs(cy - b[j, 1]) < reach_y + b[j, 7]:
                out[i, j] = ratio(a[i], b[j], foreground)


@kernel
def iou_aligned(
    a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int
) -> None:
    """Fill ``out[start:stop]`` with the ratios of pairs of equal index."""
    for i in range(start, stop):
        out[i] = ratio(a[i], b[i], foreground)
