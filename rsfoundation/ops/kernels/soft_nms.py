"""Soft suppression of upright boxes (Bodla et al. 2017)."""

from typing import Any

import numpy as np
from numba import types

from rsfoundation.ops.kernels.fast_math import exp
from rsfoundation.ops.kernels.jit import kernel
from rsfoundation.ops.kernels.straight import convert, larger, smaller, straight, where

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2
_SCORE = 4


@straight
def _swap(dets: Any, indices: Any, i: Any, j: Any) -> None:
    indices[i], indices[j] = indices[j], indices[i]
    for column in range(5):
        dets[i, column], dets[j, column] = dets[j, column], dets[i, column]


def _corners(dets: Any, i: Any) -> tuple[Any, ...]:
    return tuple(dets[i, column] for column in range(4))


_box = straight(_corners)


@straight
def _overlap(box: tuple[Any, ...], dets: Any, other: Any, offset: Any) -> Any:
    """Return the IoU of two boxes, in float64."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = box, _corners(dets, other)

    def side(low: Any, high: Any) -> Any:
        return convert(high - low, types.float64) + offset

    width, height = side(larger(x1, u1), smaller(x2, u2)), side(larger(y1, v1), smaller(y2, v2))
    common = larger(width, 0.0) * larger(height, 0.0)
    whole = side(x1, x2) * side(y1, y2) + side(u1, u2) * side(v1, v2) - common
    return where(common > 0.0, common / whole, 0.0)


@straight
def _gaussian(overlap: Any, sigma: Any) -> Any:
    return exp(-(overlap * overlap) / sigma)


@straight
def _cut(overlap: Any, threshold: Any, method: Any) -> Any:
    return where(overlap >= threshold, where(method == LINEAR, 1.0 - overlap, 0.0), 1.0)


@kernel
def soft_suppress(
    dets: np.ndarray,
    indices: np.ndarray,
    threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: float,
) -> int:
    """Order ``dets`` (n, 5: box, score) and ``indices`` in place, best first; return how many stay.

    A box whose score falls under ``min_score`` is replaced by the last one, as mmcv does it: the order
    of equal scores then agrees too.
    """
    count, place = len(dets), 0
    while place < count:
        best = place
        for other in range(place + 1, count):
            if dets[other, _SCORE] > dets[best, _SCORE]:
                best = other
        _swap(dets, indices, place, best)
        box, other = _box(dets, place), place + 1
        while other < count:
            overlap = _overlap(box, dets, other, offset)
            factor = _gaussian(overlap, sigma) if method == GAUSSIAN else _cut(overlap, threshold, method)
            dets[other, _SCORE] *= factor
            if dets[other, _SCORE] < min_score:
                count -= 1
                _swap(dets, indices, other, count)
            else:
                other += 1
        place += 1
    return count
