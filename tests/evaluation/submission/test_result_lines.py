"""Lines as Python itself would write them."""

import numpy as np
import pytest

from rsfoundation.evaluation.submission.dota_results import result_lines, score_texts


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


def test_scores_have_nine_digits_at_most_and_no_needless_zeros():
    scores = {0.0: "0", 1.0: "1", 0.5: "0.5", 0.1: "0.100000001", 0.99999994: "0.99999994", 123.25: "123.25"}
    assert score_texts(np.array(list(scores))).astype(str).tolist() == list(scores.values())
    tiny = score_texts(np.array([1.2345e-30, 0.25])).astype(str).tolist()
    assert (
        np.float32(tiny[0]) == np.float32(1.2345e-30) and tiny[0].startswith("0.000000") and tiny[1] == "0.25"
    )
    assert len(score_texts(np.zeros(0))) == 0


@pytest.mark.parametrize("low", [0, -3, -12, -37])
def test_scores_of_any_size_read_back(low):
    scores = (10.0 ** np.random.default_rng(0).uniform(low - 1, low, 5000)).astype(np.float32)
    texts = score_texts(scores).astype(str)
    assert np.array_equal(texts.astype(np.float32), scores)
    plain = [f"{score:.9g}" for score in scores.astype(float)]
    assert np.mean([float(a) == float(b) for a, b in zip(texts, plain, strict=True)]) > 0.999
