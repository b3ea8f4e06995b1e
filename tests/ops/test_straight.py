import math

import numpy as np
import pytest
from numba import njit, types

from rsfoundation.ops.kernels import runtime as s
from rsfoundation.ops.kernels.runtime import exp, log1p

NUMBERS = [-2.5, -0.0, 0.0, 0.75, 3.0, math.inf, math.nan]


def compiled(function, count):
    """Return a kernel that calls ``function`` with ``count`` arguments."""
    inner = s.straight(function)
    forms = {1: lambda a: inner(a), 2: lambda a, b: inner(a, b), 3: lambda a, b, c: inner(a, b, c)}
    return njit(error_model="numpy")(forms[count])


def same(found, expected):
    np.testing.assert_array_equal(np.asarray(found, float), np.asarray(expected, float))


def test_float_operators():
    kernel = compiled(lambda a, b: (a + b, a - b, a * b, a / b, 2 - a, 1 / b, -a, abs(a)), 2)
    for a in NUMBERS:
        for b in NUMBERS:
            a, b = np.float64(a), np.float64(b)
            with np.errstate(all="ignore"):
                same(kernel(a, b), (a + b, a - b, a * b, a / b, 2 - a, 1 / b, -a, abs(a)))


def test_comparisons_and_choices_treat_nan_as_python_does():
    def compare(a, b):
        signs = (a < b, a <= b, a > b, a >= b, a == b, a != b)
        return *signs, (a < b) | (a > 0), (a < b) & (a > 0)

    def choose(a, b):
        return s.smaller(a, b), s.larger(a, b), s.clamp(a, -1.0, 1.0), s.where(a < b, 1.0, a)

    comparing, choosing = compiled(compare, 2), compiled(choose, 2)
    for a in NUMBERS:
        for b in NUMBERS:
            assert comparing(a, b) == compare(a, b)
            bounded = min(max(a, -1.0), 1.0)
            same(choosing(a, b), (min(a, b), max(a, b), bounded, 1.0 if a < b else a))


def test_integer_operators():
    def compute(a, b):
        return a + b, a - b, a * b, a // b, a % b, a & b, a | b, a ^ b, a << 3, 7 - a, -a

    assert compiled(compute, 2)(29, 6) == compute(29, 6)


def test_conversions():
    def convert(a):
        whole = s.convert(a, types.int64)
        single = s.convert(a, types.float32)
        return (
            whole,
            s.convert(whole, types.float64),
            single,
            s.call("llvm.floor", a),
            s.convert(a > 0, types.int64),
        )

    assert compiled(convert, 1)(-2.7) == (-2, -2.0, np.float32(-2.7), -3.0, 0)
    bits = compiled(lambda a: s.reinterpret(s.convert(a, types.int32), types.float32), 1)
    assert bits(0x3F800000) == 1.0


def test_packed_numbers_are_computed_side_by_side():
    def compute(a, b):
        packed = s.clamp(s.pack(a, b, a + b) * 2.0 - s.pack(b, b, b), -3.0, 3.0)
        return s.unpack(packed, 3)

    assert compiled(compute, 2)(1.0, 1.5) == (0.5, 1.5, 3.0)


def test_arrays_and_tuples_come_in_and_results_may_nest():
    def compute(array, pair, k):
        array[k, 1] += pair[0]
        return (array[k, 1], pair), array.shape[1]

    array = np.arange(6.0).reshape(3, 2)
    assert compiled(compute, 3)(array, (10.0, 4), 2) == ((15.0, (10.0, 4)), 2)
    assert array[2].tolist() == [4.0, 15.0]


def test_a_function_may_only_write():
    def write(array, k):
        array[k] = 5

    array = np.zeros(3, np.float32)
    assert compiled(write, 2)(array, 1) is None
    assert array.tolist() == [0, 5, 0]


def test_strided_arrays_are_read():
    array = np.arange(12.0).reshape(3, 4)[:, ::2]
    assert compiled(lambda array, i, j: array[i, j], 3)(array, 2, 1) == 10.0


def test_numbers_side_by_side_are_read_and_written_wherever_they_begin():
    def double(array, i, j):
        array.store((i, j + 1), array.load((i, j), 4) * 2)

    array = np.arange(14, dtype=np.float32).reshape(2, 7)
    compiled(double, 3)(array, 1, 1)
    assert array.tolist() == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 16, 18, 20, 22, 13]]


def test_operands_of_two_types_are_an_error():
    with pytest.raises(TypeError, match="an operation of float64 and int64"):
        compiled(lambda a, b: a + b, 2)(1.0, 2)


@pytest.mark.parametrize(("function", "low", "high"), [(exp, -87.0, 88.0), (log1p, 0.0, 1.0)])
def test_fast_functions(function, low, high):
    kernel, reference = compiled(function, 1), getattr(np, function.__name__)
    values = np.linspace(low, high, 4001)
    np.testing.assert_allclose([kernel(value) for value in values], reference(values), rtol=1e-15)
    singles = values.astype(np.float32)
    found = [kernel(value) for value in singles]
    np.testing.assert_allclose(found, reference(singles.astype(np.float64)), rtol=3e-7)


def test_single_exponentials_are_clamped_to_normal_numbers():
    kernel = compiled(exp, 1)
    assert kernel(np.float32(-1000)) == kernel(np.float32(-87)) > 0
    assert kernel(np.float32(1000)) == kernel(np.float32(88)) < math.inf
