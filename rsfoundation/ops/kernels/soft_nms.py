"""Soft suppression of upright boxes (Bodla et al. 2017)."""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2


@kernel
def _decay(overlap: float, threshold: float, sigma: float, method: int) -> float:
    if method == GAUSSIAN:
        return np.exp(-(overlap * overlap) / sigma)
    if overlap < threshold:
        return 1.0
    return 1.0 - overlap if method == LINEAR else 0.0


@kernel
def _overlap(a: np.ndarray, b: np.ndarray, offset: float) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    area_a = (a[2] - a[0] + offset) * (a[3] - a[1] + offset)
    area_b = (b[2] - b[0] + offset) * (b[3] - b[1] + offset)
    return common / (area_a + area_b - common)


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
        best = place + int(np.argmax(dets[place:count, 4]))
        for column in range(5):
            dets[place, column], dets[best, column] = dets[best, column], dets[place, column]
        indices[place], indices[best] = indices[best], indices[place]
        other = place + 1
        while other < count:
            dets[other, 4] *= _decay(_overlap(dets[place], dets[other], offset), threshold, sigma, method)
            if dets[other, 4] < min_score:
                count -= 1
                dets[other], indices[other] = dets[count], indices[count]
            else:
                other += 1
        place += 1
    return count
