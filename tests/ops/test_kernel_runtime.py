import math

import numpy as np
import pytest
from numba import njit

from rsfoundation.ops.kernels.runtime import exp, log1p


def compiled(function):
    return njit(error_model="numpy")(lambda x: function(x))


@pytest.mark.parametrize(("function", "low", "high"), [(exp, -87.0, 88.0), (log1p, 0.0, 1.0)])
def test_fast_functions(function, low, high):
    kernel, reference = compiled(function), getattr(np, function.__name__)
    values = np.linspace(low, high, 4001)
    np.testing.assert_allclose([kernel(value) for value in values], reference(values), rtol=1e-15)
    singles = values.astype(np.float32)
    found = [kernel(value) for value in singles]
    np.testing.assert_allclose(found, reference(singles.astype(np.float64)), rtol=3e-7)


def test_single_exponentials_are_clamped_to_normal_numbers():
    kernel = compiled(exp)
    assert kernel(np.float32(-1000)) == kernel(np.float32(-87)) > 0
    assert kernel(np.float32(1000)) == kernel(np.float32(88)) < math.inf
