"""Sigmoid focal loss and its derivative, in one pass over memory.

A logit that should be high is one that should be low with its sign turned: these are turned first, so that
the loop over all needs no branches and vectorises.

Arguments that both kernels share: ``values`` ``(n * classes,)`` holds the logits and receives the results,
``target`` is ``(n,)``, ``high`` and ``low`` are factors of what should be high and low. They do rows
``start..stop``.
"""

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp, log1p
from rsfoundation.ops.kernels.jit import inlined, kernel

_FLOOR = np.float32(-1e4)  # the sigmoid is 0 there; below it minus infinity times gamma = 0 were no number


@inlined
def _loss(x: float, gamma: float, one: float) -> float:
    """Return ``q^gamma log(1 + e^x)``, q being the sigmoid of x; ``one`` gives the type."""
    zero, near = one - one, max(x, one * _FLOOR)
    tail = log1p(exp(-abs(near)))
    value = exp(gamma * (min(near, zero) - tail)) * (max(near, zero) + tail)
    return value if x == x else x


@inlined
def _slope(x: float, gamma: float, one: float) -> float:
    """Return the derivative of ``_loss``: ``q^gamma (gamma (1 - q) log(1 + e^x) + q)``."""
    zero, near = one - one, max(x, one * _FLOOR)
    small = exp(-abs(near))
    tail, share = log1p(small), one / (one + small)
    q, rest = share if near > zero else small * share, small * share if near > zero else share
    value = exp(gamma * (min(near, zero) - tail)) * (gamma * rest * (max(near, zero) + tail) + q)
    return value if x == x else x


@kernel
def losses(
    values: np.ndarray,
    target: np.ndarray,
    gamma: float,
    high: float,
    low: float,
    classes: int,
    start: int,
    stop: int,
) -> None:
    """Write the loss of each logit."""
    kind = values.dtype.type
    power, one, wanted, other = kind(gamma), kind(1.0), kind(high), kind(low)
    first, last = np.uint64(start * classes), np.uint64(stop * classes)  # a signed index would not vectorise
    for row in range(start, stop):
        if 0 <= target[row] < classes:
            values[row * classes + target[row]] *= -one
    for i in range(first, last):
        values[i] = _loss(values[i], power, one)
    for row in range(start, stop):
        for c in range(classes):
            values[row * classes + c] *= wanted if c == target[row] else other


@kernel
def slopes(
    values: np.ndarray,
    target: np.ndarray,
    gamma: float,
    high: float,
    low: float,
    classes: int,
    start: int,
    stop: int,
) -> None:
    """Write the derivative of the loss for each logit."""
    kind = values.dtype.type
    power, one, wanted, other = kind(gamma), kind(1.0), kind(high), kind(low)
    first, last = np.uint64(start * classes), np.uint64(stop * classes)  # a signed index would not vectorise
    for row in range(start, stop):
        if 0 <= target[row] < classes:
            values[row * classes + target[row]] *= -one
    for i in range(first, last):
        values[i] = _slope(values[i], power, one)
    for row in range(start, stop):
        for c in range(classes):
            values[row * classes + c] *= wanted if c == target[row] else other
