"""The files a scene result is written to."""

import json

import numpy as np
import pytest

from rsfoundation.inference.oriented import make_result, write_json, write_txt

NAMES = ("ship", "plane")


@pytest.fixture
def result():
    boxes = np.array([(50.0, 20, 4, 10, 0), (10, 20, 8, 4, 0)])
    return make_result(boxes, np.array([0.25, 0.75]), np.array([1, 0]), NAMES)


def test_best_first_and_le90(result):
    assert result.scores.tolist() == [0.75, 0.25]
    np.testing.assert_allclose(result.boxes[1], (50, 20, 10, 4, -np.pi / 2))


def test_txt_has_corners_class_and_score(result, tmp_path):
    write_txt(result, tmp_path / "a.txt")
    first, second = (tmp_path / "a.txt").read_text().splitlines()
    assert first == "6.00 18.00 14.00 18.00 14.00 22.00 6.00 22.00 ship 0.750000"
    assert second.split()[8:] == ["plane", "0.250000"]


def test_json_has_boxes_and_corners(result, tmp_path):
    write_json(result, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["classes"] == list(NAMES)
    assert content["objects"][0] == {
        "class": "ship",
        "label": 0,
        "score": 0.75,
        "rbox": [10, 20, 8, 4, 0],
        "quad": [[6, 18], [14, 18], [14, 22], [6, 22]],
    }


def test_empty_result_writes_empty_files(tmp_path):
    empty = make_result(np.zeros((0, 5)), np.zeros(0), np.zeros(0), NAMES)
    write_txt(empty, tmp_path / "a.txt")
    write_json(empty, tmp_path / "a.json")
    assert (tmp_path / "a.txt").read_text() == ""
    assert json.loads((tmp_path / "a.json").read_text())["objects"] == []
