"""COCO's evaluation against pycocotools, to the last bit."""

import contextlib
import copy
import io

import mmdet.evaluation
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rsfoundation.core.errors import ConfigError
from rsfoundation.evaluation.coco import CocoDetections, CocoMetric, evaluate_coco

SIDE = 128
CATEGORIES = (3, 1, 7)
LIMITS = (1, 10, 100)


def run_lengths(box, compressed=True):
    """Return an ellipse in a box as run lengths."""
    x, y, w, h = box
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1
    encoded = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    if compressed:
        return dict(encoded, counts=encoded["counts"].decode())
    flat = inside.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=1 - flat[-1]))
    counts = np.diff(edges, prepend=0).tolist()
    return dict(size=[SIDE, SIDE], counts=counts)


def scene(images=12, objects=6, found=20, crowds=0.15, ties=True, seed=0):
    """Return COCO annotations and detections; some images have none of either."""
    random = np.random.default_rng(seed)
    listed = [dict(id=5 * n + 2, file_name=f"{n}.png", width=SIDE, height=SIDE) for n in range(images)][::-1]
    annotations, detections = [], []
    for place, image in enumerate(listed):
        for number in range(0 if place % 5 == 4 else objects):
            w, h = random.uniform(3, 110, 2)
            x, y = random.uniform(0, SIDE - w), random.uniform(0, SIDE - h)
            crowd = int(random.random() < crowds)
            shape = run_lengths((x, y, w, h), compressed=number % 2 == 0)
            if not crowd and number % 3 == 0:
                shape = [[x, y, x + w, y, x + w / 2, y + h], [x, y + h / 2, x + w, y + h / 2, x, y + h]]
            area = float(random.choice([w * h, 32**2, 96**2, 500.0]))  # bounds of the ranges are among them
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image["id"],
                    category_id=int(random.choice(CATEGORIES[:2])),
                    bbox=[x, y, w, h],
                    area=area,
                    iscrowd=crowd,
                    segmentation=shape,
                )
            )
        mine = [item for item in annotations if item["image_id"] == image["id"]]
        for _ in range(0 if place % 4 == 3 else found):
            if mine and random.random() < 0.8:
                near = mine[random.integers(len(mine))]
                x, y, w, h = np.array(near["bbox"]) * random.normal(1, 0.08, 4) + random.normal(0, 1, 4)
                category = near["category_id"]
            else:
                (x, y), (w, h) = random.uniform(0, 60, 2), random.uniform(2, 60, 2)
                category = int(random.choice(CATEGORIES))
            score = random.random()
            box = [x, y, max(w, 2.0), max(h, 2.0)]
            detections.append(
                dict(
                    image_id=image["id"],
                    category_id=category,
                    bbox=box,
                    score=round(score, 1) if ties else score,
                    segmentation=run_lengths(box),
                )
            )
    categories = [dict(id=number, name=f"class {number}") for number in CATEGORIES]
    return dict(images=listed, annotations=annotations, categories=categories), detections


def pycocotools(truth, detections, kind, limits=LIMITS, use_categories=True):
    drop = "bbox" if kind == "segm" else "segmentation"
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = copy.deepcopy(truth)
        known.createIndex()
        rows = [
            {key: value for key, value in row.items() if key != drop} for row in copy.deepcopy(detections)
        ]
        evaluator = COCOeval(known, known.loadRes(rows) if rows else COCO(), kind)
        evaluator.params.imgIds = [image["id"] for image in truth["images"]]
        evaluator.params.catIds = list(CATEGORIES)
        evaluator.params.maxDets = list(limits)
        evaluator.params.useCats = int(use_categories)
        evaluator.evaluate()
        evaluator.accumulate()
        if len(limits) == 3:
            evaluator.summarize()
    return evaluator


def ours(truth, detections, kind, limits=LIMITS, use_categories=True, categories=(1, 3, 7)):
    columns = {
        name: [row[name] for row in detections] for name in ("image_id", "category_id", "score", "bbox")
    }
    table = CocoDetections(
        columns["image_id"],
        columns["category_id"],
        np.array(columns["score"], float),
        np.array(columns["bbox"], float).reshape(-1, 4),
        [row["segmentation"] for row in detections],
    )
    images = [image["id"] for image in truth["images"]]
    return evaluate_coco(truth, table, kind, categories, images, limits=limits, use_categories=use_categories)


def assert_identical(theirs, scores):
    np.testing.assert_array_equal(scores.precision, theirs.eval["precision"])
    np.testing.assert_array_equal(scores.recall, theirs.eval["recall"])
    if len(theirs.stats):
        stats = [
            scores.average_precision(),
            scores.average_precision(iou=0.5),
            scores.average_precision(iou=0.75),
            *(scores.average_precision(area=area) for area in ("small", "medium", "large")),
            *(scores.average_recall(limit=limit) for limit in scores.limits),
            *(scores.average_recall(area=area) for area in ("small", "medium", "large")),
        ]
        np.testing.assert_array_equal(stats, theirs.stats)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(ties=False),
        dict(crowds=1.0),
        dict(crowds=0.0, objects=1),
        dict(objects=0),
        dict(found=0),
        dict(images=2, objects=40, found=140),
        dict(images=1),
    ],
    ids=str,
)
def test_equals_pycocotools(kind, options):
    truth, detections = scene(**options)
    if not detections:
        detections = [dict(detection, score=0.0) for detection in scene(images=1)[1][:1]]
    theirs = pycocotools(truth, detections, kind)
    assert_identical(theirs, ours(truth, detections, kind))
    if not options:
        assert 0.1 < theirs.stats[0] < 0.9 and len({row["score"] for row in detections}) < 12


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools_at_random(kind, seed):
    truth, detections = scene(images=5, objects=8, found=30, seed=seed)
    assert_identical(pycocotools(truth, detections, kind), ours(truth, detections, kind))


def test_equal_scores_in_many_images_keep_the_order_of_pycocotools():
    truth, detections = scene(images=30, found=25)
    detections = [dict(row, score=0.5) for row in detections]
    assert len(detections) > 16 * 20
    assert_identical(pycocotools(truth, detections, "bbox"), ours(truth, detections, "bbox"))


def test_limits_of_detections_and_proposals():
    truth, detections = scene(images=3, found=140)
    for limits in ((100, 300, 1000), (1000, 100, 300), (7,)):
        assert_identical(
            pycocotools(truth, detections, "bbox", limits), ours(truth, detections, "bbox", limits)
        )
    assert_identical(
        pycocotools(truth, detections, "bbox", use_categories=False),
        ours(truth, detections, "bbox", use_categories=False, categories=CATEGORIES),
    )


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ids_of_any_kind_and_annotation_0(kind):
    truth, detections = scene()
    expected = ours(truth, detections, kind)
    for number, item in enumerate(truth["annotations"]):
        item["id"] = number
        item["image_id"] = f"image {item['image_id']:03}"
    for image in truth["images"]:
        image["id"] = f"image {image['id']:03}"
    named = [dict(row, image_id=f"image {row['image_id']:03}") for row in detections]
    found = ours(truth, named, kind)
    np.testing.assert_array_equal(found.precision, expected.precision)


def test_categories_come_in_the_order_asked_for():
    truth, detections = scene()
    expected, found = ours(truth, detections, "bbox"), ours(truth, detections, "bbox", categories=(7, 3, 1))
    np.testing.assert_array_equal(found.precision, expected.precision[:, :, [2, 1, 0]])
    assert found.average_precision(category=0) == -1.0, "there is no object of category 7"
    assert found.average_precision(category=1) == expected.average_precision(category=1) > 0


def metrics_of(metric, truth, detections):
    """Return the metrics of detections as a model hands them over."""
    names = [category["name"] for category in truth["categories"]]
    metric.dataset_meta = dict(classes=names)
    for image in truth["images"]:
        rows = [row for row in detections if row["image_id"] == image["id"]]
        corners = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        found = dict(
            bboxes=torch.from_numpy(corners),
            scores=torch.tensor([row["score"] for row in rows], dtype=torch.float32),
            labels=torch.tensor([CATEGORIES.index(row["category_id"]) for row in rows], dtype=torch.long),
            masks=[copy.deepcopy(row["segmentation"]) for row in rows],
        )
        metric.process({}, [dict(img_id=image["id"], ori_shape=(SIDE, SIDE), pred_instances=found)])
    return metric.evaluate(len(truth["images"]))


@pytest.fixture
def labels(tmp_path):
    """Return a COCO file whose categories are sorted by id, as upstream's table of classes needs them."""
    import json

    truth, detections = scene()
    truth["categories"].sort(key=lambda category: category["id"])
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(truth))
    return file, truth, detections


@pytest.mark.parametrize("options", [dict(), dict(classwise=True), dict(proposal_nums=(1, 10, 100))], ids=str)
def test_metrics_are_those_of_mmdet(labels, options, monkeypatch):
    file, truth, detections = labels
    monkeypatch.setattr("test_coco_evaluation.CATEGORIES", tuple(sorted(CATEGORIES)))
    options = dict(options, ann_file=str(file), metric=["bbox", "segm", "proposal"])
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = metrics_of(mmdet.evaluation.CocoMetric(**options), truth, detections)
    mine = metrics_of(CocoMetric(**options), truth, detections)
    assert mine.keys() == theirs.keys() and "coco/segm_mAP_50" in mine
    for name, value in theirs.items():
        assert mine[name] == value or np.isnan([mine[name], value]).all(), name
    assert 0 < mine["coco/bbox_mAP"] < mine["coco/bbox_mAP_50"] < 1


def test_files_for_a_server_are_written_and_nothing_is_measured(labels, tmp_path):
    file, truth, detections = labels
    metric = CocoMetric(
        ann_file=str(file), metric="segm", format_only=True, outfile_prefix=str(tmp_path / "found")
    )
    assert metrics_of(metric, truth, detections) == {}
    assert {path.name for path in tmp_path.glob("found.*")} == {"found.bbox.json", "found.segm.json"}


def test_nothing_found_is_zero_and_not_no_metric(labels):
    file, truth, _ = labels
    found = metrics_of(CocoMetric(ann_file=str(file), metric=["bbox", "segm"]), truth, [])
    assert found["coco/bbox_mAP"] == found["coco/segm_mAP_50"] == 0.0


def test_what_does_not_fit_is_an_error(labels):
    file = labels[0]
    with pytest.raises(ConfigError, match="no metric_items 'mAP50'"):
        CocoMetric(metric_items=["mAP50"])
    metric = CocoMetric(ann_file=str(file))
    metric.dataset_meta = dict(classes=("class 1", "boat"))
    sample = dict(bboxes=torch.zeros(1, 4), scores=torch.ones(1), labels=torch.tensor([2]))
    metric.process({}, [dict(img_id=2, ori_shape=(SIDE, SIDE), pred_instances=sample)])
    with pytest.raises(ConfigError, match="no categories of the annotations: boat"):
        metric.evaluate(1)
    metric.results.clear()
    metric.dataset_meta = dict(classes=("class 1", "class 3"))
    metric.process({}, [dict(img_id=2, ori_shape=(SIDE, SIDE), pred_instances=sample)])
    with pytest.raises(ConfigError, match="class number 3, and the data set has 2"):
        metric.evaluate(1)
    segm = CocoMetric(ann_file=str(file), metric="segm")
    segm.dataset_meta = metric.dataset_meta
    segm.process({}, [dict(img_id=2, ori_shape=(SIDE, SIDE), pred_instances=sample)])
    with pytest.raises(ConfigError, match="no masks"):
        segm.evaluate(1)
