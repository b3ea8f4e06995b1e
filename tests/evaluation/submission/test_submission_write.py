"""What is in the archives, by reading them back."""

import xml.etree.ElementTree as ElementTree
import zipfile

import numpy as np
import pytest
from full_images import record

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.classes import DOTA_V1
from rsfoundation.evaluation.submission.check import check_submission
from rsfoundation.evaluation.submission.dota_results import score_texts, write_dota
from rsfoundation.evaluation.submission.fair1m_results import write_fair1m


def test_dota_archives(tmp_path, images):
    written = write_dota(tmp_path, images, DOTA_V1)
    assert (written.images, written.detections, written.flat) == (3, 3, 1)
    task1, task2 = (zipfile.ZipFile(file) for file in written.files)
    assert task1.namelist() == [f"Task1_{name}.txt" for name in DOTA_V1]
    assert task2.namelist() == [f"Task2_{name}.txt" for name in DOTA_V1]
    assert task1.read("Task1_ship.txt") == b"", "a class without detections has an empty file"
    plane = task1.read("Task1_plane.txt").decode().split()
    assert plane[0] == "P0001" and np.float32(plane[1]) == np.float32(0.123456789)
    assert [float(value) for value in plane[2:]] == [15, 17, 25, 17, 25, 23, 15, 23]
    diamonds = [line.split() for line in task2.read("Task2_baseball-diamond.txt").decode().splitlines()]
    assert [line[0] for line in diamonds] == ["P0001", "P0003"]
    assert diamonds[0][2:] == ["54.00", "36.00", "66.00", "44.00"]
    assert "e" not in diamonds[1][1] and np.float32(diamonds[1][1]) == np.float32(1.2345e-05)


@pytest.mark.parametrize("which", [0, 1])
def test_what_is_written_passes_the_check_and_does_not_depend_on_the_day(tmp_path, images, which):
    first, second = (write_dota(tmp_path / name, images, DOTA_V1).files[which] for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    checked = check_submission(first, {"P0001", "P0002", "P0003"})
    checked.raise_problem()
    assert (checked.files, checked.images, checked.detections) == (15, 2, 3)
    assert checked.kind == f"DOTA Task{which + 1}"


def test_scores_keep_every_digit():
    scores = np.random.default_rng(0).random(2000).astype(np.float32) ** 8
    texts = score_texts(scores).astype(str).tolist()
    assert all(np.float32(text) == score for text, score in zip(texts, scores, strict=True))
    assert not any("e" in text for text in texts)


def test_names_with_blanks_are_refused(tmp_path):
    with pytest.raises(DataError, match="blanks"):
        write_dota(tmp_path, [record("P 1")], DOTA_V1)
    with pytest.raises(DataError, match="blanks"):
        write_dota(tmp_path, [], ("Dry Cargo Ship",))


def test_fair1m_archive(tmp_path):
    classes = ("Boeing737", "Dry_Cargo_Ship")
    images = [record("7", [(20.125, 20, 10, 6, 0, 0.3, 1)], (333, 444)), record("8")]
    written = write_fair1m(tmp_path, images, classes, lambda one: (one.size[1], one.size[0]))
    archive = zipfile.ZipFile(written.files[0])
    assert archive.namelist() == ["test/7.xml", "test/8.xml"]
    root = ElementTree.fromstring(archive.read("test/7.xml"))
    assert root.findtext("source/filename") == "7.tif" and root.findtext("source/origin") == "GF2/GF3"
    assert (root.findtext("size/width"), root.findtext("size/height")) == ("444", "333")
    assert root.findtext("research/version") == "4.0"
    assert root.findtext("objects/object/possibleresult/name") == "Dry Cargo Ship"
    assert np.float32(root.findtext("objects/object/possibleresult/probability")) == np.float32(0.3)
    points = [point.text for point in root.findall("objects/object/points/point")]
    assert points == ["15.12,17.00", "25.12,17.00", "25.12,23.00", "15.12,23.00", "15.12,17.00"]
    assert ElementTree.fromstring(archive.read("test/8.xml")).findall("objects/object") == []
    checked = check_submission(written.files[0], {"7", "8"})
    checked.raise_problem()
    assert (checked.kind, checked.images, checked.detections) == ("FAIR1M", 2, 1)


def test_what_is_written_reads_back_as_labels(tmp_path):
    from rsfoundation.io.xml_labels import read_fair1m_xml

    written = write_fair1m(
        tmp_path, [record("7", [(20, 20, 10, 6, 0.4, 0.3, 0)])], ("Small_Car",), lambda _: (9, 9)
    )
    zipfile.ZipFile(written.files[0]).extractall(tmp_path)
    (item,) = read_fair1m_xml(tmp_path / "test" / "7.xml").objects
    assert item.name == "Small_Car"
    np.testing.assert_allclose(np.reshape(item.quad, (4, 2)).mean(axis=0), (20, 20), atol=0.01)
