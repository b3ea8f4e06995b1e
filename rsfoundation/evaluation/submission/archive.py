"""Zip archives of results: reading them with errors that say what is wrong, and writing them whole."""

import lzma
import os
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path, PureWindowsPath
from tempfile import SpooledTemporaryFile
from typing import IO

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing

_MAX_UNPACKED = 4 << 30  # bytes of text; ten million detections take one GiB
MAX_LINE = 1000  # characters; ten fields take under 300


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        DataError: It is missing, no zip archive, damaged, holds a name twice, or unpacks to gigabytes.
    """
    if not path.is_file():
        raise DataError("the archive does not exist", where=path)
    try:
        archive = zipfile.ZipFile(path)
        _check_directory(archive, path)
        broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(
            f"the file is no zip archive: {error}",
            where=path,
            fix="the servers take .zip only, no .tar.gz, .rar or .7z: zip -j Task1.zip Task1_*.txt",
        ) from error
    except (zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:  # the last: a file's name
        raise DataError(f"the archive is damaged: {error}", where=path, fix="zip it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password; a method that Python lacks
        raise DataError(
            f"the archive cannot be read: {error}", where=path, fix="zip it again without options: zip -j"
        ) from error
    if broken is not None:
        raise DataError("a file in the archive is damaged", where=f"{path}/{broken}", fix="zip it again")
    return archive


def _check_directory(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse, before anything is unpacked, what would fill the memory, and names that occur twice."""
    size = sum(info.file_size for info in archive.infolist())
    if size > _MAX_UNPACKED:
        raise DataError(
            f"the archive unpacks to {size / 2**30:.1f} GiB; no submission has more than "
            f"{_MAX_UNPACKED >> 30}",
            where=path,
            fix="keep fewer detections: a higher score threshold, or max_per_img in the test_cfg",
        )
    twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
    if twice:
        raise DataError(f"a file is in the archive twice: {twice[0]!r}", where=path, fix="zip it again")


def file_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of all files in the archive, without the entries of folders."""
    return [info.filename for info in archive.infolist() if not info.is_dir()]


def base_name(name: str) -> str:
    """Return the name of a file without its folders, whichever slash they are written with."""
    return PureWindowsPath(name).name


def read_text(archive: zipfile.ZipFile, name: str) -> str:
    """Return the text of one file.

    Args:
        archive: The archive.
        name: Of the file in it.

    Raises:
        DataError: It is no UTF-8 text.
    """
    try:
        return archive.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(archive, name, error) from error


def read_lines(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yield the lines of one file without their ends, a few kilobytes at a time.

    Of a line longer than ``MAX_LINE``, ``MAX_LINE + 1`` characters are yielded; the rest is skipped.

    Args:
        archive: The archive.
        name: Of the file in it.

    Raises:
        DataError: It is no UTF-8 text.
    """
    with archive.open(name) as unpacked, TextIOWrapper(unpacked, encoding="utf-8-sig") as text:
        try:
            while piece := text.readline(MAX_LINE + 1):
                yield piece.removesuffix("\n")
                while len(piece) > MAX_LINE and not piece.endswith("\n"):
                    piece = text.readline(MAX_LINE + 1)
        except UnicodeDecodeError as error:
            raise _not_utf8(archive, name, error) from error


def _not_utf8(archive: zipfile.ZipFile, name: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"the file is no UTF-8 text: {error.reason}",  # its position counts from the start of a block
        where=f"{archive.filename}/{name}",
        fix="write it as UTF-8: `grep -naxv '.*' FILE` shows the lines that are not",
    )


_LEVEL = 1  # a tenth larger than at zipfile's own level, and five times faster
_IN_MEMORY = 4 << 20  # bytes of a file that stay in memory before it goes to disk
_ZIP64_FROM = (1 << 31) - 1  # bytes


def temporary_file() -> IO[bytes]:
    """Return an empty file that grows in memory up to 4 MiB, then on disk; closing it removes it."""
    return SpooledTemporaryFile(_IN_MEMORY)


def write_zip(path: Path, files: Iterable[tuple[str, IO[bytes]]]) -> None:
    """Write an archive, whole or not at all; equal files give equal bytes.

    Args:
        path: The archive.
        files: Name in the archive and content of each file, from its start.
    """
    with (
        replacing(path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):
        for name, content in files:
            content.seek(0, os.SEEK_END)
            size = content.tell()
            content.seek(0)
            with archive.open(name, "w", force_zip64=size > _ZIP64_FROM) as packed:
                shutil.copyfileobj(content, packed)
            archive.getinfo(name).external_attr = 0o644 << 16
