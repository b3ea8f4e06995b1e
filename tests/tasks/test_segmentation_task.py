import json

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from rsfoundation.core.task import Classes, Window
from rsfoundation.registry import TASKS

CLASSES = Classes(("ground", "roof", "tree"), ((90, 90, 90), (0, 0, 255), (0, 255, 0)))


@pytest.fixture
def task():
    return TASKS.build(dict(type="SemanticSegmentation"))


def result(task):
    logits = torch.zeros(3, 8, 12)
    logits[1, :, 6:] = 9.0
    accumulator = task.accumulator(8, 12, CLASSES, 0.3)
    accumulator.add(Window(0, 0, 12, 8), SegDataSample(seg_logits=PixelData(data=logits)))
    return accumulator.result()


def test_primary_metric_is_reported(task):
    assert task.primary_metric in task.metric_names.values()


def test_summary_says_shares_of_what_occurs(task):
    assert result(task).summary() == {"ground %": 50.0, "roof %": 50.0}


def test_writers(task, tmp_path):
    merged = result(task)
    for suffix, write in task.writers.items():
        write(merged, tmp_path / f"scene.{suffix}")
    assert np.asarray(Image.open(tmp_path / "scene.png"))[0].tolist() == [0] * 6 + [1] * 6
    summary = json.loads((tmp_path / "scene.json").read_text())
    assert summary["classes"]["roof"] == {"pixels": 48, "share": 0.5}
    assert summary["height"] == 8 and summary["classes"]["tree"]["pixels"] == 0


def test_windows_look_like_loaded_images(task):
    crop = np.zeros((8, 12, 3), np.uint8)
    prepared = task.window_input([crop])
    assert prepared["img"] is crop and prepared["ori_shape"] == (8, 12)


def test_result_picture_shows_class_colours_over_the_image(task):
    image = np.full((8, 12, 3), 200, np.uint8)
    picture = task.draw_result([image], result(task), CLASSES)
    middle = picture[picture.shape[0] // 3]
    left, right = middle[len(middle) // 4], middle[3 * len(middle) // 4]
    assert np.ptp(left) == 0
    assert right[2] > right[0] and right[2] > right[1]


def test_comparison_sets_three_panels_side_by_side(task):
    image = np.random.default_rng(0).integers(0, 255, (700, 640, 3), dtype=np.uint8)
    label = torch.zeros(1, 700, 640, dtype=torch.long)
    label[:, :100] = 255
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=label),
        pred_sem_seg=PixelData(data=torch.ones_like(label)),
        metainfo=dict(img_path="scene.tif"),
    )
    picture = task.draw_comparison([image], sample, CLASSES)
    assert picture.shape[1] > 3 * 640 and picture.dtype == np.uint8
    top = picture[60:80]
    np.testing.assert_array_equal(top[:, 300], top[:, 300 + 648])  # ignored truth stays untouched
    assert not np.array_equal(top[:, 300], top[:, 300 + 2 * 648])
    assert task.image_paths(sample) == ["scene.tif"]


def test_the_fourth_panel_shows_wrong_pixels_only(task):
    image = np.full((700, 640, 3), 100, np.uint8)
    label = torch.zeros(1, 700, 640, dtype=torch.long)
    label[:, :, :200] = 255
    found = label.clone()
    found[:, :, 400:] = 1
    sample = SegDataSample(gt_sem_seg=PixelData(data=label), pred_sem_seg=PixelData(data=found))
    row = task.draw_comparison([image], sample, CLASSES)[300, 3 * 648 :]
    assert row[100].tolist() == row[300].tolist() == [100] * 3, "ignored and right pixels stay as they are"
    assert row[500, 0] > 150 and row[500, 1] < 60 and row[500, 2] > 150


def test_reports_are_written_for_each_metric(task, tmp_path):
    from rsfoundation.evaluation.segmentation_metric import SegmentationMetric

    metrics = [SegmentationMetric(), object(), SegmentationMetric(clutter="keep", clutter_classes=("tree",))]
    for metric in metrics[::2]:
        metric.dataset_meta = dict(classes=CLASSES.names)
        maps = torch.arange(3).repeat(4)[None, None]
        metric.process({}, [dict(gt_sem_seg=dict(data=maps), pred_sem_seg=dict(data=maps % 2))])
        metric.evaluate(1)
    files = task.write_reports(metrics, tmp_path)
    assert {file.parent.name for file in files} == {"evaluation", "evaluation_2"} and len(files) == 4
    first, second = (json.loads(file.read_text()) for file in files if file.suffix == ".json")
    assert first["confusion_truth_by_row"] == [[4, 0, 0, 0], [0, 4, 0, 0], [4, 0, 0, 0]]
    assert first["metrics"]["mIoU"] == pytest.approx(0.5) and first["metrics"]["tree/Precision"] is None
    assert "clutter kept in the matrix" in second["protocol"]
    assert second["metrics"]["mIoU/clutter_kept"] == pytest.approx(0.75)
    assert all(file.stat().st_size > 100 for file in files)


def test_truth_beside_an_image_is_found_by_its_colours(task, tmp_path):
    mask = np.array([CLASSES.palette[2], CLASSES.palette[0], (1, 1, 1)], np.uint8)[None]
    for folder in ("img_dir", "label_dir"):
        (tmp_path / folder / "val").mkdir(parents=True)
        Image.fromarray(mask).save(tmp_path / folder / "val" / "scene.png")
    sample = task.find_truth([tmp_path / "img_dir" / "val" / "scene.png"], CLASSES)
    assert sample.gt_sem_seg.data.tolist() == [[[2, 0, 255]]]
    assert task.draw_truth([mask], sample, CLASSES).dtype == np.uint8
    (tmp_path / "label_dir" / "val" / "scene.png").unlink()
    assert task.find_truth([tmp_path / "img_dir" / "val" / "scene.png"], CLASSES) is None
    assert task.find_truth([tmp_path / "scene.png"], CLASSES) is None
