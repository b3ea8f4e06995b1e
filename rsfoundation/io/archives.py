"""Unpacking the archives of data sets: nothing outside of the folder, no links, no bombs."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from rsfoundation.core.errors import DataError

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_CHUNK = 2**20
_RESERVE = 2**28  # bytes of the disk that stay free
_RATIO, _SUSPICIOUS = 1000, 2**30  # compression that no image or label reaches, judged from a gigabyte on
_FIX = "get the archive from the data set's page again; nothing of it was kept"


def is_archive(path: Path) -> bool:
    """Return whether a file has the name of an archive that can be unpacked."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, folder: Path) -> int:
    """Unpack an archive into a folder; a broken or unsafe archive leaves nothing new there.

    Args:
        archive: A zip or tar file.
        folder: Made where it is missing; files of other archives in it stay.

    Returns:
        The number of files.

    Raises:
        DataError: The archive is broken, or larger than the disk; or a member has a path outside of the
            folder, is a link or a device, or unpacks to far more than images and labels do.
    """
    staging = folder / f".{archive.name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        names = [
            _write(archive, staging, name, size, stream) for name, size, stream in _members(archive, staging)
        ]
        for name in names:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (staging / name).replace(target)
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.LargeZipFile,
    ) as error:
        raise DataError(f"the archive cannot be read: {error}", where=archive, fix=_FIX) from error
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise DataError(f"the archive cannot be unpacked: {problem}", where=archive, fix=_FIX) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return len(names)


def _members(archive: Path, folder: Path) -> Iterator[tuple[PurePosixPath, int, IO[bytes]]]:
    """Yield path, size and content of each file of an archive that passed the rules."""
    free = shutil.disk_usage(folder).free - _RESERVE
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            _check_size(archive, sum(entry.file_size for entry in entries), free)
            for entry in entries:
                if stat.S_ISLNK(entry.external_attr >> 16):
                    raise _unsafe(archive, entry.filename, "is a link")
                path = _inside(archive, entry.filename)
                if not entry.is_dir():
                    with packed.open(entry) as stream:
                        yield path, entry.file_size, stream
        return
    with tarfile.open(archive) as packed_tar:
        total = 0
        for member in packed_tar:
            path = _inside(archive, member.name)
            if member.isdir():
                continue
            if not member.isfile():
                raise _unsafe(archive, member.name, "is a link or a device")
            total += member.size
            _check_size(archive, total, free)
            content = packed_tar.extractfile(member)
            assert content is not None  # it is a file
            yield path, member.size, content


def _check_size(archive: Path, total: int, free: int) -> None:
    packed = archive.stat().st_size
    if total > _SUSPICIOUS and total > _RATIO * packed:
        raise DataError(f"{packed} bytes unpack to {total}: no archive of images", where=archive, fix=_FIX)
    if total > free:
        what = f"the archive unpacks to {total / 2**30:.1f} GiB, and {max(free, 0) / 2**30:.1f} GiB are free"
        raise DataError(what, where=archive, fix="free some space, or choose another disk with -o")


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise _unsafe(archive, name, "has a path outside of the folder")
    return path


def _unsafe(archive: Path, name: str, problem: str) -> DataError:
    return DataError(f"the member {name[:200]!r} {problem}", where=archive, fix=_FIX)


def _write(archive: Path, folder: Path, name: PurePosixPath, size: int, stream: IO[bytes]) -> PurePosixPath:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with target.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise _unsafe(archive, str(name), "is larger than the archive says")
            file.write(chunk)
    return name
