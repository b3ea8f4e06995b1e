import math

import numpy as np
import pytest

from rsfoundation.evaluation.confusion import class_scores, confusion_matrix, kappa, mean, overall_accuracy


def test_rows_are_truth_and_columns_prediction():
    matrix = confusion_matrix(np.array([[0, 1, 2, 255]]), np.array([[0, 2, 2, 1]]), 3)
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_matrices_of_parts_add_up_to_the_whole():
    random = np.random.default_rng(0)
    truth, prediction = random.integers(0, 5, (2, 40, 30)).astype(np.uint8)
    whole = confusion_matrix(truth, prediction, 5)
    parts = sum(confusion_matrix(truth[rows], prediction[rows], 5) for rows in (slice(0, 9), slice(9, None)))
    np.testing.assert_array_equal(whole, parts)


def test_scores_equal_set_arithmetic():
    random = np.random.default_rng(1)
    truth, prediction = random.integers(0, 3, (2, 500))
    matrix = confusion_matrix(truth, prediction, 3)
    for index in range(3):
        mine, theirs = truth == index, prediction == index
        scores = class_scores(matrix, index)
        assert scores.iou == pytest.approx((mine & theirs).sum() / (mine | theirs).sum())
        assert scores.precision == pytest.approx((mine & theirs).sum() / theirs.sum())
        assert scores.recall == pytest.approx((mine & theirs).sum() / mine.sum())
        assert scores.f1 == pytest.approx(2 / (1 / scores.precision + 1 / scores.recall))
    assert overall_accuracy(matrix) == pytest.approx((truth == prediction).mean())


def test_absent_class_is_no_number_and_leaves_the_mean():
    scores = class_scores(np.diag([4, 0]), 1)
    assert math.isnan(scores.iou) and math.isnan(scores.f1)
    assert mean([1.0, scores.iou]) == 1.0 and math.isnan(mean([scores.iou]))


@pytest.mark.parametrize(("matrix", "expected"), [([[5, 0], [0, 5]], 1.0), ([[4, 4], [4, 4]], 0.0)])
def test_kappa_is_one_when_perfect_and_zero_by_chance(matrix, expected):
    assert kappa(np.array(matrix)) == pytest.approx(expected)


def test_nothing_counted_is_no_number():
    empty = np.zeros((2, 2), np.int64)
    assert math.isnan(overall_accuracy(empty)) and math.isnan(kappa(empty))
