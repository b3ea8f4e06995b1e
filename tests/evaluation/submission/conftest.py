"""Two full images with detections of two classes, and zips written by hand."""

import zipfile

import pytest
from full_images import record


@pytest.fixture
def images():
    first = [
        (20, 20, 10, 6, 0, 0.123456789, 0),
        (60, 40, 12, 8, 0, 0.99999994, 1),
        (60, 70, 1e-4, 8, 0, 0.5, 1),
    ]
    return [record("P0001", first), record("P0002"), record("P0003", [(30, 30, 10, 10, 0, 1.2345e-05, 1)])]


@pytest.fixture
def make_zip(tmp_path):
    """Return a function that zips texts by name."""

    def make(files, name="Task1.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            for entry, text in files.items():
                archive.writestr(entry, text)
        return path

    return make
