"""Metrics of a data set against mmrotate's own evaluation and values worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from random_records import random_records

from rsfoundation.evaluation.oriented.evaluate import confusion_matrix, evaluate
from rsfoundation.evaluation.oriented.image_results import join_results

A, B, C = (20.0, 20, 10, 6, 0.4), (60.0, 40, 12, 8, -0.3), (80.0, 80, 10, 10, 0)


class InProcess:
    """Replaces the pool that mmrotate's evaluation always starts."""

    def __init__(self, *_):
        pass

    def Pool(self, _):
        return self

    def starmap(self, work, jobs):
        return [work(*job) for job in jobs]

    def close(self):
        pass


@pytest.mark.parametrize("rule", ["voc07", "voc12"])
def test_equals_mmrotate(make_record, monkeypatch, rule):
    from mmrotate.evaluation.functional import mean_ap

    monkeypatch.setattr(mean_ap, "get_context", InProcess)
    records = random_records(make_record, images=12, found=80, objects=30)
    rng = np.random.default_rng(1)
    for record in records:  # let most objects be found
        record.boxes[:30] = record.truth + rng.normal(0, 1, (30, 5)) * (1.5, 1.5, 1.5, 1.5, 0.03)
        record.labels[:30] = record.truth_labels
        record.ignored[:5] = True
    found = [[np.column_stack([r.boxes, r.scores])[r.labels == label] for label in range(3)] for r in records]
    truth = [
        dict(
            bboxes=r.truth[~r.ignored],
            labels=r.truth_labels[~r.ignored],
            bboxes_ignore=r.truth[r.ignored],
            labels_ignore=r.truth_labels[r.ignored],
        )
        for r in records
    ]
    ours = evaluate(join_results(records), ("a", "b", "c"), rule)
    for k in (0, 5):
        mean, rows = mean_ap.eval_rbbox_map(
            found, truth, iou_thr=0.5 + 0.05 * k, use_07_metric=rule == "voc07", logger="silent"
        )
        np.testing.assert_allclose(ours.aps()[:, k], [row["ap"] for row in rows], atol=1e-6)
        assert ours.mean(ours.aps()[:, k]) == pytest.approx(mean, abs=1e-6)
        assert 0.1 < mean < 0.95


def test_devkit_asks_for_more_than_the_threshold_and_averages_all_classes(make_record):
    # 10 x 6 upright box moved so that exactly half of the union is common
    moved = make_record("a", [(20 + 10 / 3, 20, 10, 6, 0)], [0.9], [0], [(20, 20, 10, 6, 0)], [0])
    names = ("a", "b")
    near = make_record("a", [A], [0.9], [0], [A], [0])
    assert evaluate(join_results([near]), names).metrics()["mAP50"] == pytest.approx(1.0)
    assert evaluate(join_results([near]), names, matching="devkit").metrics()["mAP50"] == pytest.approx(0.5)
    exact = replace(
        moved,
        boxes=np.array([(30, 20, 20, 6, 0)], np.float32),
        truth=np.array([(25, 20, 10, 6, 0)], np.float32),
    )
    assert evaluate(join_results([exact]), names).metrics()["AP50/a"] == pytest.approx(1.0)
    assert evaluate(join_results([exact]), names, matching="devkit").metrics()["AP50/a"] == 0.0


def test_confusion_by_hand(make_record):
    record = make_record(
        "a",
        found=[A, A, B, (40, 80, 6, 6, 0), C, C],
        scores=[0.9, 0.8, 0.7, 0.6, 0.9, 0.29],
        labels=[0, 1, 0, 1, 1, 1],
        truth=[A, B, C, (90, 10, 6, 6, 0)],
        truth_labels=[0, 1, 1, 0],
        ignored=[False, False, True, False],
    )
    matrix = confusion_matrix(join_results([record]), 2, "mmrotate")
    # A found as 0, and again as 1; B taken for 0; a 1 where nothing is; C is ignored; the last 0 is missed
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 0], [0, 2, 0]]
    assert evaluate(join_results([record]), ("a", "b")).confusion.tolist() == matrix.tolist()


def test_no_image_at_all():
    result = evaluate(join_results([]), ("a",))
    assert np.isnan(result.metrics()["mAP50"]) and result.confusion.sum() == 0


def test_equal_scores_are_ranked_by_image_and_row(make_record):
    """Far above 16, from where on sorts of torch and numpy may exchange equal elements."""
    grid = [(20 * column + 10, 20 * row + 10, 10, 8, 0) for row in range(10) for column in range(10)]
    truth = dict(truth=grid[:50], truth_labels=[0] * 50)
    right_first = make_record("a", grid, [0.5] * 100, [0] * 100, **truth)
    wrong_first = make_record("a", grid[::-1], [0.5] * 100, [0] * 100, **truth)
    assert evaluate(join_results([right_first]), ("a",)).metrics()["mAP50"] == pytest.approx(1.0)
    # one in 51, two in 52, ...: precision is best at the end, a half
    assert evaluate(join_results([wrong_first]), ("a",)).metrics()["mAP50"] == pytest.approx(0.5)
    empty = make_record("b", grid, [0.5] * 100, [0] * 100)
    for results, precision in (([right_first, empty], 1.0), ([empty, right_first], 50 / 150)):
        assert evaluate(join_results(results), ("a",)).metrics()["mAP50"] == pytest.approx(precision)
