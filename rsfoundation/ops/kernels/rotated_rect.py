"""Overlap of rotated rectangles: all pairs, aligned pairs, greedy suppression.

The overlap area is a contour integral. In the frame of the second rectangle, whose half sizes are
``W`` and ``H``, it is the sum over the four edges of the first of the integral of ``clamp(y, -H, H)``
over ``x`` in ``[-W, W]``. Every term is continuous in the corners, so that shared edges, shared
corners and identical rectangles need no special case, and no points are sorted.
"""

from typing import Any

import numpy as np

from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.straight import clamp, larger, pack, smaller, straight, unpack, where

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


def _relative(first: Any, i: Any, second: Any, j: Any) -> tuple[Any, ...]:
    """Return centre and half axes of one described rectangle in the frame of another."""
    dx, dy = first[i, CX] - second[j, CX], first[i, CY] - second[j, CY]
    cos_a, sin_a, cos_b, sin_b = first[i, COS], first[i, SIN], second[j, COS], second[j, SIN]
    cos, sin = cos_a * cos_b + sin_a * sin_b, sin_a * cos_b - cos_a * sin_b
    half_w, half_h = first[i, HALF_W], first[i, HALF_H]
    return (
        dx * cos_b + dy * sin_b,
        dy * cos_b - dx * sin_b,
        half_w * cos,
        half_w * sin,
        -half_h * sin,
        half_h * cos,
    )


@straight
def near(a: Any, i: Any, b: Any, j: Any) -> Any:
    """Tell whether the upright bounds of two described rectangles meet; cheap."""
    meet_x = abs(a[i, CX] - b[j, CX]) < a[i, REACH_X] + b[j, REACH_X]
    return meet_x & (abs(a[i, CY] - b[j, CY]) < a[i, REACH_Y] + b[j, REACH_Y])


@straight
def meet(first: Any, i: Any, second: Any, j: Any) -> Any:
    """Tell whether two described rectangles of some area may overlap, seen in the frame of the second."""
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    solid = (first[i, AREA] >= MIN_AREA) & (second[j, AREA] >= MIN_AREA)
    apart = (abs(cx) >= abs(ux) + abs(vx) + second[j, HALF_W]) | (
        abs(cy) >= abs(uy) + abs(vy) + second[j, HALF_H]
    )
    return solid & (apart == 0)


def _edges(x0: Any, y0: Any, x1: Any, y1: Any, width: Any, height: Any) -> Any:
    """Integrate ``clamp(y, -height, height)`` over ``x`` within ``[-width, width]`` along edges."""
    xa, xb = clamp(x0, -width, width), clamp(x1, -width, width)
    slope = (y1 - y0) / (x1 - x0)
    low, high = smaller(y0, y1), larger(y0, y1)
    ya, yb = clamp(y0 + (xa - x0) * slope, low, high), clamp(y0 + (xb - x0) * slope, low, high)
    low, high = smaller(ya, yb), larger(ya, yb)
    lower, upper = clamp(low, -height, height), clamp(high, -height, height)
    outside = larger(high - larger(low, height), 0.0) - larger(smaller(high, -height) - low, 0.0)
    slanted = ((lower + upper) * 0.5 * (upper - lower) + height * outside) / (high - low)
    return where(xa != xb, (xb - xa) * where(high > low, slanted, lower), 0.0)


@straight
def ratio(first: Any, i: Any, second: Any, j: Any, foreground: Any) -> Any:
    """Return IoU of two described rectangles that ``meet``, or their overlap over the area of the first."""
    cx, cy, ux, uy, vx, vy = _relative(first, i, second, j)
    corners = [(cx - ux - vx, cy - uy - vy), (cx + ux - vx, cy + uy - vy)]
    corners += [(cx + ux + vx, cy + uy + vy), (cx - ux + vx, cy - uy + vy)]
    before = corners[-1:] + corners[:-1]
    ends = (pack(*values) for points in (before, corners) for values in zip(*points, strict=True))
    size = (pack(*[second[j, column]] * 4) for column in (HALF_W, HALF_H))
    of_edges = unpack(_edges(*ends, *size), 4)
    area_a, area_b = first[i, AREA], second[j, AREA]
    common = smaller(smaller(abs(sum(of_edges)), area_a), area_b)
    return common / where(foreground, area_a, area_a + area_b - common)


@kernel
def iou_rows(a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int) -> None:
    """Fill rows ``start..stop`` of the zeroed matrix ``out`` (n, m) with the ratios of all pairs."""
    for i in range(start, stop):
        for j in range(len(b)):
            if near(a, i, b, j) and meet(a, i, b, j):
                out[i, j] = ratio(a, i, b, j, foreground)


@kernel
def iou_aligned(
    a: np.ndarray, b: np.ndarray, foreground: bool, out: np.ndarray, start: int, stop: int
) -> None:
    """Fill ``out[start:stop]``, zeroed, with the ratios of pairs of equal index."""
    for i in range(start, stop):
        if meet(a, i, b, i):
            out[i] = ratio(a, i, b, i, foreground)
