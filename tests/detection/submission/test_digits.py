"""Lines as Python itself would write them."""

import numpy as np

from rsfoundation.detection.submission.digits import result_lines


def test_equals_python_s_own_text():
    rng = np.random.default_rng(0)
    table = np.round(rng.normal(0, 1, (400, 8)) * 10.0 ** rng.integers(-3, 8, (400, 8)), 2) + 0.0
    scores = [
        f"{score:.{digits}f}" for score, digits in zip(rng.random(400), rng.integers(1, 12, 400), strict=True)
    ]
    rows = zip(scores, table.tolist(), strict=True)
    expected = [" ".join(["Häfen%d", score, *(f"{value:.2f}" for value in row)]) for score, row in rows]
    written = result_lines("Häfen%d", scores, table).decode()
    assert written.split("\n") == [text.replace(" -0.00", " 0.00") for text in [*expected, ""]]


def test_edges():
    row = np.array([[0.0, -0.004, 0.05, -0.5, 9.999, 999.995, 123456789.25]])
    assert result_lines("a", ["1.0"], row) == b"a 1.0 0.00 0.00 0.05 -0.50 10.00 1000.00 123456789.25\n"
    assert result_lines("a", [], np.zeros((0, 8))) == b""
