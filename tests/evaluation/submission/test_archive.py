"""Archives of files that grow at the same time are those that zipfile reads, and would write."""

import zipfile

import numpy as np
import pytest

from rsfoundation.evaluation.submission import archive as archives
from rsfoundation.evaluation.submission.archive import temporary_file, write_zip

TEXTS = {
    "a.txt": b"P1 0.5 1 2 3 4\n" * 5000,
    "sub/b.xml": b"",
    "Häfen.txt": np.random.default_rng(0).bytes(70_000),
}


def pack(path):
    files = [temporary_file() for _ in TEXTS]
    for start in range(0, 80_000, 999):  # by turns
        for file, text in zip(files, TEXTS.values(), strict=True):
            file.write(text[start : start + 999])
    write_zip(path, zip(TEXTS, files, strict=True))
    for file in files:
        file.close()
    return path


@pytest.mark.parametrize("in_memory", [100, 1 << 20])
def test_zipfile_reads_it(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(archives, "_IN_MEMORY", in_memory)
    path = pack(tmp_path / "deep/er/a.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.namelist() == list(TEXTS)
        assert all(archive.read(name) == text for name, text in TEXTS.items())
        modes = {info.external_attr >> 16 for info in archive.infolist()}
        assert modes == {0o644} and archive.infolist()[0].compress_size < 1000
    assert [file.name for file in path.parent.iterdir()] == ["a.zip"]


def test_the_bytes_are_those_of_zipfile(tmp_path):
    """At the same level, given one whole text at a time."""
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        for name, text in TEXTS.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, text, zipfile.ZIP_DEFLATED, compresslevel=1)
    assert pack(tmp_path / "ours.zip").read_bytes() == other.read_bytes()


def test_more_may_be_added_afterwards(tmp_path):
    path = pack(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.txt", "x")
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.namelist() == [*TEXTS, "more.txt"]


def test_a_write_that_stops_leaves_no_archive(tmp_path):
    with temporary_file() as file, pytest.raises(ZeroDivisionError):
        write_zip(tmp_path / "a.zip", ((str(1 // count), file) for count in (1, 0)))
    assert list(tmp_path.iterdir()) == []
