import json

import cv2
import numpy as np
import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.instance import CocoInstanceDataset

NAMES = ("ship", "tank")


@pytest.fixture
def content(tmp_path):
    (tmp_path / "imgs").mkdir()
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / "imgs" / name), np.zeros((20, 30, 3), np.uint8))
    square = [[2, 2, 8, 2, 8, 8, 2, 8]]
    annotation = dict(bbox=[2, 2, 6, 6], area=36, segmentation=square, iscrowd=0)
    return dict(
        images=[dict(id=i, file_name=n, width=30, height=20) for i, n in enumerate(("b.png", "a.png"))],
        annotations=[
            dict(annotation, id=1, image_id=0, category_id=7),
            dict(annotation, id=2, image_id=1, category_id=3),
        ],
        categories=[dict(id=7, name="ship"), dict(id=3, name="tank")],
    )


def build(root, content, classes=NAMES, img="imgs/"):
    if content is not None:
        (root / "ann.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoInstanceDataset(
        data_root=str(root),
        ann_file="ann.json",
        data_prefix=dict(img=img),
        metainfo=dict(classes=classes),
        pipeline=[],
    )


def test_reads_in_file_order_with_labels_of_the_classes(tmp_path, content):
    dataset = build(tmp_path, content)
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [info["img_path"].rsplit("/", 1)[-1] for info in infos] == ["b.png", "a.png"]
    assert [dataset.metainfo["classes"][info["instances"][0]["bbox_label"]] for info in infos] == list(NAMES)
    assert infos[0]["instances"][0]["mask"] == [[2, 2, 8, 2, 8, 8, 2, 8]]


def test_classes_may_be_some_of_the_file(tmp_path, content):
    dataset = build(tmp_path, content, classes=("tank",))
    assert [len(dataset.get_data_info(index)["instances"]) for index in range(2)] == [0, 1]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (None, "does not exist"),
        ('{"images": [', "is no json"),
        ("[]", "lacks images, annotations, categories"),
        (dict(images=[], annotations=[]), "lacks categories"),
    ],
)
def test_unreadable_annotations_are_named(tmp_path, broken, message):
    with pytest.raises(DataError, match=message) as caught:
        build(tmp_path, broken)
    assert "ann.json" in str(caught.value)


def test_unknown_class_names_the_nearest(tmp_path, content):
    with pytest.raises(DataError, match=r"class 'shp' is not .*did you mean 'ship'"):
        build(tmp_path, content, classes=("shp", "tank"))


def test_classes_in_another_order_are_refused(tmp_path, content):
    with pytest.raises(DataError, match="another order"):
        build(tmp_path, content, classes=("tank", "ship"))


def test_missing_images_are_counted_and_named(tmp_path, content):
    (tmp_path / "imgs" / "a.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images do not exist: .*a\.png"):
        build(tmp_path, content)
