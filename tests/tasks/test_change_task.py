import json

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from rsfoundation.core.task import Classes, Window
from rsfoundation.registry import TASKS
from rsfoundation.tasks.change import error_map

CLASSES = Classes(("unchanged", "changed"), ((0, 0, 0), (255, 255, 255)))


@pytest.fixture
def task():
    return TASKS.build(dict(type="ChangeDetection"))


def result(task, channels):
    probability = torch.full((1, 8, 12), 0.2)
    probability[:, :, 9:] = 0.9
    scores = probability if channels == 1 else torch.cat([1 - probability, probability]).log()
    accumulator = task.accumulator(8, 12, CLASSES, 0.3)
    accumulator.add(Window(0, 0, 12, 8), SegDataSample(seg_logits=PixelData(data=scores)))
    return accumulator.result()


@pytest.mark.parametrize("channels", [1, 2])
def test_heads_of_one_and_two_channels_give_one_map(task, channels):
    merged = result(task, channels)
    assert merged.labels[0].tolist() == [0] * 9 + [1] * 3
    assert merged.summary() == {"changed pixels": 24, "changed %": 25.0}


def test_primary_metric_is_reported(task):
    assert task.primary_metric in task.metric_names.values()


def test_writers(task, tmp_path):
    merged = result(task, 2)
    for suffix, write in task.writers.items():
        write(merged, tmp_path / f"pair.{suffix}")
    assert np.unique(np.asarray(Image.open(tmp_path / "pair.png"))).tolist() == [0, 255]
    summary = json.loads((tmp_path / "pair.json").read_text())
    assert summary == {"height": 8, "width": 12, "changed_pixels": 24, "changed_share": 0.25}


def test_windows_look_like_loaded_pairs(task):
    crops = [np.zeros((8, 12, 3), np.uint8), np.ones((8, 12, 3), np.uint8)]
    prepared = task.window_input(crops)
    assert task.images_per_scene == len(prepared["img"]) == len(prepared["img_path"]) == 2
    assert prepared["ori_shape"] == (8, 12)


def test_kinds_of_error():
    truth = np.array([0, 0, 1, 1, 255, 255], np.uint8)
    prediction = np.array([0, 1, 0, 1, 0, 1], np.uint8)
    assert error_map(truth, prediction).tolist() == [0, 2, 3, 1, 0, 0]


def test_pictures_have_three_and_four_panels(task):
    images = [np.full((640, 650, 3), value, np.uint8) for value in (60, 180)]
    label = torch.zeros(1, 640, 650, dtype=torch.long)
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=label),
        pred_sem_seg=PixelData(data=label),
        metainfo=dict(img_path=["a.png", "b.png"]),
    )
    accumulator = task.accumulator(640, 650, CLASSES, 0.3)
    for panels, picture in (
        (3, task.draw_result(images, accumulator.result(), CLASSES)),
        (4, task.draw_comparison(images, sample, CLASSES)),
        (4, task.draw_scene_comparison(images, sample, accumulator.result(), CLASSES)),
    ):
        assert panels * 650 <= picture.shape[1] < panels * 660
        assert picture[300, 100].tolist() == [60] * 3 and picture[300, 758].tolist() == [180] * 3
    assert task.image_paths(sample) == ["a.png", "b.png"]


def test_the_share_in_a_picture_counts_pixels_with_data_alone(task, monkeypatch):
    titles = []

    def panels(parts):
        titles.extend(title for title, _ in parts)
        return parts[-1][1]

    monkeypatch.setattr("rsfoundation.tasks.change.side_by_side", panels)
    labels = np.zeros((10, 10), np.uint8)
    labels[:, 5:], labels[0, :5] = 255, 1
    images = [np.zeros((10, 10, 3), np.uint8)] * 2
    task.draw_result(images, task.map_result(labels, CLASSES), CLASSES)
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(labels[None])))
    task.draw_truth(images, sample, CLASSES)
    share = task.map_result(labels, CLASSES).changed()[1]
    assert titles[2::3] == ["changed: 10.0%"] * 2 == [f"changed: {share:.1%}"] * 2


def test_truth_beside_a_pair_is_found(task, tmp_path):
    for folder in ("A", "B", "label"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / folder / "one.png")
    paths = [tmp_path / folder / "one.png" for folder in "AB"]
    sample = task.find_truth(paths, CLASSES)
    assert sample.gt_sem_seg.data.tolist() == [[[0, 0, 1, 1]]]
    images = [np.zeros((1, 4, 3), np.uint8)] * 2
    assert task.draw_truth(images, sample, CLASSES).dtype == np.uint8
    (tmp_path / "label" / "one.png").unlink()
    assert task.find_truth(paths, CLASSES) is None
    assert task.find_truth([tmp_path / "one.png", tmp_path / "two.png"], CLASSES) is None
