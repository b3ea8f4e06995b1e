import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmseg.evaluation import IoUMetric

from rsfoundation.evaluation.confusion import SegmentationMetric

NAMES = ("road", "roof", "tree")


def samples(count=3, classes=3):
    random = np.random.default_rng(0)
    drawn = torch.from_numpy(random.integers(0, classes, (count, 2, 1, 12, 9)))
    drawn[:, 0, 0, 0] = 255
    return [dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=found)) for truth, found in drawn]


def evaluate(metric, given, names=NAMES):
    metric.dataset_meta = dict(classes=names)
    metric.process({}, given)
    return metric.evaluate(len(given))


def test_averages_equal_mmseg():
    MMLogger.get_instance("segmentation-metric-test")
    theirs = evaluate(IoUMetric(iou_metrics=["mIoU", "mFscore"]), samples())
    mine = evaluate(SegmentationMetric(), samples())
    for key, other in {"mIoU": "mIoU", "mF1": "mFscore", "OA": "aAcc"}.items():
        assert mine[key] == pytest.approx(theirs[other] / 100, abs=6e-5)  # mmseg rounds


def test_classes_are_reported_by_name_and_average_to_the_mean():
    found = evaluate(SegmentationMetric(), samples())
    assert np.mean([found[f"{name}/IoU"] for name in NAMES]) == pytest.approx(found["mIoU"])
    assert next(iter(found)) == "mIoU"


def test_absent_class_does_not_pull_the_mean_down():
    label = torch.zeros(1, 4, 4, dtype=torch.long)
    found = evaluate(SegmentationMetric(), [dict(gt_sem_seg=dict(data=label), pred_sem_seg=dict(data=label))])
    assert found["mIoU"] == 1.0 and np.isnan(found["roof/IoU"])
