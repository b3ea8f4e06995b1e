"""Masks and class maps tint exactly their pixels."""

import numpy as np

from rsfoundation.visualization import overlay_classes, overlay_masks

COLOURS = [(200, 0, 0), (0, 200, 0)]


def test_masks_tint_inside_only():
    picture = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:30, 10:30] = True
    drawn = overlay_masks(picture, mask, COLOURS[:1], opacity=0.5)
    assert tuple(drawn[20, 20]) == (150, 50, 50)
    assert (drawn[~mask[0]] == 100).sum() > 0.9 * 3 * (~mask[0]).sum()


def test_no_masks():
    picture = np.full((8, 8, 3), 7, np.uint8)
    np.testing.assert_array_equal(overlay_masks(picture, np.zeros((0, 8, 8), bool), []), picture)


def test_class_map_leaves_unknown_and_clear_labels():
    picture = np.full((1, 4, 3), 100, np.uint8)
    drawn = overlay_classes(picture, np.array([[0, 1, 255, -1]]), COLOURS, opacity=1.0, clear=[1])
    assert drawn[0].tolist() == [[200, 0, 0], [100] * 3, [100] * 3, [100] * 3]
