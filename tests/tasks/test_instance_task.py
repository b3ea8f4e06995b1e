import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.core.task import Classes, RunRequest
from rsfoundation.geometry.masks import CroppedMask
from rsfoundation.inference.instances import InstanceMasks, write_json, write_png
from rsfoundation.registry import TASKS
from rsfoundation.tasks.instance import InstanceSegmentation

CLASSES = Classes(("ship", "tank"), ((255, 0, 0), (0, 255, 0)))
IMAGE = np.full((64, 80, 3), 90, np.uint8)


@pytest.fixture
def result():
    masks = (CroppedMask(10, 20, np.ones((6, 8), bool)), CroppedMask(14, 22, np.ones((10, 10), bool)))
    return InstanceMasks(64, 80, masks, np.array([0.9, 0.5]), np.array([1, 0]), CLASSES.names)


def sample():
    truth = np.zeros((1, 64, 80), np.uint8)
    truth[0, 10:30, 10:30] = 1
    found = torch.from_numpy(np.concatenate([truth, truth]).astype(bool))
    return DetDataSample(
        metainfo=dict(img_path="a.png"),
        gt_instances=InstanceData(masks=BitmapMasks(truth, 64, 80), labels=torch.tensor([0])),
        pred_instances=InstanceData(
            masks=found, labels=torch.tensor([0, 1]), scores=torch.tensor([0.8, 0.1])
        ),
    )


def test_json_has_coco_boxes_and_run_lengths(result, tmp_path):
    write_json(result, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["classes"] == ["ship", "tank"]
    first = content["objects"][0]
    assert (first["class"], first["label"], first["score"]) == ("tank", 1, 0.9)
    assert first["bbox"] == [10, 20, 8, 6]
    assert first["segmentation"]["size"] == [64, 80]
    assert coco_mask.toBbox(first["segmentation"]).tolist() == first["bbox"]


def test_png_numbers_objects_as_the_json_does_and_the_better_one_wins(result, tmp_path):
    write_png(result, tmp_path / "a.png")
    ids = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert ids.dtype == np.uint16
    assert np.unique(ids).tolist() == [0, 1, 2]
    assert ids[22, 14] == 1
    assert (ids == 1).sum() == 48
    assert (ids == 2).sum() == 100 - 4 * 4


def test_too_many_objects_for_a_map_are_refused(tmp_path):
    dot = CroppedMask(0, 0, np.ones((1, 1), bool))
    count = 65_536
    many = InstanceMasks(4, 4, (dot,) * count, np.ones(count), np.zeros(count, int), CLASSES.names)
    with pytest.raises(DataError, match="65536 objects do not fit"):
        write_png(many, tmp_path / "a.png")


def test_task_is_registered_and_complete():
    task = TASKS.build(dict(type="InstanceSegmentation"))
    assert task.metric_names["coco/segm_mAP_50"] == "segm_mAP50"
    assert task.metric_names["coco/bbox_mAP"] == "bbox_mAP"
    assert task.primary_metric in task.metric_names.values()
    assert set(task.writers) == {"json", "png"}
    assert task.image_paths(sample()) == ["a.png"]


def test_result_is_drawn_in_the_colours_of_its_classes(result):
    picture = InstanceSegmentation().draw_result([IMAGE], result, CLASSES)
    assert picture.shape[1] == 800  # enlarged tenfold, a legend below
    red, green = picture[290, 220], picture[245, 115]
    assert red[0] > red[1]
    assert green[1] > green[0]
    assert (picture[600, 700] == 90).all()


def test_masks_at_the_border_are_drawn(result):
    edge = CroppedMask(76, 60, np.ones((4, 4), bool))
    lone = InstanceMasks(64, 80, (edge,), np.array([1.0]), np.array([0]), CLASSES.names)
    picture = InstanceSegmentation().draw_result([IMAGE], lone, CLASSES)
    assert picture[635, 795][0] > 120


def test_truth_and_prediction_stand_side_by_side():
    task = InstanceSegmentation()
    truth = task.draw_truth([IMAGE], sample(), CLASSES)
    both = task.draw_comparison([IMAGE], sample(), CLASSES)
    assert both.shape[1] > 2 * truth.shape[1]
    inside = both[30 + 200, [200, 808 + 200]].astype(int)
    assert (inside[:, 0] > inside[:, 2] + 30).all()


def test_a_sample_without_truth_is_drawn():
    lone = sample()
    del lone.gt_instances
    assert InstanceSegmentation().draw_comparison([IMAGE], lone, CLASSES).ndim == 3


def config(tmp_path, **evaluator):
    dataset = dict(data_root=str(tmp_path), ann_file="annotations/val.json")
    return Config(
        dict(
            val_dataloader=dict(dataset=dataset),
            val_evaluator=dict(type="CocoMetric", metric="segm", **evaluator),
            test_dataloader=dict(dataset=dataset),
            test_evaluator=[dict(type="mmdet.CocoMetric"), dict(type="DumpResults")],
        )
    )


def test_evaluators_read_the_annotations_of_the_data_set(tmp_path):
    cfg, file = config(tmp_path), str(tmp_path / "annotations/val.json")
    InstanceSegmentation().prepare_config(cfg, RunRequest("train"))
    assert cfg.val_evaluator == dict(type="rsfoundation.CocoMetric", metric="segm", ann_file=file)
    assert cfg.test_evaluator[0] == dict(type="mmdet.CocoMetric")
    InstanceSegmentation().prepare_config(cfg, RunRequest("test"))
    assert cfg.test_evaluator == [
        dict(type="rsfoundation.CocoMetric", ann_file=file),
        dict(type="DumpResults"),
    ]


def test_the_same_file_by_another_path_is_accepted_and_another_one_is_not(tmp_path):
    cfg = config(tmp_path, ann_file=str(tmp_path / "x/../annotations/val.json"))
    InstanceSegmentation().prepare_config(cfg, RunRequest("train"))
    cfg = config(tmp_path, ann_file=str(tmp_path / "annotations/train.json"))
    with pytest.raises(
        ConfigError, match=r"annotations/train\.json, and the data set reads .*val\.json"
    ) as raised:
        InstanceSegmentation().prepare_config(cfg, RunRequest("train"))
    assert raised.value.where == "val_evaluator.ann_file and val_dataloader.dataset.ann_file"


def test_the_report_of_wrapped_data_sets_is_merged():
    def data(count):
        report = DatasetReport(images=count)
        report.note("boxes without area", ["a.txt"] * count)
        return SimpleNamespace(report=report)

    repeated = SimpleNamespace(dataset=data(2))
    report = InstanceSegmentation().dataset_report(SimpleNamespace(datasets=[data(1), repeated]))
    assert report.images == 3 and report.counts == {"boxes without area": 3}
