"""Cut into patches, take the labels of each as detections, merge, evaluate: every object comes back once."""

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from rsfoundation.core.task import Classes
from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.evaluation.oriented.metric import DOTAMetric
from rsfoundation.evaluation.submission.metric import DetectionSubmission
from rsfoundation.geometry.boxes import quad_to_rbox, rbox_to_quad, shift
from rsfoundation.geometry.tiling import TilingSettings
from rsfoundation.geometry.windows import Tile, place_objects, window_grid
from rsfoundation.io.dota import LabelledBox, write_dota_txt
from rsfoundation.ops import box_iou_rotated
from rsfoundation.prepare.tiling import LOST, tile_dota
from rsfoundation.tasks.detection import OrientedDetection

NAMES = ("ship", "plane", "harbor")
CUTS = {
    "ss": TilingSettings(window=256, gap=64),
    "ms": TilingSettings(window=256, gap=100, rates=(0.5, 1.0, 1.5)),
}
SIZES = ((600, 700), (300, 900), (150, 200))  # the last one is smaller than a window
LARGE = (300.0, 300, 560, 40, 0.2)  # at single scale no window holds 70 % of it


def apart(boxes):
    """Return those boxes that overlap no earlier one: NMS would rightly take them for one object."""
    kept = []
    for box in boxes:
        rows = torch.tensor(np.array([*kept, box]))
        if not (box_iou_rotated(rows[-1:], rows[:-1]) > 0).any():
            kept.append(box)
    return np.array(kept)


def draw_boxes(height, width, count, seed, first=()):
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(8, 60, (count, 2))
    boxes = np.column_stack(
        [rng.uniform(0, (width, height), (count, 2)), sizes, rng.uniform(-1.5, 1.5, count)]
    )
    inside = [
        box
        for box in boxes
        if (np.abs(rbox_to_quad([box])[0] - (width / 2, height / 2)) < (width / 2, height / 2)).all()
    ]
    return apart([*first, *inside])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Three labelled images; the first one has an object that is too large for some windows."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    (folder / "labelTxt").mkdir()
    for index, (height, width) in enumerate(SIZES):
        cv2.imwrite(str(folder / "images" / f"P{index}.png"), np.zeros((height, width, 3), np.uint8))
        boxes = draw_boxes(height, width, 150, index, [LARGE] if index == 0 else [])
        quads = rbox_to_quad(boxes).reshape(-1, 8).tolist()
        objects = [LabelledBox(tuple(quad), NAMES[i % 3]) for i, quad in enumerate(quads)]
        write_dota_txt(folder / "labelTxt" / f"P{index}.txt", objects)
    return folder


def samples(patches):
    """Return each patch's labels as its detections."""
    dataset = DOTADataset(
        data_root=str(patches), split="", test_mode=True, metainfo=dict(classes=NAMES), pipeline=[]
    )
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        quads = np.array([item["bbox"] for item in info["instances"]]).reshape(-1, 8)
        labels = torch.tensor([item["bbox_label"] for item in info["instances"]], dtype=torch.long)
        yield {
            "img_id": info["img_id"],
            "img_path": info["img_path"],
            "ori_shape": (256, 256),
            "pred_instances": {
                "bboxes": torch.from_numpy(quad_to_rbox(quads)).float(),
                "scores": torch.ones(len(labels)),
                "labels": labels,
            },
            "gt_instances": {"bboxes": torch.from_numpy(quads).float(), "labels": labels},
        }


def run(metric, patches):
    metric.dataset_meta = {"classes": NAMES}
    items = list(samples(patches))
    metric.process({}, items)
    return metric.evaluate(len(items))


def files_in(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }


@pytest.mark.parametrize("matching", ["mmrotate", "devkit"])
@pytest.mark.parametrize("preset", ["ss", "ms"])
@pytest.mark.parametrize("virtual", [False, True])
def test_every_object_that_a_window_holds_is_found_once(split, tmp_path, preset, matching, virtual):
    made = tile_dota([split], tmp_path / "patches", tiling=CUTS[preset], virtual=virtual)
    assert made.counts()[LOST] == (1 if preset == "ss" else 0)
    metric = DOTAMetric(rule="voc12", matching=matching, full_image_labels=str(split / "labelTxt"))
    figures = run(metric, tmp_path / "patches")
    curves = [row[0] for row in metric.evaluation.curves]
    assert sum(curve.objects for curve in curves) == made.report.objects > 100
    assert sum(curve.detections for curve in curves) == made.report.objects - made.counts()[LOST]
    found = [curve.detections / curve.objects for curve in curves]
    assert figures["detection/mAP50"] == pytest.approx(np.mean(found))
    assert figures["detection/mAP"] == pytest.approx(np.mean(found)), "at every threshold"
    assert metric.evaluation.images == len(SIZES)


@pytest.mark.parametrize("preset", ["ss", "ms"])
def test_labels_of_the_patches_joined_are_those_that_windows_hold(split, tmp_path, preset):
    made = tile_dota([split], tmp_path / "patches", tiling=CUTS[preset])
    metric = DOTAMetric(rule="voc12", full_images=True)
    figures = run(metric, tmp_path / "patches")
    assert figures["detection/mAP"] == pytest.approx(1.0)
    evaluated = sum(row[0].objects for row in metric.evaluation.curves)
    assert evaluated == made.report.objects - made.counts()[LOST]


def test_the_number_of_workers_changes_no_byte(split, tmp_path):
    for workers in (1, 4):
        patches = tmp_path / f"patches{workers}"
        tile_dota([split], patches, tiling=CUTS["ms"], workers=workers)
        run(DetectionSubmission(str(tmp_path / f"out{workers}"), images=str(split / "images")), patches)
    assert files_in(tmp_path / "patches1") == files_in(tmp_path / "patches4")
    assert files_in(tmp_path / "out1") == files_in(tmp_path / "out4")
    assert set(files_in(tmp_path / "out1")) == {"Task1.zip", "Task2.zip"}


def test_one_large_scene_by_the_windows_of_prediction():
    height, width = 1500, 2000
    boxes = draw_boxes(height, width, 900, 7)
    labels = np.arange(len(boxes)) % 3
    merger = OrientedDetection().accumulator(height, width, Classes(NAMES, ((0, 0, 0),) * 3), 0.1)
    windows = window_grid(height, width, 256, 64)
    tiles = [Tile(window.left, window.top, window.width) for window in windows]
    held = set()
    for window, placement in zip(
        windows, place_objects(rbox_to_quad(boxes).reshape(-1, 8), tiles), strict=True
    ):
        index = list(placement.index)
        held |= set(index)
        sample = DetDataSample()
        sample.pred_instances = InstanceData(
            bboxes=torch.from_numpy(shift(boxes[index], -window.left, -window.top)).float(),
            scores=torch.ones(len(index)),
            labels=torch.from_numpy(labels[index]),
        )
        merger.add(window, sample)
    result = merger.result()
    assert len(held) == len(boxes) == len(result.boxes)
    found = box_iou_rotated(torch.tensor(result.boxes), torch.tensor(boxes))
    found[torch.tensor(result.labels)[:, None] != torch.tensor(labels)[None]] = 0
    best = found.max(dim=0)
    assert best.values.min() > 0.999 and sorted(best.indices.tolist()) == list(range(len(boxes)))
