"""The one report of every reader."""

import json
import logging
import pickle

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport, Example


def broken(number, file="a.txt"):
    return DataError(f"line has {number} fields", where=f"/data/{file}:{number}", fix="write 10 fields")


def filled():
    report = DatasetReport(images=4, objects=9)
    report.note("boxes without area", ["b.txt", "a.txt", "b.txt"])
    report.error("malformed label lines", broken(7), "/data/a.txt")
    report.error("malformed label lines", broken(8), "a.txt")
    report.warn("no object of 1 classes: ship")
    return report


def test_counts_files_and_examples_of_each_kind():
    report = filled()
    assert report.counts == {"boxes without area": 3, "malformed label lines": 2}
    assert report.files == {"boxes without area": ["b.txt", "a.txt"], "malformed label lines": ["a.txt"]}
    assert report.examples == {
        "malformed label lines": [
            Example("/data/a.txt:7", "line has 7 fields", "write 10 fields"),
            Example("/data/a.txt:8", "line has 8 fields", "write 10 fields"),
        ]
    }
    assert report.describe() == "3 boxes without area (b.txt, a.txt); 2 malformed label lines (a.txt)"


def test_nothing_is_counted_for_no_file():
    report = DatasetReport()
    report.note("boxes without area", [])
    assert not report and report.counts == {} and report.describe() == ""


def test_three_files_are_named_and_all_are_kept():
    report = DatasetReport()
    for name in "abcde":
        report.error("malformed label lines", broken(1, name), name)
    assert report.describe() == "5 malformed label lines (a, b, c and 2 more files)"
    assert report.files["malformed label lines"] == list("abcde")
    assert len(report.examples["malformed label lines"]) == 3


def test_skip_accepts_errors_and_fail_accepts_notes():
    filled().enforce("skip")
    report = DatasetReport()
    report.note("boxes without area", ["a.txt"])
    report.warn("odd")
    report.enforce("fail")


def test_fail_raises_one_error_as_it_was_found():
    report = DatasetReport()
    report.error("malformed label lines", broken(7), "a.txt")
    with pytest.raises(DataError) as raised:
        report.enforce("fail")
    assert raised.value.what == "line has 7 fields"
    assert raised.value.where == "/data/a.txt:7" and raised.value.fix == "write 10 fields"


def test_fail_raises_one_error_for_all_with_the_first_places_and_the_counts():
    report = filled()
    report.error("images without a label file", DataError("no label", where="/data/c.png"), "c.png")
    with pytest.raises(DataError) as raised:
        report.enforce("fail")
    assert raised.value.where == "/data/a.txt:7" and raised.value.fix == "write 10 fields"
    assert raised.value.what == (
        "line has 7 fields (the first of 3 problems: 2 malformed label lines (a.txt); "
        "1 images without a label file (c.png); next: /data/a.txt:8, /data/c.png)"
    )


def test_merging_adds_totals_cases_and_errors():
    report, other = filled(), filled()
    other.note("label files without an image", ["z.txt"])
    report.merge(other)
    assert (report.images, report.objects) == (8, 18)
    assert report.counts == {
        "boxes without area": 6,
        "malformed label lines": 4,
        "label files without an image": 1,
    }
    assert report.files["boxes without area"] == ["b.txt", "a.txt"]
    assert len(report.examples["malformed label lines"]) == 3
    assert report.warnings == ["no object of 1 classes: ship"]
    with pytest.raises(DataError, match="the first of 4 problems"):
        report.enforce("fail")


def test_json_holds_everything_and_replaces_an_older_file(tmp_path):
    path = tmp_path / "report" / "train.json"
    DatasetReport().write(path)
    filled().write(path)
    assert [file.name for file in path.parent.iterdir()] == ["train.json"]
    content = json.loads(path.read_text())
    assert content == filled().to_json()
    assert (content["images"], content["objects"]) == (4, 9)
    first, second = content["problems"]
    assert first == dict(kind="boxes without area", count=3, errors=0, files=["b.txt", "a.txt"], examples=[])
    assert second["errors"] == 2
    assert second["examples"][0] == dict(
        where="/data/a.txt:7", what="line has 7 fields", fix="write 10 fields"
    )


def test_label_maps_have_no_objects(caplog, monkeypatch):
    logger = logging.getLogger("report")
    monkeypatch.setattr("mmengine.logging.MMLogger.get_current_instance", lambda: logger)
    report = DatasetReport(images=2)
    report.merge(DatasetReport(images=3))
    with caplog.at_level("INFO"):
        report.log("masks")
    assert caplog.messages == ["masks: 5 images"] and report.objects is None
    report.merge(DatasetReport(images=1, objects=4))
    assert report.objects == 4


def test_json_reads_back_and_may_lack_parts():
    assert DatasetReport.from_json(filled().to_json()) == filled()
    assert DatasetReport.from_json({}) == DatasetReport()


def test_one_error_may_be_of_several_files():
    report = DatasetReport()
    report.error(
        "images without a label file", DataError("2 images", where="b"), "/data/b.png", "/data/c.png"
    )
    assert report.counts == {"images without a label file": 2}
    assert report.files == {"images without a label file": ["b.png", "c.png"]}
    with pytest.raises(DataError, match=r"^2 images\n"):
        report.enforce("fail")


def test_the_log_has_totals_counts_and_warnings(caplog, monkeypatch):
    logger = logging.getLogger("report")
    monkeypatch.setattr("mmengine.logging.MMLogger.get_current_instance", lambda: logger)
    with caplog.at_level("INFO"):
        filled().log("data/train")
    levels = [record.levelname for record in caplog.records]
    assert levels == ["INFO", "WARNING", "WARNING"]
    assert "data/train: 4 images, 9 objects" in caplog.text
    assert "3 boxes without area (b.txt, a.txt)" in caplog.text
    assert "no object of 1 classes: ship" in caplog.text


def test_a_report_leaves_a_worker():
    back = pickle.loads(pickle.dumps(filled()))
    assert back.to_json() == filled().to_json() and back == filled()
