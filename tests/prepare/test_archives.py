"""Archives of data sets: what is unpacked, and what is refused."""

import io
import stat
import tarfile
import zipfile

import pytest

from rsfoundation.core.errors import DataError
from rsfoundation.prepare import maps as archives
from rsfoundation.prepare.maps import is_archive, unpack


def make_zip(path, members, link=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            file.writestr(info, "/etc/hostname")
    return path


def make_tar(path, members, link=None):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            file.addfile(info)
    return path


MAKERS = [(make_zip, "a.zip"), (make_tar, "a.tar.gz")]


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_files_come_out(tmp_path, make, name):
    archive = make(tmp_path / name, {"train/A/1.png": b"one", "train/B/1.png": b"two"})
    assert is_archive(archive) and unpack(archive, tmp_path / "out") == 2
    assert (tmp_path / "out/train/B/1.png").read_bytes() == b"two"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train"]


@pytest.mark.parametrize(("make", "name"), MAKERS)
@pytest.mark.parametrize("member", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt"])
def test_no_path_escapes(tmp_path, make, name, member):
    archive = make(tmp_path / name, {"fine.txt": b"1", member: b"2"})
    with pytest.raises(DataError, match="outside of the folder"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == [] and not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_links_are_refused(tmp_path, make, name):
    archive = make(tmp_path / name, {"fine.txt": b"1"}, link="link.txt")
    with pytest.raises(DataError, match="link"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_far_more_than_images_hold_is_refused(tmp_path, make, name, monkeypatch):
    monkeypatch.setattr(archives, "_SUSPICIOUS", 1000)
    monkeypatch.setattr(archives, "_RATIO", 20)
    archive = make(tmp_path / name, {"zeros": bytes(200_000)})
    with pytest.raises(DataError, match="no archive of images"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize(("make", "name"), MAKERS)
def test_truncated_archives_leave_nothing(tmp_path, make, name):
    archive = make(tmp_path / name, {f"{n}.bin": bytes([n]) * 500 for n in range(20)})
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be"):
        unpack(archive, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"a": b"12345"})
    monkeypatch.setattr(archives, "_RESERVE", 2**62)
    with pytest.raises(DataError, match="GiB are free"):
        unpack(archive, tmp_path / "out")
