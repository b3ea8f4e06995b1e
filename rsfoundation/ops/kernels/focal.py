"""What focal losses are made of, in one pass over memory."""

from typing import Any

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp, log1p
from rsfoundation.ops.kernels.jit import fused_kernel
from rsfoundation.ops.kernels.straight import convert, larger, straight, where


@straight
def _write(i: Any, values: Any, sigmoid: Any, rate: Any, loss: Any, slope: Any, gamma: Any) -> None:
    x = values[i]
    plain, own, spread = (convert(factor, x.kind) for factor in (loss, slope, slope * gamma))
    small = exp(-abs(x))
    share = 1.0 / (small + 1.0)
    rest = small * share
    q, rest = where(x > 0.0, share, rest), where(x > 0.0, rest, share)
    softplus = larger(x, 0.0) + log1p(small)
    sigmoid[i] = where(x == x, q, x)
    rate[i] = softplus * (plain + spread * rest) + own * q


@fused_kernel
def sigmoid_and_rate(
    values: np.ndarray,
    sigmoid: np.ndarray,
    rate: np.ndarray,
    loss: float,
    slope: float,
    gamma: float,
    start: int,
    stop: int,
) -> None:
    """Write ``q = 1 / (1 + e^-x)`` and ``s (loss + slope gamma (1 - q)) + slope q``, ``s = log(1 + e^x)``.

    Arrays are flat; items ``start..stop`` are done. ``loss`` and ``slope`` are 1 and 0, or 0 and 1: a sum
    with zeros costs less than a branch, or a second kernel to compile.
    """
    for i in range(start, stop):
        _write(i, values, sigmoid, rate, loss, slope, gamma)
