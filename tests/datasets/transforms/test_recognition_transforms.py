"""Crops, augmentations and packing of scene recognition."""

import numpy as np
import pytest

from rsfoundation.core.errors import ConfigError
from rsfoundation.datasets.transforms import recognition
from rsfoundation.datasets.transforms.recognition import (
    CentralCrop,
    PackSceneInputs,
    RandAugment,
    RandomResizedCrop,
    resize,
)

BANDS = pytest.mark.parametrize("bands", [1, 3, 4, 5, 13])


def picture(bands, height=60, width=80):
    return np.random.default_rng(bands).integers(0, 256, (height, width, bands), np.uint8)


@BANDS
@pytest.mark.parametrize("size", [(30, 40), (90, 120), (60, 80), (16, 100)])
def test_every_band_is_resized_like_a_grey_image(bands, size):
    image = picture(bands)
    found = resize(image, size)
    assert found.shape == (*size, bands) and found.dtype == np.uint8 and found.flags.c_contiguous
    for band in range(bands):
        alone = resize(np.ascontiguousarray(image[..., band : band + 1]), size)
        assert np.abs(found[..., band].astype(int) - alone[..., 0]).max() <= 1


def test_halving_averages():
    image = picture(3)
    means = image.reshape(30, 2, 40, 2, 3).mean((1, 3))
    assert np.abs(resize(image, (30, 40)) - means).max() <= 0.51


@BANDS
def test_random_parts_have_the_size_the_share_and_the_ratio_asked_for(bands):
    np.random.seed(0)
    crop = RandomResizedCrop(24, scale=(0.2, 0.5), ratio=(0.5, 2.0))
    for _ in range(200):
        top, left, height, width = crop._part(60, 80)
        assert 0 <= top <= 60 - height and 0 <= left <= 80 - width
        assert 0.17 <= height * width / 4800 <= 0.54 and 0.45 <= width / height <= 2.2
    done = crop(dict(img=picture(bands)))
    assert done["img"].shape == (24, 24, bands) and done["img_shape"] == (24, 24)
    assert RandomResizedCrop((8, 16))(dict(img=picture(bands)))["img"].shape == (8, 16, bands)


def test_where_no_part_fits_the_middle_is_taken():
    crop = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.9, 1.1))
    top, left, height, width = crop._part(10, 200)
    assert (top, height, width) == (0, 10, 11) and left == 94


def test_the_central_square_is_tested():
    image = np.zeros((60, 80, 3), np.uint8)
    image[15:45, 25:55] = 200
    assert (CentralCrop(30, share=0.5)(dict(img=image))["img"] == 200).all()


@BANDS
@pytest.mark.parametrize("operation", recognition._OPERATIONS)
def test_operations_keep_shape_and_type(bands, operation):
    np.random.seed(0)
    image = picture(bands)
    before = image.copy()
    for strength in (0.0, 0.9, 1.0):
        found = operation(image, strength)
        assert found.shape == image.shape and found.dtype == np.uint8
    assert np.array_equal(image, before)


def test_operations_do_what_they_are_called(monkeypatch):
    image = picture(3)
    monkeypatch.setattr(recognition, "_signed", lambda value: value)
    assert np.array_equal(recognition._invert(image, 1), 255 - image)
    assert set(np.unique(recognition._posterize(image, 0.5))) <= set(range(0, 256, 64))
    assert np.array_equal(recognition._solarize(image, 0.5), np.where(image < 128, image, 255 - image))
    stretched = recognition._auto_contrast((image // 4 + 50).astype(np.uint8), 1)
    assert stretched.min() == 0 and stretched.max() == 255
    moved = recognition._move_x(image, 20 / 0.45 / 80)
    assert np.array_equal(moved[:, 20:], image[:, :-20]) and (moved[:, :20] == 124).all()
    brighter = recognition._brightness(image, 1 / 0.9 * 0.5)
    assert np.array_equal(brighter, np.clip(np.rint(image * 1.5), 0, 255).astype(np.uint8))


def test_augmentation_is_drawn_with_the_given_probability_and_repeats_under_a_seed():
    image = picture(3)
    never = RandAugment(probability=0.0)
    assert np.array_equal(never(dict(img=image))["img"], image)
    always = RandAugment(probability=1.0)
    runs = []
    for _ in range(2):
        np.random.seed(4)
        runs.append([always(dict(img=image))["img"] for _ in range(20)])
    assert all(np.array_equal(one, two) for one, two in zip(*runs, strict=True))
    assert sum(not np.array_equal(one, image) for one in runs[0]) >= 18
    with pytest.raises(ConfigError, match="8-bit"):
        always(dict(img=image.astype(np.float32)))


@BANDS
def test_packing_keeps_labels_and_pixels(bands):
    image = picture(bands)
    packed = PackSceneInputs()(dict(img=image, gt_label=[2, 5], img_path="x.png", other=1))
    assert packed["inputs"].shape == (bands, 60, 80)
    assert np.array_equal(packed["inputs"].numpy(), image.transpose(2, 0, 1))
    sample = packed["data_samples"]
    assert sample.gt_label.tolist() == [2, 5] and sample.img_path == "x.png" and "other" not in sample
    assert "gt_label" not in PackSceneInputs()(dict(img=image))["data_samples"]
