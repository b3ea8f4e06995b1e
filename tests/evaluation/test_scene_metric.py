"""Metrics of scene recognition against direct definitions."""

import json
import math

import numpy as np
import pytest
import torch

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.classification import (
    SceneMetric,
    average_precision,
    evaluate_multi,
    write_scene_reports,
)

NAMES = tuple("abcdefg")


def run(scores, labels, **options):
    metric = SceneMetric(**options)
    metric.dataset_meta = dict(classes=NAMES[: scores.shape[1]])
    batch = [
        dict(pred_score=torch.tensor(score), gt_label=torch.tensor(label, dtype=torch.long).reshape(-1))
        for score, label in zip(scores, labels, strict=True)
    ]
    metric.process(None, batch[:3])
    metric.process(None, batch[3:])
    return metric, metric.evaluate(len(batch))


def test_mmengine_has_nothing_to_warn_of():
    """It warns of metrics whose prefix is ``None``."""
    assert SceneMetric().prefix == ""


def test_top_1_and_top_5_classes_and_confusion():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((200, 7)).astype(np.float32), rng.integers(0, 7, 200)
    scores[np.arange(200), labels] += 0.4
    metric, found = run(scores, labels)
    order = np.argsort(-scores, axis=1)
    assert found["top1"] == pytest.approx((order[:, 0] == labels).mean())
    assert found["top5"] == pytest.approx((order[:, :5] == labels[:, None]).any(1).mean())
    recalls = [(order[labels == label, 0] == label).mean() for label in range(7)]
    assert found["class_mean_accuracy"] == pytest.approx(np.mean(recalls))
    assert found["accuracy/c"] == pytest.approx(recalls[2])
    matrix = metric.evaluation.matrix
    assert matrix.sum() == 200 and matrix[2, 3] == ((labels == 2) & (order[:, 0] == 3)).sum()


def test_a_model_that_says_the_same_of_all_classes_has_no_hits():
    _, found = run(np.ones((14, 7), np.float32), np.arange(14) % 7)
    assert found["top1"] == 0 and found["top5"] == 0


def test_few_classes_have_no_top_5():
    _, found = run(np.eye(3, dtype=np.float32), np.arange(3))
    assert found["top1"] == 1 and "top5" not in found


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_the_sum_over_thresholds(ties):
    rng = np.random.default_rng(1)
    for _ in range(50):
        count = int(rng.integers(1, 40))
        scores = rng.integers(0, 4, count) / 4 if ties else rng.random(count)
        truth = rng.random(count) < 0.4
        if not truth.any():
            assert math.isnan(average_precision(scores, truth))
            continue
        expected, before = 0.0, 0.0
        for limit in sorted(set(scores), reverse=True):
            chosen = scores >= limit
            recall = (truth & chosen).sum() / truth.sum()
            expected += (recall - before) * (truth & chosen).sum() / chosen.sum()
            before = recall
        assert average_precision(scores, truth) == pytest.approx(expected)


def test_several_labels():
    rng = np.random.default_rng(2)
    scores, truth = rng.random((60, 4)).astype(np.float32), rng.random((60, 4)) < 0.3
    truth[:, 3] = False
    labels = [np.flatnonzero(row) for row in truth]
    metric, found = run(scores, labels, multi_label=True)
    single = [average_precision(scores[:, label], truth[:, label]) for label in range(3)]
    assert found["mAP"] == pytest.approx(np.mean(single)) and math.isnan(found["ap/d"])
    assert found["micro_mAP"] == pytest.approx(average_precision(scores.ravel(), truth.ravel()))
    hits = ((scores >= 0.5) & truth).sum()
    assert found["micro_f1"] == pytest.approx(2 * hits / ((scores >= 0.5).sum() + truth.sum()))
    direct = evaluate_multi(scores, truth, NAMES[:4])
    assert dict(direct.metrics) == {key: found[key] for key in direct.metrics}
    assert [one["images"] for one in metric.evaluation.per_class] == truth.sum(0).tolist()


def test_images_without_a_single_label_are_refused():
    with pytest.raises(DataError, match="2 labels"):
        run(np.ones((4, 3), np.float32), [[0, 1], [0], [1], [2]])


def test_reports_hold_every_class(tmp_path):
    metric, _ = run(np.eye(7, dtype=np.float32), np.arange(7))
    files = write_scene_reports([metric, object()], tmp_path)
    assert [file.name for file in files] == ["evaluation.json", "confusion.png"]
    content = json.loads(files[0].read_text())
    assert set(content["classes"]) == set(NAMES) and content["metrics"]["top1"] == 1
    assert np.array_equal(content["confusion_truth_by_row"], np.eye(7))
