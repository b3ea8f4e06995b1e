"""COCO's metrics: every object counts, whatever its id, over the images that were tested."""

import coco_files as coco
import mmdet.evaluation
import numpy as np
import pytest
import torch

from rsfoundation.evaluation.coco import CocoMetric


def perfect(metric, images=(1, 2, 3)):
    """Return the metrics of predictions that are the annotations themselves."""
    metric.dataset_meta = dict(classes=coco.CLASSES)
    masks = np.zeros((3, coco.HEIGHT, coco.WIDTH), bool)
    for mask, (x, y, w, h) in zip(masks, coco.BOXES, strict=True):
        mask[y : y + h, x : x + w] = True
    boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in coco.BOXES], dtype=torch.float)
    found = dict(
        bboxes=boxes,
        scores=torch.full((3,), 0.9),
        labels=torch.tensor([0, 0, 1]),
        masks=torch.from_numpy(masks),
    )
    for image in images:
        sample = dict(img_id=image, ori_shape=(coco.HEIGHT, coco.WIDTH), pred_instances=found)
        metric.process({}, [sample])
    measured = metric.evaluate(len(images))
    return measured["coco/bbox_mAP"], measured["coco/segm_mAP"]


@pytest.mark.parametrize(
    "change", [None, coco.count_from_zero, coco.first(id=2), coco.add_root, coco.two_names]
)
def test_a_perfect_prediction_scores_1(tmp_path, change):
    record = coco.content()
    if change is not None:
        change(record)
    file = coco.write(tmp_path, record)
    assert perfect(CocoMetric(ann_file=str(file), metric=["bbox", "segm"])) == (1.0, 1.0)


def test_upstream_takes_annotation_0_for_no_match(tmp_path):
    """The fault that is repaired here; once this fails, the renumbering has become superfluous."""
    record = coco.content()
    coco.count_from_zero(record)
    file = coco.write(tmp_path, record)
    upstream = mmdet.evaluation.CocoMetric(ann_file=str(file), metric=["bbox", "segm"])
    assert max(perfect(upstream)) < 0.95


def test_images_that_were_not_tested_do_not_count(tmp_path):
    file = coco.write(tmp_path, coco.content())
    assert perfect(CocoMetric(ann_file=str(file), metric=["bbox", "segm"]), images=(1, 3)) == (1.0, 1.0)
