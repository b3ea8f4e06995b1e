"""Numbers as Python itself would write them."""

import numpy as np

from rsfoundation.detection.submission.digits import two_decimals


def test_equals_python_s_own_text():
    rng = np.random.default_rng(0)
    table = np.round(rng.normal(0, 1, (400, 8)) * 10.0 ** rng.integers(-3, 8, (400, 8)), 2) + 0.0
    expected = ["".join(f" {value:.2f}" for value in row) for row in table.tolist()]
    assert two_decimals(table) == [text.replace("-0.00", "0.00") for text in expected]


def test_edges():
    assert two_decimals(np.array([[0.0, -0.004, 0.05, -0.5, 9.999, 999.995, 123456789.25]])) == [
        " 0.00 0.00 0.05 -0.50 10.00 1000.00 123456789.25"
    ]
    assert two_decimals(np.zeros((0, 8))) == []
