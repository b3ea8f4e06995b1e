import numpy as np
import pytest
from cd_samples import loaded

from rsfoundation.datasets.transforms.pairs import MultiImgExchangeTime, MultiImgPhotoMetricDistortion
from rsfoundation.registry import TRANSFORMS


def test_dates_are_distorted_apart():
    results = loaded()
    results["img"] = [results["img"][0], results["img"][0].copy()]
    np.random.seed(1)
    distort = MultiImgPhotoMetricDistortion()
    differing = [not np.array_equal(*distort(results)["img"]) for _ in range(10)]
    assert np.mean(differing) > 0.8


def test_distortion_leaves_labels_and_input_alone():
    results = loaded()
    original = results["img"][0].copy()
    np.random.seed(3)
    distorted = MultiImgPhotoMetricDistortion()(results)
    np.testing.assert_array_equal(results["img"][0], original)
    assert distorted["gt_seg_map"] is results["gt_seg_map"]
    assert all(image.dtype == np.uint8 for image in distorted["img"])


def test_consistent_mode_puts_contrast_at_one_place(monkeypatch):
    places = []
    distort = MultiImgPhotoMetricDistortion(consistent_contrast_mode=True)
    monkeypatch.setattr(distort, "_distort", lambda image, last: places.append(last) or image)
    for seed in range(10):
        np.random.seed(seed)
        distort(loaded())
    assert places[::2] == places[1::2] and set(places) == {True, False}


def test_exchange_swaps_dates_and_their_labels_only():
    results = {**loaded(), "gt_seg_map_to": np.zeros((40, 50), np.uint8)}
    swapped = MultiImgExchangeTime(prob=1.0)(results)
    assert swapped["img"][0] is results["img"][1] and swapped["img"][1] is results["img"][0]
    assert swapped["gt_seg_map_from"] is results["gt_seg_map_to"]
    assert swapped["gt_seg_map_to"] is results["gt_seg_map_from"]
    assert swapped["gt_seg_map"] is results["gt_seg_map"]


def test_exchange_never_happens_at_probability_zero():
    results = loaded()
    assert MultiImgExchangeTime(prob=0.0)(results)["img"] is results["img"]


@pytest.mark.parametrize(
    "name", ["MultiImgRerange", "MultiImgCLAHE", "MultiImgRGB2Gray", "MultiImgAdjustGamma"]
)
def test_each_date_is_transformed_for_itself(name):
    results = loaded()
    single = TRANSFORMS.build(dict(type="mmseg." + name.removeprefix("MultiImg")))
    expected = [single(dict(img=image.copy()))["img"] for image in results["img"]]
    changed = TRANSFORMS.build(dict(type=name))(results)
    for image, wanted in zip(changed["img"], expected, strict=True):
        np.testing.assert_array_equal(image, wanted)
