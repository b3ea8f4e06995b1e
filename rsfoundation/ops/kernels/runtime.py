"""How kernels are compiled, and an exponential and a logarithm that the compiler can vectorise.

numba keeps compiled kernels on disk, next to their source or in the user's cache folder where that is
read-only; ``NUMBA_CACHE_DIR`` names another place. It writes to a temporary file and renames it, so several
processes may compile the same kernel at once. Importing this module loads numba.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

# The error model of numpy: a division by zero gives infinity, and costs no branch.
kernel = njit(cache=True, nogil=True, error_model="numpy")

# A function that kernels call; it becomes part of their code.
inlined = njit(inline="always", error_model="numpy")

# For arithmetic that gains from fused multiply-adds.
fused_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})

# For sums whose order may change, which lets them vectorise; NaN and infinity keep their meaning.
summing_kernel = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})

_LOG2_E, _BIAS, _BIAS_AND_HALF = np.float32(1.44269504), np.int32(127), np.float32(127.5)
# ln 2 in two parts, the first exact in few bits, so that x - k ln 2 keeps its last bits (Cody and Waite).
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
# Minimax polynomial of (exp(r) - 1 - r) / r^2 on [-ln2 / 2, ln2 / 2] (Cephes, expf), highest power first.
_E5, _E4, _E3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_E2, _E1, _E0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
# The series of 2 artanh(s) / s in s^2, which for s <= 1/3 ends below the last bit of float32 here.
_A6, _A5, _A4 = np.float32(2 / 15), np.float32(2 / 13), np.float32(2 / 11)
_A3, _A2, _A1, _A0 = np.float32(2 / 9), np.float32(2 / 7), np.float32(2 / 5), np.float32(2 / 3)
_ONE, _TWO, _LOWEST, _HIGHEST = np.float32(1), np.float32(2), np.float32(-87), np.float32(88)


def exp(x: float) -> float:
    """Return exp(x), in kernels; vectorisable in float32 within 2 units in the last place, exact in float64.

    In float32 the argument is clamped to the range in which results are normal numbers.
    """
    return math.exp(x)


@overload(exp, inline="always")
def _exp(x: Any) -> Callable[[Any], Any]:
    # numba compares the parameters of both functions with those of the outer one, annotations included.
    def single(x: Any) -> Any:
        near = min(max(x, _LOWEST), _HIGHEST)
        power = np.int32(near * _LOG2_E + _BIAS_AND_HALF)  # biased, thus positive: cutting a half more rounds
        k = np.float32(power - _BIAS)
        r = (near - k * _LN2_HIGH) - k * _LN2_LOW
        tail = ((((_E5 * r + _E4) * r + _E3) * r + _E2) * r + _E1) * r + _E0
        return (tail * r * r + r + _ONE) * np.int32(power << np.int32(23)).view(np.float32)

    def double(x: Any) -> Any:
        return math.exp(x)

    return single if x == types.float32 else double


def log1p(x: float) -> float:
    """Return log(1 + x) for x in [0, 1], in kernels; vectorisable in float32, exact in float64."""
    return math.log1p(x)


@overload(log1p, inline="always")
def _log1p(x: Any) -> Callable[[Any], Any]:
    def single(x: Any) -> Any:
        s = x / (x + _TWO)  # log(1 + x) = 2 artanh(x / (2 + x))
        z = s * s
        tail = (((((_A6 * z + _A5) * z + _A4) * z + _A3) * z + _A2) * z + _A1) * z + _A0
        return s * (tail * z + _TWO)

    def double(x: Any) -> Any:
        return math.log1p(x)

    return single if x == types.float32 else double
