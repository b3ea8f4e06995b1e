"""Both VOC rules against values worked out by hand."""

import numpy as np
import pytest

from rsfoundation.detection.average_precision import ClassMatches, class_curve


def image(scores, overlaps, targets, ignored):
    return ClassMatches(
        np.array(scores, float), np.array(overlaps, float), np.array(targets, int), np.array(ignored, bool)
    )


def test_hand_worked_curve():
    # four objects; by score: right, wrong, right, wrong (target taken), right; one object is never found
    first = image([0.9, 0.7, 0.6], [0.8, 0.6, 0.7], [0, 1, 1], [False, False])
    second = image([0.8, 0.5], [0.3, 0.9], [0, 1], [False, False])
    curve = class_curve([first, second], 0.5)
    assert (curve.objects, curve.detections) == (4, 5)
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [0.25, 0.25, 0.5, 0.5, 0.75])
    # recall levels 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 3/5; .8, .9, 1 -> 0
    assert curve.average_precision("voc07") == pytest.approx((3 + 2 + 1.2) / 11)
    assert curve.average_precision("voc12") == pytest.approx(0.25 * (1 + 2 / 3 + 3 / 5))


def test_threshold_is_inclusive():
    one = image([0.9], [0.5], [0], [False])
    assert class_curve([one], 0.5).average_precision("voc12") == 1.0
    assert class_curve([one], 0.55).average_precision("voc12") == 0.0


def test_ignored_objects_count_neither_way():
    one = image([0.9, 0.8, 0.7], [0.9, 0.9, 0.9], [1, 1, 0], [False, True])
    curve = class_curve([one], 0.5)
    assert curve.objects == 1
    assert curve.average_precision("voc07") == curve.average_precision("voc12") == 1.0


def test_better_scored_duplicate_wins():
    one = image([0.9, 0.8], [0.6, 0.95], [0, 0], [False])
    np.testing.assert_allclose(class_curve([one], 0.5).precision, [1, 0.5])


def test_no_objects_is_not_a_number_and_no_detections_is_zero():
    nothing = image([], [], [], [])
    assert np.isnan(class_curve([nothing], 0.5).average_precision("voc07"))
    assert np.isnan(class_curve([image([0.9], [0], [0], [])], 0.5).average_precision("voc12"))
    missed = class_curve([image([], [], [], [False])], 0.5)
    assert missed.average_precision("voc07") == missed.average_precision("voc12") == 0.0


def test_perfect_recall_reaches_the_last_level_in_spite_of_rounding():
    three = [image([0.9], [0.9], [0], [False]) for _ in range(3)]
    assert class_curve(three, 0.5).average_precision("voc07") == pytest.approx(1.0)
