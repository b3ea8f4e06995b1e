"""Both VOC rules against values worked out by hand."""

import numpy as np
import pytest

from rsfoundation.evaluation.average_precision import Matches, class_curve


def matches(scores, overlaps, targets, ignored):
    return Matches(
        np.array(scores, float), np.array(overlaps, float), np.array(targets, int), np.array(ignored, bool)
    )


def test_hand_worked_curve():
    # four objects; by score: right, wrong, right, wrong (target taken), right; one object is never found
    found = matches([0.9, 0.8, 0.7, 0.6, 0.5], [0.8, 0.3, 0.6, 0.7, 0.9], [0, 2, 1, 1, 3], [False] * 4)
    curve = class_curve(found, 0.5)
    assert (curve.objects, curve.detections) == (4, 5)
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 2 / 4, 3 / 5])
    np.testing.assert_allclose(curve.recall, [0.25, 0.25, 0.5, 0.5, 0.75])
    # recall levels 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 3/5; .8, .9, 1 -> 0
    assert curve.average_precision("voc07") == pytest.approx((3 + 2 + 1.2) / 11)
    assert curve.average_precision("voc12") == pytest.approx(0.25 * (1 + 2 / 3 + 3 / 5))
    f1, score = curve.best_f1()
    assert (f1, score) == (pytest.approx(2 * 0.75 * 0.6 / 1.35), 0.5)


def test_threshold_is_inclusive_unless_strict():
    one = matches([0.9], [0.5], [0], [False])
    assert class_curve(one, 0.5).average_precision("voc12") == 1.0
    assert class_curve(one, 0.5, strict=True).average_precision("voc12") == 0.0
    assert class_curve(one, 0.55).average_precision("voc12") == 0.0


def test_ignored_objects_count_neither_way():
    curve = class_curve(matches([0.9, 0.8, 0.7], [0.9, 0.9, 0.9], [1, 1, 0], [False, True]), 0.5)
    assert curve.objects == 1
    assert curve.average_precision("voc07") == curve.average_precision("voc12") == 1.0


def test_better_scored_duplicate_wins():
    one = matches([0.9, 0.8], [0.6, 0.95], [0, 0], [False])
    np.testing.assert_allclose(class_curve(one, 0.5).precision, [1, 0.5])


def test_nothing_near_is_wrong_even_at_threshold_zero():
    assert class_curve(matches([0.9], [0.0], [-1], [False]), 0.0).average_precision("voc12") == 0.0


def test_no_objects_is_not_a_number_and_no_detections_is_zero():
    assert np.isnan(class_curve(matches([], [], [], []), 0.5).average_precision("voc07"))
    assert np.isnan(class_curve(matches([0.9], [0], [-1], []), 0.5).average_precision("voc12"))
    missed = class_curve(matches([], [], [], [False]), 0.5)
    assert missed.average_precision("voc07") == missed.average_precision("voc12") == 0.0
    assert missed.best_f1() == (0.0, 1.0)


def test_perfect_recall_reaches_the_last_level():
    three = matches([0.9, 0.9, 0.9], [0.9] * 3, [0, 1, 2], [False] * 3)
    assert class_curve(three, 0.5).average_precision("voc07") == pytest.approx(1.0)


def test_levels_are_floating_point_multiples_as_in_the_public_tools():
    ten = matches([0.9, 0.8, 0.7], [0.9] * 3, [0, 1, 2], [False] * 10)
    # recall 3/10 does not reach 3 * 0.1 = 0.30000000000000004: levels 0, .1 and .2 only
    assert class_curve(ten, 0.5).average_precision("voc07") == pytest.approx(3 / 11)
