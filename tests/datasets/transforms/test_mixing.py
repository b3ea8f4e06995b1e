"""Mosaics of images with instance masks: pixels, masks, boxes and labels move together."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures.mask import PolygonMasks

from rsfoundation.core.errors import ConfigError
from rsfoundation.datasets.transforms.mixing import InstanceMosaic
from rsfoundation.registry import DATASETS

SIDE, OBJECT = 32, 6
STILL = dict(rotation=0.0, translation=0.0, scaling=(1.0, 1.0), shear=0.0, center_range=(1.0, 1.0))
LOADING = [
    dict(type="rsfoundation.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
]


def image(number):
    """Return an image of one value, with an object of another."""
    pixels = np.full((SIDE, SIDE, 3), 10 * number + 10, np.uint8)
    pixels[20 : 20 + OBJECT, 18 : 18 + OBJECT] = 100 + number
    return pixels


def dataset(folder, steps, count=4):
    folder.mkdir(exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        cv2.imwrite(str(folder / f"{number}.png"), image(number))
        images.append(dict(id=number, file_name=f"{number}.png", width=SIDE, height=SIDE))
        left, top, right, bottom = 18, 20, 18 + OBJECT, 20 + OBJECT
        annotations.append(
            dict(
                id=number + 1,
                image_id=number,
                category_id=number % 2 + 1,
                bbox=[left, top, OBJECT, OBJECT],
                area=OBJECT**2,
                iscrowd=0,
                segmentation=[[left, top, right, top, right, bottom, left, bottom]],
            )
        )
    categories = [dict(id=1, name="tank"), dict(id=2, name="ship")]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / "all.json").write_text(json.dumps(content))
    return DATASETS.build(
        dict(
            type="rsfoundation.CocoInstanceDataset",
            data_root=str(folder),
            ann_file="all.json",
            data_prefix=dict(img=""),
            metainfo=dict(classes=("tank", "ship")),
            pipeline=[*LOADING, *steps],
        )
    )


def sample(number):
    masks = np.zeros((1, SIDE, SIDE), np.uint8)
    masks[0, 20 : 20 + OBJECT, 18 : 18 + OBJECT] = 1
    corners = np.array([18, 20, 24, 20, 24, 26, 18, 26], float)
    return dict(
        img=image(number),
        gt_masks=PolygonMasks([[corners]], SIDE, SIDE),
        gt_bboxes=None,
        gt_bboxes_labels=np.array([number]),
        gt_ignore_flags=np.array([number == 3]),
    )


def test_the_middle_of_four_images_around_a_centre():
    step = InstanceMosaic((SIDE, SIDE), prob=1.0, **STILL)
    made = step.transform({**sample(0), "mix_results": [sample(1), sample(2), sample(3)]})
    half = SIDE // 2
    upper = np.hstack([image(0)[half:, half:], image(1)[half:, :half]])
    lower = np.hstack([image(2)[:half, half:], image(3)[:half, :half]])
    assert np.array_equal(made["img"], np.vstack([upper, lower]))
    # of the objects, at 18..24 x 20..26, only those of the upper left image are within the middle
    assert made["gt_masks"].masks.shape == (1, SIDE, SIDE) and made["gt_bboxes_labels"].tolist() == [0]
    assert made["gt_bboxes"].tensor.tolist() == [[18 - half, 20 - half, 24 - half, 26 - half]]
    assert made["img_shape"] == (SIDE, SIDE) and "mix_results" not in made


def test_objects_and_flags_move_with_their_pixels(tmp_path):
    data = dataset(tmp_path / "a", [dict(type="rsfoundation.InstanceMosaic", scale=(64, 48), prob=1.0)])
    np.random.seed(0)
    numbers, turned = set(), 0
    for _ in range(12):
        made = data[1]
        assert made["img"].shape == (48, 64, 3) and made["gt_masks"].masks.shape[1:] == (48, 64)
        boxes = made["gt_bboxes"].tensor.numpy()
        assert len(boxes) == len(made["gt_masks"].masks) == len(made["gt_ignore_flags"])
        for mask, label, box in zip(made["gt_masks"].masks, made["gt_bboxes_labels"], boxes, strict=True):
            rows, columns = mask.nonzero()
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            values, counts = np.unique(made["img"][mask.astype(bool)], return_counts=True)
            value = int(values[counts.argmax()])
            if len(rows) < 20 or value < 100:
                continue  # slivers at an edge, whose pixels are mixed
            numbers.add(value - 100)
            assert (value - 100) % 2 == label, "labels move with their objects"
            inside = cv2.erode(mask, np.ones((3, 3), np.uint8)).astype(bool)
            assert (np.abs(made["img"][inside].astype(int) - value) <= 1).all()
            turned += mask[box[1].astype(int), box[0].astype(int)] == 0
    assert numbers == {0, 1, 2, 3} and turned, "all images and some rotation have been seen"


def test_uncovered_pixels_have_the_pad_value_and_small_images_grow():
    far = {**STILL, "scaling": (0.25, 0.25)}
    step = InstanceMosaic((2 * SIDE, 2 * SIDE), prob=1.0, pad_value=7, **far)
    made = step.transform({**sample(0), "mix_results": [sample(1), sample(2), sample(3)]})
    # images of 32 px grow to 64, the canvas of 128 shrinks to 32 in the middle of 64
    covered = (made["img"] != 7).all(axis=2)
    assert covered[16:48, 16:48].all() and covered.sum() == 32 * 32
    assert made["gt_bboxes_labels"].tolist() == [0, 1, 2, 3]
    assert made["gt_ignore_flags"].tolist() == [False, False, False, True]


def test_without_luck_an_image_stays_as_it_is(tmp_path):
    data = dataset(tmp_path / "a", [dict(type="rsfoundation.InstanceMosaic", scale=(64, 64), prob=0.0)])
    assert np.array_equal(data[1]["img"], image(1)) and "mix_results" not in data[1]


@pytest.mark.parametrize("bands", [1, 2, 6])
def test_images_of_any_number_of_bands(bands):
    step = InstanceMosaic((SIDE, SIDE), prob=1.0, **STILL)
    samples = [sample(number) for number in range(4)]
    for one in samples:
        stack = np.repeat(one["img"][..., :1], bands, axis=2).astype(np.float32)
        one["img"] = stack + np.arange(bands, dtype=np.float32)
    made = step.transform({**samples[0], "mix_results": samples[1:]})
    assert made["img"].shape == (SIDE, SIDE, bands) and made["img"].dtype == np.float32
    assert np.array_equal(
        made["img"] - made["img"][..., :1], np.broadcast_to(np.arange(bands), made["img"].shape)
    )
    assert np.array_equal(made["img"][:16, :16, 0], image(0)[16:, 16:, 0])


def test_images_without_objects():
    empty = {**sample(0), "gt_masks": PolygonMasks([], SIDE, SIDE)}
    empty.update(gt_bboxes_labels=np.zeros(0, np.int64), gt_ignore_flags=np.zeros(0, bool))
    step = InstanceMosaic((SIDE, SIDE), prob=1.0)
    made = step.transform({**empty, "mix_results": [dict(empty) for _ in range(3)]})
    assert made["gt_bboxes"].tensor.shape == torch.Size([0, 4]) and len(made["gt_masks"]) == 0


def test_a_pipeline_without_masks_and_a_wrong_range():
    plain = {key: value for key, value in sample(0).items() if key != "gt_masks"}
    with pytest.raises(ConfigError, match="needs gt_masks") as caught:
        InstanceMosaic((SIDE, SIDE), prob=1.0).transform({**plain, "mix_results": [plain] * 3})
    assert "with_mask=True" in caught.value.fix
    with pytest.raises(ConfigError, match="scaling is"):
        InstanceMosaic((SIDE, SIDE), scaling=(0.0, 1.0))
