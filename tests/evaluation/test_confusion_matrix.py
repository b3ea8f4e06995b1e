import math

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.confusion_matrix import (
    class_scores,
    count_pixels,
    kappa,
    mean,
    overall_accuracy,
)


def confusion_matrix(truth, prediction, classes):
    """Count pixels whose predictions are all classes."""
    matrix = count_pixels(truth, prediction, classes)
    assert not matrix[:, classes].any()
    return matrix[:, :classes]


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


def test_predictions_of_no_class_are_missed_pixels_of_their_class_and_of_no_other():
    truth = np.array([0, 0, 1, 2, 2, 255])
    matrix = count_pixels(truth, np.array([0, 3, 1, 200, -1, 3]), 3)
    assert matrix.tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 2]]
    first = class_scores(matrix, 0)
    assert (first.iou, first.precision, first.recall) == (0.5, 1.0, 0.5)
    assert overall_accuracy(matrix) == pytest.approx(2 / 5)
    assert kappa(matrix) == pytest.approx((2 / 5 - (2 + 1) / 25) / (1 - 3 / 25))


@pytest.mark.parametrize("value", [3, -1, 254])
def test_labels_that_are_no_class_are_an_error_with_file_and_values(value):
    truth = np.array([[0, value, value, 255]])
    with pytest.raises(DataError, match=rf"{value} \(2 pixels\); there are 3 classes, 0 to 2") as caught:
        count_pixels(truth, np.zeros_like(truth), 3, where="masks/a.png")
    assert caught.value.where == "masks/a.png" and "label_map" in caught.value.fix


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(DataError, match=r"is \(4, 4\), and the prediction \(4, 5\)"):
        count_pixels(np.zeros((4, 4), int), np.zeros((4, 5), int), 2)


@pytest.mark.parametrize("truth_type", [np.uint8, np.int64, np.int16])
@pytest.mark.parametrize("type_", [np.uint8, np.int64])
def test_every_integer_type_and_layout(truth_type, type_):
    random = np.random.default_rng(2)
    truth, prediction = random.integers(0, 4, (2, 60, 50))
    expected = confusion_matrix(truth, prediction, 4)
    assert np.array_equal(confusion_matrix(truth.astype(truth_type), prediction.astype(type_), 4), expected)
    assert np.array_equal(confusion_matrix(truth.T, prediction.T, 4), expected)


def test_threads_change_nothing(monkeypatch):
    import torch

    random = np.random.default_rng(2)
    truth, prediction = random.integers(0, 4, (2, 100, 101))
    expected = confusion_matrix(truth, prediction, 4)
    monkeypatch.setattr("rsfoundation.evaluation.confusion_matrix._GRAIN", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(confusion_matrix(truth, prediction, 4), expected)
    assert expected.sum() == truth.size


def test_an_empty_map_counts_nothing():
    assert not count_pixels(np.zeros((0, 5), int), np.zeros((0, 5), int), 2).any()
