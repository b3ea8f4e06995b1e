"""From tested samples to checked archives."""

import zipfile
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.classes import DOTA_V1, FAIR1M_CLASSES
from rsfoundation.evaluation.submission.check import list_images
from rsfoundation.evaluation.submission.metric import DetectionSubmission, check_split


def sample(name, path=None, boxes=((20, 20, 10, 6, 0.2),), size=(64, 64)):
    count = len(boxes)
    return {
        "img_id": name,
        "img_path": path or f"{name}.png",
        "ori_shape": size,
        "pred_instances": {
            "bboxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5),
            "scores": torch.linspace(0.9, 0.1, count),
            "labels": torch.zeros(count, dtype=torch.long),
        },
    }


def submit(out, samples, classes=DOTA_V1, **kwargs):
    metric = DetectionSubmission(str(out), **kwargs)
    metric.dataset_meta = {"classes": classes}
    metric.process({}, samples)
    return metric, metric.evaluate(len(samples))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, width in (("P0001", 300), ("P0002", 90)):
        cv2.imwrite(str(folder / f"{name}.tif"), np.zeros((200, width, 3), np.uint8))
    return folder


def test_patches_become_dota_archives(tmp_path, images):
    twice = [sample("P0001__64__0___0"), sample("P0001__64__0___10", boxes=[(20, 10, 10, 6, 0.2)])]
    metric, counts = submit(tmp_path / "out", [*twice, sample("P0002", boxes=[])], images=str(images))
    assert counts == {"submission/images": 2, "submission/detections": 1}
    assert [one.kind for one in metric.submissions] == ["DOTA Task1", "DOTA Task2"]
    line = zipfile.ZipFile(tmp_path / "out/Task1.zip").read("Task1_plane.txt").decode().split()
    assert line[0] == "P0001" and len(line) == 10


def test_fair1m_is_told_by_its_classes_and_sizes_come_from_the_images(tmp_path, images):
    samples = [sample("P0001__64__0___0"), sample("P0002", size=(200, 90))]
    submit(tmp_path / "out", samples, FAIR1M_CLASSES, images=str(images))
    archive = zipfile.ZipFile(tmp_path / "out/test.zip")
    roots = [ElementTree.fromstring(archive.read(name)) for name in archive.namelist()]
    assert [root.findtext("source/filename") for root in roots] == ["P0001.tif", "P0002.tif"]
    assert [root.findtext("size/width") for root in roots] == ["300", "90"]
    assert {root.findtext("size/height") for root in roots} == {"200"}


def test_images_cut_when_they_are_loaded_tell_their_own_size(tmp_path, images):
    submit(tmp_path / "out", [sample("P0001__64__0___0", str(images / "P0001.tif"))], FAIR1M_CLASSES)
    root = ElementTree.fromstring(zipfile.ZipFile(tmp_path / "out/test.zip").read("test/P0001.xml"))
    assert root.findtext("size/width") == "300" and root.findtext("source/filename") == "P0001.tif"


def test_an_unknown_size_is_asked_for(tmp_path):
    with pytest.raises(DataError, match="size") as caught:
        submit(tmp_path, [sample("7__64__0___0")], FAIR1M_CLASSES)
    assert "--images" in caught.value.fix


def test_every_test_image_must_have_been_tested_and_no_other(tmp_path, images):
    with pytest.raises(DataError, match="1 of 2 test images were not tested, first: P0002"):
        submit(tmp_path / "out", [sample("P0001__64__0___0")], images=str(images))
    three = [sample("P0001__64__0___0"), sample("P0002__64__0___0"), sample("P0009")]
    with pytest.raises(DataError, match="unknown image 'P0009'"):
        submit(tmp_path / "out", three, images=str(images))


def test_a_folder_without_images(tmp_path):
    with pytest.raises(DataError, match="no image"):
        list_images(tmp_path)


def check(tmp_path, files, classes=DOTA_V1, **kwargs):
    metric = DetectionSubmission(str(tmp_path / "out"), **kwargs)
    metric.dataset_meta = {"classes": classes}
    check_split(metric, files, "ms/test")


def test_a_wrong_split_is_told_before_the_test(tmp_path, images):
    patches = {f"{name}__64__0___0": f"{name}__64__0___0.png" for name in ("P0001", "P0002")}
    check(tmp_path, patches, images=str(images))
    check(tmp_path, {**patches, "P0001": "P0001.tif"}, images=str(images))
    with pytest.raises(
        DataError, match="1 of 2 test images are not in the split that is tested, first: P0002"
    ):
        check(tmp_path, {"P0001__64__0___0": "x.png"}, images=str(images))
    with pytest.raises(DataError, match="1 images of the split are no test images, first: P7") as caught:
        check(tmp_path, {**patches, "P7__64__0___0": "x.png"}, images=str(images))
    assert "ms/test" in caught.value.where and "submission.split" in caught.value.fix


def test_sizes_that_will_be_missing_are_told_before_the_test(tmp_path):
    with pytest.raises(DataError, match="size of image 'P1' is not known"):
        check(tmp_path, {"P1__64__0___0": "P1__64__0___0.png"}, FAIR1M_CLASSES)
    check(tmp_path, {"P1__64__0___0": "P1.tif"}, FAIR1M_CLASSES)  # virtual: cut when it is loaded
    check(tmp_path, {"P1__64__0___0": "P1__64__0___0.png"})  # DOTA's archives hold no sizes


def test_a_folder_that_cannot_be_made_is_told_before_the_test(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(FileExistsError):
        DetectionSubmission(str(tmp_path / "out"))


def test_equal_scores_keep_the_order_of_the_model(tmp_path):
    boxes = [(20 * place + 10, 10, 10, 6, 0) for place in range(60)]
    order = np.random.default_rng(0).permutation(60)
    tied = sample("P0001", boxes=[boxes[place] for place in order])
    tied["pred_instances"]["scores"] = torch.full((60,), 0.5)
    submit(tmp_path, [tied])
    lines = zipfile.ZipFile(tmp_path / "Task1.zip").read("Task1_plane.txt").decode().splitlines()
    assert [float(line.split()[2]) for line in lines] == [20 * place + 5 for place in order]
