"""Pairs of boxes whose upright bounds meet, group by group, without comparing all with all."""

import numpy as np

from rsfoundation.ops.kernels.jit import kernel


@kernel
def meet(
    bounds: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    others: np.ndarray,
    widest: np.ndarray,
    offsets: np.ndarray,
    pairs: np.ndarray,
    count_only: bool,
) -> None:
    """Find for each box the others of its group whose bounds meet its own.

    Called twice: first to count, then, with ``offsets`` summed up and ``pairs`` allocated, to fill.

    Args:
        bounds: ``(n, 4)``: x1, y1, x2, y2.
        starts: ``(n,)``, where the group of each begins in ``others``.
        stops: ``(n,)``, and ends.
        others: ``(m, 4)``, ascending in x1 within each group.
        widest: ``(m,)``, the largest width in the group that begins here.
        offsets: ``(n + 1,)``; counting writes how many were found into ``offsets[i + 1]``.
        pairs: ``(p,)``, written when filling: positions in ``others``.
        count_only: Whether to count.
    """
    for i in range(len(bounds)):
        found = 0
        low, high = starts[i], stops[i]
        if low < high:
            left = bounds[i, 0] - widest[low]
            while low < high:  # first of the group that begins late enough to reach this box
                middle = (low + high) // 2
                if others[middle, 0] < left:
                    low = middle + 1
                else:
                    high = middle
            for j in range(low, stops[i]):
                if others[j, 0] > bounds[i, 2]:
                    break
                if (
                    others[j, 2] >= bounds[i, 0]
                    and others[j, 1] <= bounds[i, 3]
                    and others[j, 3] >= bounds[i, 1]
                ):
                    if not count_only:
                        pairs[offsets[i] + found] = j
                    found += 1
        if count_only:
            offsets[i + 1] = found
