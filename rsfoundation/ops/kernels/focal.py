"""What focal losses are made of, in one pass over memory."""

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp, log1p
from rsfoundation.ops.kernels.jit import fused_kernel


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
    kind = values.dtype.type
    zero, one = kind(0.0), kind(1.0)
    plain, own, spread = kind(loss), kind(slope), kind(slope * gamma)
    for i in range(np.uint64(start), np.uint64(stop)):  # a signed index would not vectorise
        x = values[i]
        small = exp(-abs(x))
        share = one / (one + small)
        q, rest = share if x > zero else small * share, small * share if x > zero else share
        softplus = max(x, zero) + log1p(small)
        sigmoid[i] = q if x == x else x
        rate[i] = softplus * (plain + spread * rest) + own * q
