"""Exponential and logarithm, in ``straight`` functions, that the compiler turns into vector instructions."""

from typing import Any

from numba import types

from rsfoundation.ops.kernels.straight import call, clamp, convert, reinterpret

_LOG2_E, _BIAS = 1.44269504, 127
# ln 2 in two parts, the first exact in few bits, so that x - k ln 2 keeps its last bits (Cody and Waite).
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf), highest power first.
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
# The series of 2 artanh(s) / s in s^2, which for s <= 1/3 ends below the last bit of float32 here.
_ARTANH = (2 / 15, 2 / 13, 2 / 11, 2 / 9, 2 / 7, 2 / 5, 2 / 3)


def exp(x: Any) -> Any:
    """Return exp(x); vectorisable in float32 within 2 units in the last place, exact in float64.

    In float32 the argument is clamped to the range in which results are normal numbers.
    """
    if x.kind == types.float64:
        return call("llvm.exp", x)
    near = clamp(x, -87.0, 88.0)
    # The exponent, biased: positive, so that cutting off a half more rounds it.
    power = convert(near * _LOG2_E + (_BIAS + 0.5), types.int32)
    k = convert(power - _BIAS, types.float32)
    r = (near - k * _LN2_HIGH) - k * _LN2_LOW
    return (_polynomial(_EXP, r) * r * r + r + 1.0) * reinterpret(power << 23, types.float32)


def log1p(x: Any) -> Any:
    """Return log(1 + x) for x in [0, 1]; vectorisable in float32 to the last bits, exact in float64."""
    if x.kind == types.float64:
        return call("log1p", x)
    s = x / (x + 2.0)  # log(1 + x) = 2 artanh(x / (2 + x))
    z = s * s
    return s * (_polynomial(_ARTANH, z) * z + 2.0)


def _polynomial(factors: tuple[float, ...], x: Any) -> Any:
    first, *others = factors
    value = x * first + others[0]
    for factor in others[1:]:
        value = value * x + factor
    return value
