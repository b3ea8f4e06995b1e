import numpy as np

from rsfoundation.io.label_maps import IGNORED, reduce_zero, remap


def test_zero_becomes_ignored_and_ignored_stays():
    assert reduce_zero(np.array([0, 1, 254, IGNORED], np.uint8)).tolist() == [IGNORED, 0, 253, IGNORED]


def test_remap_swaps_without_chaining():
    assert remap(np.array([0, 1, 2, 255], np.uint8), {0: 1, 1: 0}).tolist() == [1, 0, 2, 255]


def test_no_map_changes_nothing():
    labels = np.array([3, 4], np.uint8)
    assert remap(labels, None) is labels
