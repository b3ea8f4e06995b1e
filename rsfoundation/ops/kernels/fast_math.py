"""Exponential functions that the compiler can turn into vector instructions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from rsfoundation.ops.kernels.jit import kernel

_LOG2_E = np.float32(1.44269504)
# ln 2 in two parts, the first exact in few bits, so that x - k ln 2 keeps its last bits (Cody and Waite).
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf).
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ONE, _HALF = np.float32(1.0), np.float32(0.5)
_TWO = np.float32(2.0)
# The series of artanh(s) / s in s^2; at t = 1 the first term left out is below 2e-9.
_A3, _A5, _A7, _A9 = np.float32(1 / 3), np.float32(1 / 5), np.float32(1 / 7), np.float32(1 / 9)
_A11, _A13, _A15 = np.float32(1 / 11), np.float32(1 / 13), np.float32(1 / 15)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)


@kernel
def _exp32(x: float) -> float:
    """Return exp(x) within 2 units in the last place; clamped to the range of normal numbers."""
    x = min(max(x, _LOWEST), _HIGHEST)
    k = np.floor(x * _LOG2_E + _HALF)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + _ONE) * power


@kernel
def _log1p32(t: float) -> float:
    """Return log(1 + t) for t in [0, 1] within 4 units in the last place: 2 artanh(t / (t + 2))."""
    s = t / (t + _TWO)
    q = s * s
    series = ((((((_A15 * q + _A13) * q + _A11) * q + _A9) * q + _A7) * q + _A5) * q + _A3) * q + _ONE
    return _TWO * s * series


def exp(x: float) -> float:
    """Return exp(x); vectorisable in float32, the exact library function in float64."""
    return math.exp(x)


@overload(exp)
def _exp(x: Any) -> Callable[[Any], Any]:
    # numba wants parameters alike to the letter, so the inner functions have the annotation of the outer.
    def single(x: Any) -> Any:
        return _exp32(x)

    def double(x: Any) -> Any:
        return math.exp(x)

    return single if x == types.float32 else double


def log1p(t: float) -> float:
    """Return log(1 + t) for t in [0, 1]; vectorisable in float32."""
    return math.log1p(t)


@overload(log1p)
def _log1p(t: Any) -> Callable[[Any], Any]:
    def single(t: Any) -> Any:
        return _log1p32(t)

    def double(t: Any) -> Any:
        return math.log1p(t)

    return single if t == types.float32 else double


@kernel
def softplus(x: float, one: float) -> float:
    """Return log(1 + exp(x)), and ``x`` itself above 20 as torch does; ``one`` carries the type."""
    smooth = max(x, one - one) + log1p(exp(-abs(x)))
    return x if x > one * 20 else smooth


@kernel
def sigmoid(x: float, one: float) -> float:
    """Return 1 / (1 + exp(-x)); ``one`` carries the type."""
    return one / (one + exp(-x))
