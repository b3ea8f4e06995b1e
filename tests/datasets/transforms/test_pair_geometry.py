import numpy as np
import pytest
from cd_samples import loaded

from rsfoundation.registry import TRANSFORMS

CASES = {
    "MultiImgResize": dict(scale=(100, 80)),
    "MultiImgRandomResize": dict(scale=(50, 40), ratio_range=(0.5, 2.0), keep_ratio=True),
    "MultiImgResizeShortestEdge": dict(scale=20, max_size=100),
    "MultiImgResizeToMultiple": dict(size_divisor=32),
    "MultiImgRandomCrop": dict(crop_size=(16, 20), cat_max_ratio=0.75),
    "MultiImgRandomFlip": dict(prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    "MultiImgRandomRotate": dict(prob=0.9, degree=180, seg_pad_val=7),
    "MultiImgRandomRotFlip": dict(rotate_prob=0.5, flip_prob=1.0, seg_pad_val=7),
    "MultiImgRandomCutOut": dict(prob=1.0, n_holes=3, cutout_shape=(8, 8), seg_fill_in=7),
    "MultiImgPad": dict(size_divisor=32, pad_val=dict(img=0, seg=7)),
    "MultiImgRandomBorderCrop": dict(prob=1.0, max_border=8),
    "MultiImgRandomResizedCrop": dict(prob=1.0, scale=(0.3, 0.5)),
}
EXACT = {  # pixels are moved, not mixed
    "MultiImgRandomCrop",
    "MultiImgRandomFlip",
    "MultiImgRandomCutOut",
    "MultiImgPad",
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(5))
def test_dates_and_labels_move_alike(name, seed):
    np.random.seed(seed)
    transform = TRANSFORMS.build(dict(type=name, **CASES[name]))
    results = transform(loaded(seed=seed))
    before, after = results["img"]
    label, other = results["gt_seg_map"], results["gt_seg_map_from"]
    assert before.shape == after.shape and before.shape[:2] == label.shape == results["img_shape"]
    np.testing.assert_array_equal(label, other)
    assert set(np.unique(label)) <= {0, 1, 7}
    valid = (before.astype(int) + after).max(axis=2) > 0  # the rest is padding
    sums = (before.astype(int) + after)[valid & (label != 7)]
    assert np.mean(np.abs(sums - 255) <= 3) > 0.97  # still each other's negative
    if name in EXACT:
        shown = label != 7
        np.testing.assert_array_equal(label[shown], (before[..., 0] > 127)[shown])


def test_draws_differ_between_samples():
    np.random.seed(0)
    crop = TRANSFORMS.build(dict(type="MultiImgRandomCrop", crop_size=(8, 8)))
    crops = {crop(loaded())["img"][0].tobytes() for _ in range(8)}
    assert len(crops) > 4


def test_crop_avoids_patches_of_one_class():
    results = loaded(height=64, width=64)
    results["gt_seg_map"] = np.zeros((64, 64), np.uint8)
    results["gt_seg_map"][:, 60:] = 1
    crop = TRANSFORMS.build(dict(type="MultiImgRandomCrop", crop_size=(32, 32), cat_max_ratio=0.99))
    np.random.seed(0)
    kept = [len(np.unique(crop(results)["gt_seg_map"])) for _ in range(40)]
    assert np.mean(np.array(kept) == 2) > 0.6  # a plain crop has both classes in about one of nine


def test_resize_records_the_true_scale():
    resize = TRANSFORMS.build(dict(type="MultiImgResize", scale=(100, 80), keep_ratio=True))
    results = resize(loaded(height=40, width=50))
    assert results["scale_factor"] == (2.0, 2.0) and results["img_shape"] == (80, 100)


def test_flip_records_what_it_did():
    results = TRANSFORMS.build(dict(type="MultiImgRandomFlip", prob=1.0, direction="vertical"))(loaded())
    assert results["flip"] and results["flip_direction"] == "vertical"
    np.testing.assert_array_equal(results["img"][1], loaded()["img"][1][::-1])


@pytest.mark.parametrize("name", ["MultiImgRandomRotate", "MultiImgRandomRotFlip"])
@pytest.mark.parametrize("angle", [90, -90, 180, 270])
@pytest.mark.parametrize("size", [(7, 7), (8, 6), (7, 6), (6, 9)])
def test_quarter_turns_of_labels_follow_one_rule_where_pixels_fall_between_two(name, angle, size):
    height, width = size
    label = np.arange(height * width).reshape(size).astype(np.uint8)
    prob = dict(prob=1.0) if name == "MultiImgRandomRotate" else dict(rotate_prob=1.0)
    transform = TRANSFORMS.build(dict(type=name, degree=(angle, angle), seg_pad_val=255, **prob))
    image = np.zeros((*size, 3), np.uint8)
    turned = transform(dict(img=[image, image], gt_seg_map=label, seg_fields=["gt_seg_map"]))["gt_seg_map"]
    cos, sin = (round(float(value)) for value in (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))))
    for row in range(height):
        for column in range(width):
            dy, dx = row - (height - 1) / 2, column - (width - 1) / 2
            y = int(np.floor((height - 1) / 2 - sin * dx + cos * dy + 0.5))  # halves go down and to the right
            x = int(np.floor((width - 1) / 2 + cos * dx + sin * dy + 0.5))
            inside = 0 <= y < height and 0 <= x < width
            assert turned[row, column] == (label[y, x] if inside else 255)
    if height == width:
        np.testing.assert_array_equal(turned, np.rot90(label, -angle // 90))


@pytest.mark.parametrize("name", ["MultiImgRandomBorderCrop", "MultiImgRandomResizedCrop"])
def test_a_part_is_enlarged_to_the_old_size(name):
    results = loaded(height=64, width=48)
    results["gt_seg_map"] = np.zeros((64, 48), np.uint8)
    results["gt_seg_map"][0] = 1  # the border that a part loses sooner or later
    crop = TRANSFORMS.build(dict(type=name, prob=1.0))
    np.random.seed(0)
    labels = [crop(results)["gt_seg_map"] for _ in range(20)]
    assert all(label.shape == (64, 48) for label in labels)
    assert 0 < np.mean([label.any() for label in labels]) < 1
    never = TRANSFORMS.build(dict(type=name, prob=0.0))(results)
    np.testing.assert_array_equal(never["img"][0], results["img"][0])


def test_scale_factor_of_a_resize_that_keeps_the_ratio_is_recorded():
    resize = TRANSFORMS.build(dict(type="MultiImgResize", scale=(100, 80), keep_ratio=True))
    results = resize(loaded(height=40, width=50))
    assert results["scale_factor"] == (2.0, 2.0) and results["img"][1].shape[:2] == (80, 100)
