"""Augmentation of images with their masks: labels follow their pixels, any number of bands."""

import numpy as np
import pytest
from mmcv.transforms import Compose

from rsfoundation.datasets.transforms.segmentation import (
    PackSegInputs,
    RandomBrightnessContrast,
    RandomQuarterTurn,
)
from rsfoundation.registry import TRANSFORMS


def sample(bands=3, dtype=np.uint8, height=6, width=4):
    labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    image = np.repeat(labels[..., None] * 5, bands, axis=2).astype(dtype)
    return dict(img=image, gt_seg_map=labels, seg_fields=["gt_seg_map"], img_shape=(height, width))


def test_quarter_turns_keep_labels_on_their_pixels():
    np.random.seed(0)
    shapes, corners = set(), set()
    for _ in range(30):
        turned = RandomQuarterTurn(prob=0.8)(sample())
        assert np.array_equal(turned["img"][..., 1], turned["gt_seg_map"] * 5)
        assert turned["img"].shape[:2] == turned["img_shape"]
        shapes.add(turned["img_shape"])
        corners.add(int(turned["gt_seg_map"][0, 0]))
    assert shapes == {(6, 4), (4, 6)} and corners == {0, 3, 20, 23}


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_brightness_and_contrast_of_any_bands(bands, dtype):
    np.random.seed(1)
    before = sample(bands, dtype)
    after = RandomBrightnessContrast(0.2, 0.3, prob=1.0)({**before, "img": before["img"].copy()})["img"]
    assert after.dtype == dtype and after.shape == before["img"].shape
    assert not np.array_equal(after, before["img"])
    if bands > 1:
        assert np.array_equal(after[..., 0], after[..., -1]), "equal bands stay equal"


def test_the_formula_of_brightness_and_contrast(monkeypatch):
    draws = iter([np.array([1.5]), np.array([0.1])])
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: next(draws))
    before = np.array([[[100.0], [140.0]]], np.float32)
    after = RandomBrightnessContrast(prob=1.0)(dict(img=before))["img"]
    assert np.allclose(after.ravel(), [120 - 30 + 25.5, 120 + 30 + 25.5])


def test_bands_may_change_apart():
    np.random.seed(2)
    image = RandomBrightnessContrast(per_band=True, prob=1.0)(sample(4))["img"]
    assert any(not np.array_equal(image[..., 0], image[..., band]) for band in (1, 2, 3))


def test_native_values_stay_within_their_range():
    np.random.seed(0)
    image = np.linspace(200, 3000, 24, dtype=np.float32).reshape(4, 6, 1)
    for _ in range(10):
        changed = RandomBrightnessContrast(0.5, 0.5, prob=1.0)(dict(img=image.copy()))["img"]
        assert changed.min() >= 200 and changed.max() <= 3000


def test_random_scale_of_a_list_and_a_crop_that_is_not_of_one_class():
    """The published scales and crop rule are mmcv's RandomChoice of Resize, and mmseg's RandomCrop."""
    steps = [
        dict(
            type="RandomChoice",
            transforms=[
                [dict(type="mmseg.Resize", scale_factor=factor, keep_ratio=True)] for factor in (0.5, 1.5)
            ],
        ),
        dict(type="mmseg.RandomCrop", crop_size=(16, 16), cat_max_ratio=0.75),
    ]
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    labels = np.zeros((64, 64), np.uint8)
    labels[:, 30:] = 1
    np.random.seed(0)
    mixed = 0
    for _ in range(20):
        image = np.repeat(labels[..., None] * 90, 5, axis=2)
        found = pipeline(
            dict(img=image, gt_seg_map=labels.copy(), seg_fields=["gt_seg_map"], img_shape=(64, 64))
        )
        assert found["img"].shape == (16, 16, 5)
        mixed += len(np.unique(found["gt_seg_map"])) == 2
    assert mixed >= 16, "a crop of one class is drawn again, up to ten times"


def test_packing_keeps_the_window_of_a_patch():
    packed = PackSegInputs()(dict(sample(), window=(3, 4, 5), img_path="a.tif"))
    assert packed["data_samples"].metainfo["window"] == (3, 4, 5)
