"""Files of evaluations of label maps."""

import json

import cv2
import numpy as np

from rsfoundation.evaluation.change_metric import SemanticChangeEvaluation
from rsfoundation.evaluation.label_map_report import write_label_map_report, write_label_map_reports
from rsfoundation.evaluation.pictures import draw_confusion_matrix
from rsfoundation.evaluation.segmentation_metric import LabelMapEvaluation, SegmentationMetric


def test_predictions_of_no_class_have_a_column_of_their_own(tmp_path):
    evaluation = LabelMapEvaluation(("a", "b"), np.array([[5, 1, 0], [0, 7, 3]]), "2 images", {"mIoU": 0.5})
    files = write_label_map_report(evaluation, tmp_path / "evaluation")
    assert [file.name for file in files] == ["evaluation.json", "confusion.png"]
    content = json.loads(files[0].read_text())
    assert content["confusion_truth_by_row"] == [[5, 1, 0], [0, 7, 3]] and content["protocol"] == "2 images"
    with_column = cv2.imread(str(files[1])).shape
    plain = LabelMapEvaluation(("a", "b"), np.array([[5, 1, 0], [0, 7, 0]]), "2 images", {})
    assert cv2.imread(str(write_label_map_report(plain, tmp_path)[1])).shape[1] < with_column[1]


def test_semantic_change_has_pictures_of_its_transitions(tmp_path):
    names, counts = ("unchanged", "water"), np.arange(8).reshape(2, 2, 2)
    dates = np.arange(12).reshape(2, 2, 3)
    evaluation = SemanticChangeEvaluation(names, dates.sum(axis=0), "", {}, dates, counts)
    files = write_label_map_report(evaluation, tmp_path)
    assert [file.name for file in files[2:]] == ["transitions_true.png", "transitions_predicted.png"]
    content = json.loads(files[0].read_text())
    assert content["transitions_before_by_row"] == {
        "true": counts[0].tolist(),
        "predicted": counts[1].tolist(),
    }
    assert content["confusion_of_dates"]["second"] == dates[1].tolist()


def test_metrics_without_an_evaluation_leave_no_file(tmp_path):
    assert write_label_map_reports([SegmentationMetric(), object()], tmp_path) == []


def test_large_counts_fit_their_cells(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    texts, text = [], Axes.text
    monkeypatch.setattr(
        Axes, "text", lambda self, x, y, s, **kwargs: texts.append(s) or text(self, x, y, s, **kwargs)
    )
    counts = np.array([[7, 9999], [123_456, 36_000_000]])
    draw_confusion_matrix(counts, ("a", "b"), tmp_path / "a.png", "", ("", ""))
    assert texts == ["7", "9999", "123k", "36M"]
