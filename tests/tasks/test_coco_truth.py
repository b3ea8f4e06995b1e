import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from rsfoundation.core.task import Classes
from rsfoundation.tasks.instance import InstanceSegmentation, find_coco_truth

CLASSES = Classes(("tank", "ship"), ((255, 0, 0), (0, 255, 0)))
SQUARE = np.zeros((20, 30), np.uint8)
SQUARE[4:8, 6:12] = 1
RUNS = coco_mask.encode(np.asfortranarray(SQUARE))
SEGMENTATIONS = {
    "polygon": [[6, 4, 12, 4, 12, 8, 6, 8]],
    "compressed": dict(size=[20, 30], counts=RUNS["counts"].decode()),
    "plain": dict(size=[20, 30], counts=[124, 4, 16, 4, 16, 4, 16, 4, 16, 4, 16, 4, 372]),
}


def write(root, stem, *annotations, name="a.png"):
    (root / "annotations").mkdir(exist_ok=True)
    content = dict(
        images=[dict(id=5, file_name=name, height=20, width=30)],
        annotations=[dict(image_id=5, **annotation) for annotation in annotations],
        categories=[dict(id=1, name="ship"), dict(id=2, name="plane")],
    )
    (root / "annotations" / f"{stem}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_every_kind_of_segmentation(tmp_path, kind):
    write(tmp_path, "instances_val", dict(category_id=1, segmentation=SEGMENTATIONS[kind]))
    truth = find_coco_truth(tmp_path / "val" / "a.png", CLASSES).gt_instances
    assert truth.labels.tolist() == [1]
    assert np.array_equal(truth.masks.masks[0], SQUARE)


def test_crowds_and_unknown_classes_are_left_out(tmp_path):
    square = SEGMENTATIONS["polygon"]
    write(
        tmp_path,
        "instances_val",
        dict(category_id=2, segmentation=square),
        dict(category_id=1, segmentation=square, iscrowd=1),
    )
    truth = find_coco_truth(tmp_path / "val" / "a.png", CLASSES).gt_instances
    assert len(truth.labels) == 0
    assert truth.masks.masks.shape == (0, 20, 30)


def test_truth_of_other_classes_alone_is_not_compared(tmp_path):
    write(tmp_path, "instances_val", dict(category_id=1, segmentation=SEGMENTATIONS["polygon"]))
    assert find_coco_truth(tmp_path / "val" / "a.png", Classes(("object",), ((255, 0, 0),))) is None


def test_the_file_of_the_split_is_asked(tmp_path):
    square = dict(category_id=1, segmentation=SEGMENTATIONS["polygon"])
    write(tmp_path, "instances_train")
    write(tmp_path, "instances_val", square)
    assert len(find_coco_truth(tmp_path / "val" / "a.png", CLASSES).gt_instances.labels) == 1
    assert find_coco_truth(tmp_path / "imgs" / "a.png", CLASSES) is None  # in both


def test_no_truth(tmp_path):
    assert InstanceSegmentation().find_truth([tmp_path / "val" / "a.png"], CLASSES) is None
    write(tmp_path, "instances_val", name="b.png")
    assert InstanceSegmentation().find_truth([tmp_path / "val" / "a.png"], CLASSES) is None


def test_json_of_another_kind_is_passed_over(tmp_path):
    write(tmp_path, "instances_val", dict(category_id=1, segmentation=SEGMENTATIONS["polygon"]))
    (tmp_path / "annotations" / "notes_val.json").write_text("[]")
    assert find_coco_truth(tmp_path / "val" / "a.png", CLASSES) is not None


def test_truth_is_drawn(tmp_path):
    write(tmp_path, "instances_val", dict(category_id=1, segmentation=SEGMENTATIONS["polygon"]))
    task = InstanceSegmentation()
    truth = task.find_truth([tmp_path / "val" / "a.png"], CLASSES)
    picture = task.draw_truth([np.full((20, 30, 3), 90, np.uint8)], truth, CLASSES)
    assert picture[6 * 32, 9 * 32, 1] > picture[6 * 32, 9 * 32, 0] + 50
