"""The files an evaluation leaves."""

import json

import cv2
import numpy as np
import pytest
from random_records import random_records

from rsfoundation.evaluation.oriented.evaluate import evaluate
from rsfoundation.evaluation.oriented.image_results import join_results
from rsfoundation.evaluation.oriented.metric import DOTAMetric
from rsfoundation.evaluation.oriented.report import content, write_report
from rsfoundation.tasks.detection import OrientedDetection

A = (20.0, 20, 10, 6, 0.4)


@pytest.fixture
def evaluation(make_record):
    records = random_records(make_record)
    for record in records:
        record.boxes[:25], record.labels[:25] = record.truth, record.truth_labels
    return evaluate(join_results(records), ("ship", "plane", "harbor", "bridge"))


def test_json_holds_every_figure(evaluation, tmp_path):
    files = write_report(evaluation, tmp_path / "evaluation")
    record = json.loads(files[0].read_text())
    assert record["metrics"]["mAP50"] == evaluation.metrics()["mAP50"]
    ship, *_, bridge = record["classes"]
    assert ship["ap_voc07"][0] == record["metrics"]["AP50/ship"] and ship["objects"] > 10
    assert bridge["ap_voc12"] == [None] * 10 and bridge["precision_recall50"]["recall"] == []
    curve = ship["precision_recall50"]
    assert curve["recall"] == sorted(curve["recall"]) and len(curve["recall"]) == len(curve["score"]) > 50
    assert curve["score"] == sorted(curve["score"], reverse=True)
    assert record["confusion"]["names"][-1] == "background"
    assert np.array(record["confusion"]["truth_by_row"]).shape == (5, 5)


def test_pictures_are_drawn(evaluation, tmp_path):
    files = write_report(evaluation, tmp_path)
    assert [file.name for file in files[1:]] == ["precision_recall.png", "classes.png", "confusion.png"]
    for file in files[1:]:
        picture = cv2.imread(str(file))
        assert min(picture.shape[:2]) > 200 and picture.std() > 10


def test_pictures_grow_with_the_classes(make_record, tmp_path):
    count = 60
    record = make_record("a", [A] * count, [0.9] * count, range(count), [A] * count, range(count))
    measured = evaluate(join_results([record]), tuple(f"class {number}" for number in range(count)))
    curves = cv2.imread(str(write_report(measured, tmp_path)[1]))
    legend = curves[:, int(curves.shape[1] * 0.8) :].min(axis=2).min(axis=1) < 100
    assert not legend[:5].any() and not legend[-5:].any()  # nothing runs over the edge


@pytest.mark.parametrize("found", [0, 1])
def test_nothing_to_measure(make_record, tmp_path, found):
    record = make_record("a", [A][:found], [0.9][:found], [0][:found])
    result = evaluate(join_results([record]), ("ship",))
    assert content(result)["metrics"]["mAP50"] is None
    assert len(write_report(result, tmp_path)) == 4


def test_objects_and_not_one_detection(make_record, tmp_path):
    record = make_record("a", [], [], [], [A], [0])
    measured = evaluate(join_results([record]), ("ship", "plane"))
    assert measured.metrics()["AP50/ship"] == 0
    assert all(file.is_file() for file in write_report(measured, tmp_path))


def test_the_task_writes_a_folder_for_each_metric(evaluation, tmp_path):
    metrics = [DOTAMetric(), DOTAMetric(), DOTAMetric()]
    metrics[0].evaluation = metrics[2].evaluation = evaluation
    files = OrientedDetection().write_reports([object(), *metrics], tmp_path)
    assert {file.parent.name for file in files} == {"evaluation", "evaluation_2"} and len(files) == 8
