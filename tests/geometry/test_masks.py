import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rsfoundation.core.task import Window
from rsfoundation.geometry.masks import CroppedMask, common_region


def blob(seed, height=17, width=23):
    return np.random.default_rng(seed).random((height, width)) > 0.6


def spread(mask, height, width):
    """The mask as an array of the whole image."""
    full = np.zeros((height, width), bool)
    full[mask.top : mask.bottom, mask.left : mask.right] = mask.bitmap
    return full


def test_is_cropped_to_its_pixels():
    full = np.zeros((10, 12), bool)
    full[3:5, 6:9] = True
    mask = CroppedMask.cut_out(full, left=100, top=50)
    assert mask.box == (106, 53, 3, 2)
    assert (mask.right, mask.bottom) == (109, 55)
    assert mask.bitmap.all()


def test_empty_mask_is_none():
    assert CroppedMask.cut_out(np.zeros((3, 3), bool)) is None


@pytest.mark.parametrize("seed", range(5))
def test_union_and_intersection_equal_those_of_whole_arrays(seed):
    one, other = CroppedMask.cut_out(blob(seed), 2, 3), CroppedMask.cut_out(blob(seed + 50), 9, 7)
    a, b = spread(one, 40, 40), spread(other, 40, 40)
    assert np.array_equal(spread(CroppedMask.union([one, other]), 40, 40), a | b)
    assert one.intersection(other) == (a & b).sum()


def test_masks_apart_share_nothing():
    one, other = CroppedMask(0, 0, np.ones((2, 2), bool)), CroppedMask(5, 0, np.ones((2, 2), bool))
    assert one.intersection(other) == 0


def test_part_within_a_region():
    mask = CroppedMask(10, 10, np.ones((4, 6), bool))
    assert mask.within(Window(0, 0, 12, 11)).shape == (1, 2)
    assert mask.within(Window(13, 12, 50, 50)).shape == (2, 3)
    assert mask.within(Window(0, 0, 5, 5)).size == 0


def test_common_region():
    assert common_region(Window(0, 0, 10, 10), Window(6, 4, 10, 10)) == Window(6, 4, 4, 6)
    assert common_region(Window(0, 0, 10, 10), Window(10, 0, 10, 10)) is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("corner", [(0, 0), (4, 9), (17, 13)])
def test_run_lengths_decode_to_the_mask(seed, corner):
    mask = CroppedMask.cut_out(blob(seed), *corner)
    assert np.array_equal(coco_mask.decode(mask.rle(30, 40)).astype(bool), spread(mask, 30, 40))


def test_run_lengths_of_a_full_image_and_of_runs_that_wrap_columns():
    assert coco_mask.decode(CroppedMask(0, 0, np.ones((4, 3), bool)).rle(4, 3)).all()
    tall = CroppedMask(1, 0, np.ones((4, 2), bool))  # its two columns are one run
    assert coco_mask.decode(tall.rle(4, 5)).sum() == 8


def test_run_lengths_of_a_huge_scene_need_only_the_crop():
    mask = CroppedMask(49_990, 49_990, np.ones((5, 5), bool))
    assert coco_mask.area(dict(mask.rle(50_000, 50_000))) == 25
    assert coco_mask.toBbox(dict(mask.rle(50_000, 50_000))).tolist() == [49_990, 49_990, 5, 5]
