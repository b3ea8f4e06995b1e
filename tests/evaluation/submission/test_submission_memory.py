"""A small archive that unpacks to a large one is checked in little memory."""

import tracemalloc
import zipfile

import pytest
from submission_files import GOOD, class_files

from rsfoundation.evaluation.submission.check import check_submission

MEGABYTE = 1_000_000


@pytest.fixture
def bomb(tmp_path):
    """200 MB in one line, and half a million empty lines."""
    path = tmp_path / "Task1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in class_files():
            with archive.open(name, "w") as file:
                if name == "Task1_ship.txt":
                    for _ in range(200):
                        file.write(b" " * MEGABYTE)
                elif name == "Task1_plane.txt":
                    file.write(b"\n" * 500_000)
    return path


def peak(path):
    tracemalloc.start()
    try:
        return check_submission(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_hundreds_of_megabytes_are_never_held(bomb):
    checked, most = peak(bomb)
    assert checked.counts == {"long line": 1, "wrong columns": 500_000}
    assert most < 8 * MEGABYTE


def test_of_a_good_line_little_is_kept(make_zip):
    lines = [GOOD.replace("20 20", f"20 {number}.12345678901234567890") for number in range(20, 50_000)]
    checked, most = peak(make_zip(class_files(ship="".join(lines))))
    assert not checked.problems and checked.detections == len(lines)
    assert most < 8 * MEGABYTE, "the lines themselves are 12 MB in memory"
