"""Exponential and logarithm that the compiler can turn into vector instructions; they are inlined."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

_LOG2_E, _BIAS, _BIAS_HALF = np.float32(1.44269504), np.int32(127), np.float32(127.5)
# ln 2 in two parts, the first exact in few bits, so that x - k ln 2 keeps its last bits (Cody and Waite).
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf).
_P0, _P1, _P2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_P3, _P4, _P5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ONE = np.float32(1.0)
# The series of 2 artanh(s) / s in s^2, which for s <= 1/3 ends below the last bit of float32 here.
_S1, _S2, _S3 = np.float32(2 / 3), np.float32(2 / 5), np.float32(2 / 7)
_S4, _S5, _S6, _S7 = np.float32(2 / 9), np.float32(2 / 11), np.float32(2 / 13), np.float32(2 / 15)
_TWO = np.float32(2.0)
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)


def exp(x: float) -> float:
    """Return exp(x); vectorisable in float32 within 2 units in the last place, exact in float64.

    In float32 the argument is clamped to the range in which results are normal numbers.
    """
    return math.exp(x)


@overload(exp, inline="always")
def _exp(x: Any) -> Callable[[Any], Any]:
    # numba wants parameters alike to the letter, so the inner functions have the annotation of the outer.
    def single(x: Any) -> Any:
        near = min(max(x, _LOWEST), _HIGHEST)
        power = np.int32(near * _LOG2_E + _BIAS_HALF)  # the exponent, biased and thus positive, rounded
        k = np.float32(power - _BIAS)
        r = (near - k * _LN2_HIGH) - k * _LN2_LOW
        p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
        return (p * r * r + r + _ONE) * np.int32(power << np.int32(23)).view(np.float32)

    def double(x: Any) -> Any:
        return math.exp(x)

    return single if x == types.float32 else double


def log1p(x: float) -> float:
    """Return log(1 + x) for x in [0, 1]; vectorisable in float32 to the last bits, exact in float64."""
    return math.log1p(x)


@overload(log1p, inline="always")
def _log1p(x: Any) -> Callable[[Any], Any]:
    def single(x: Any) -> Any:
        s = x / (_TWO + x)  # log(1 + x) = 2 artanh(x / (2 + x))
        z = s * s
        p = (((((_S7 * z + _S6) * z + _S5) * z + _S4) * z + _S3) * z + _S2) * z + _S1
        return s * (p * z + _TWO)

    def double(x: Any) -> Any:
        return math.log1p(x)

    return single if x == types.float32 else double
