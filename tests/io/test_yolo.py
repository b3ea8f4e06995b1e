"""YOLO-OBB label files and the class names of their data files."""

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.io.dota import LabelledBox
from rsfoundation.io.yolo import read_yolo_classes, read_yolo_txt

ROW = "1 0.25 0.5 0.5 0.5 0.5 0.75 0.25 0.75"
NAMES = ("plane", "ship")


def test_fractions_become_pixels(tmp_path, write):
    path = write(tmp_path / "a.txt", f"{ROW}\n\n0 -0.01 0 0.5 0 0.5 1.02 -0.01 1.02\n")
    label = read_yolo_txt(path, (64, 48), NAMES)
    assert label.size == (64, 48)
    assert label.objects[0] == LabelledBox((16, 24, 32, 24, 32, 36, 16, 36), "ship", line=1)
    assert (label.objects[1].name, label.objects[1].line) == ("plane", 3)
    assert label.objects[1].quad == pytest.approx((-0.64, 0, 32, 0, 32, 48.96, -0.64, 48.96))
    assert read_yolo_txt(write(tmp_path / "b.txt", ""), (64, 48), NAMES).objects == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1 0.5 0.5 0.1 0.1", r"found 5 fields \(5 are an upright box of YOLO\)"),
        ("1 0.1 0.2", "found 3 fields"),
        (ROW.replace("1", "2", 1), "class 2 is no number below 2"),
        (ROW.replace("1", "ship", 1), "class ship is no number below 2"),
        (ROW.replace("0.25", "x", 1), "not a number"),
        (ROW.replace("0.25", "nan", 1), "not finite"),
        ("1 10 10 30 10 30 20 10 20", "are pixels, not fractions"),
    ],
)
def test_malformed_lines_stop_or_are_counted(tmp_path, write, row, message):
    path = write(tmp_path / "a.txt", f"{ROW}\n{row}\n")
    with pytest.raises(DataError, match=message) as caught:
        read_yolo_txt(path, (64, 48), NAMES)
    assert caught.value.where == f"{path}:2"
    report = DatasetReport()
    assert len(read_yolo_txt(path, (64, 48), NAMES, report).objects) == 1
    assert report.counts == {"malformed label lines": 1}


@pytest.mark.parametrize(
    "text", ["names: [plane, 2]", "names:\n  0: plane\n  1: 2\n", "\ufeffnames: ['plane', '2']"]
)
def test_class_names(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    assert read_yolo_classes(tmp_path / "data.yaml") == ("plane", "2")


@pytest.mark.parametrize("text", ["nc: 2", "names: []", "names: {1: plane}", "names: plane", "[", "- a"])
def test_data_files_without_names(tmp_path, write, text):
    with pytest.raises(DataError, match="no class names"):
        read_yolo_classes(write(tmp_path / "data.yaml", text))
