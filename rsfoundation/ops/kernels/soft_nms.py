"""Soft suppression of upright boxes (Bodla et al. 2017)."""

import math

import numpy as np

from rsfoundation.ops.kernels.jit import kernel

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


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
            if dets[other, 4] > dets[best, 4]:
                best = other
        for column in range(5):
            dets[place, column], dets[best, column] = dets[best, column], dets[place, column]
        indices[place], indices[best] = indices[best], indices[place]
        x1, y1, x2, y2 = dets[place, 0], dets[place, 1], dets[place, 2], dets[place, 3]
        area = (x2 - x1 + offset) * (y2 - y1 + offset)
        other = place + 1
        while other < count:
            width = min(x2, dets[other, 2]) - max(x1, dets[other, 0]) + offset
            height = min(y2, dets[other, 3]) - max(y1, dets[other, 1]) + offset
            common = max(width, 0.0) * max(height, 0.0)
            own = (dets[other, 2] - dets[other, 0] + offset) * (dets[other, 3] - dets[other, 1] + offset)
            overlap = common / (area + own - common) if common > 0.0 else 0.0
            if method == GAUSSIAN:
                dets[other, 4] *= math.exp(-(overlap * overlap) / sigma)
            elif overlap >= threshold:
                dets[other, 4] *= 1.0 - overlap if method == LINEAR else 0.0
            if dets[other, 4] < min_score:
                count -= 1
                for column in range(5):
                    dets[other, column] = dets[count, column]
                indices[other] = indices[count]
            else:
                other += 1
        place += 1
    return count
