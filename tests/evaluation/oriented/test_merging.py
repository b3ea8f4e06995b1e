"""Patches become full images: places, duplicates, labels."""

import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.oriented.image_results import LabelFolder
from rsfoundation.evaluation.oriented.patch_merging import merge_patches, parse_place, suppress


def test_duplicates_of_neighbouring_patches_become_one(make_record):
    left = make_record("P1__100__0___0", [(90, 50, 16, 8, 0.3)], [0.6], [1])
    right = make_record("P1__100__60___0", [(30, 50, 16, 8, 0.3), (60, 50, 16, 8, 0)], [0.9, 0.5], [1, 0])
    other = make_record("P2__100__0___0", [(30, 50, 16, 8, 0.3)], [0.4], [1])
    one, two = merge_patches([left, right, other])
    assert (one.name, two.name) == ("P1", "P2")
    np.testing.assert_allclose(one.boxes, [(120, 50, 16, 8, 0), (90, 50, 16, 8, 0.3)], atol=1e-6)
    assert one.scores.tolist() == pytest.approx([0.5, 0.9]) and one.labels.tolist() == [0, 1]


def test_equal_scores_keep_the_earlier_one():
    boxes = np.array([(20.5, 20, 10, 6, 0), (20, 20, 10, 6, 0)] * 30)
    assert suppress(boxes, np.ones(60), np.zeros(60, int), 0.1).tolist() == [0]


def test_labels_of_patches_are_joined_once_each(make_record):
    cut = make_record(
        "P1__100__0___0",
        truth=[(98, 50, 16, 8, 0.3), (20, 20, 9, 4, 0)],
        truth_labels=[1, 0],
        ignored=[True, False],
    )
    whole = make_record(
        "P1__100__60___0", truth=[(38.2, 50, 16, 8, 0.3), (38, 50, 16, 8, 0.3)], truth_labels=[1, 2]
    )
    (merged,) = merge_patches([cut, whole])
    assert sorted(merged.truth_labels.tolist()) == [0, 1, 2]
    assert not merged.ignored.any(), "one patch holds the object whole, and counts it"


def test_an_object_labelled_twice_in_one_patch_stays_two(make_record):
    twice = [(20, 20, 10, 6, 0.1), (20, 20, 10, 6, 0.1)]
    (merged,) = merge_patches([make_record("P1__100__0___0", truth=twice, truth_labels=[0, 0])])
    assert len(merged.truth) == 2


def test_corners_move_like_boxes(make_record):
    record = make_record("P1__100__30___40", truth=[(0, 0, 9, 0, 9, 5, 0, 5)], truth_labels=[0])
    (merged,) = merge_patches([record])
    assert merged.truth.tolist() == [[30, 40, 39, 40, 39, 45, 30, 45]]


def test_full_images_keep_their_size_and_their_own_nms(make_record):
    record = make_record("P1", [(20, 20, 10, 6, 0), (21, 20, 10, 6, 0)], [0.5, 0.6], [0, 0])
    (merged,) = merge_patches([record])
    assert merged.size == (100, 100) and merged.scores.tolist() == pytest.approx([0.6])


def test_names():
    place = parse_place("a__b__1024__824___1648")
    assert (place.image, place.window, place.x, place.y) == ("a__b", 1024, 824, 1648)
    assert parse_place("harbour").window == 0
    with pytest.raises(DataError, match="resized") as caught:
        parse_place("P0001__0.5__824___0")
    assert "rsf prepare dota" in caught.value.fix


def test_full_image_labels_are_read_by_name(tmp_path, make_record):
    (tmp_path / "P1.txt").write_text(
        "gsd:0.2\n1 1 9 1 9 5 1 5 ship 0\n1 11 9 11 9 15 1 15 ship 1\n1 1 9 1 9 5 1 5 helipad 0\n"
    )
    folder = LabelFolder(tmp_path, ("plane", "ship"), ignore_difficulty=1)
    (merged,) = merge_patches([make_record("P1__100__0___0")], read_truth=folder.read)
    assert merged.truth.shape == (2, 8) and merged.ignored.tolist() == [False, True]
    assert merged.truth_labels.tolist() == [1, 1]
    with pytest.raises(DataError, match="no label file"):
        folder.read("P2")
    (tmp_path / "P3.txt").write_text("1 1 9 1 9 5 1 5 shipp 0\n")
    with pytest.raises(DataError, match="did you mean 'ship'") as caught:
        folder.read("P3")
    assert caught.value.where.endswith("P3.txt:1")
