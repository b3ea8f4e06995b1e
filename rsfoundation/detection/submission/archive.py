"""Reading zip archives, with errors that say what is wrong."""

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

from rsfoundation.errors import DataError

_LARGEST = 4 << 30  # bytes of text; ten million detections take one
LONGEST_LINE = 1000  # characters; ten fields take under 300


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        DataError: It is missing, no zip archive, damaged, holds a name twice, or unpacks to gigabytes.
    """
    if not path.is_file():
        raise DataError("the archive does not exist", where=path)
    try:
        archive = zipfile.ZipFile(path)
        _check_entries(archive, path)
        broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise DataError(
            f"the file is no zip archive: {error}",
            where=path,
            cure="the servers take .zip only, no .tar.gz, .rar or .7z: zip -j Task1.zip Task1_*.txt",
        ) from error
    except (zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:  # the last: a file's name
        raise DataError(f"the archive is damaged: {error}", where=path, cure="zip it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password; a method that Python lacks
        raise DataError(
            f"the archive cannot be read: {error}", where=path, cure="zip it again without options: zip -j"
        ) from error
    if broken is not None:
        raise DataError("a file in the archive is damaged", where=f"{path}/{broken}", cure="zip it again")
    return archive


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse, before anything is unpacked, what would fill the memory, and names that stand twice."""
    size = sum(info.file_size for info in archive.infolist())
    if size > _LARGEST:
        raise DataError(
            f"the archive unpacks to {size / 2**30:.1f} GiB; no submission has more than {_LARGEST >> 30}",
            where=path,
            cure="keep fewer detections: a higher score threshold, or max_per_img in the test_cfg",
        )
    twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
    if twice:
        raise DataError(f"a file stands twice in the archive: {twice[0]!r}", where=path, cure="zip it again")


def file_names(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of all files in the archive; folders of their own are no files."""
    return [info.filename for info in archive.infolist() if not info.is_dir()]


def read_text(archive: zipfile.ZipFile, name: str) -> str:
    """Return the text of one file.

    Raises:
        DataError: It is no UTF-8 text.
    """
    try:
        return archive.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _no_text(archive, name, error) from error


def read_lines(archive: zipfile.ZipFile, name: str) -> Iterator[str]:
    """Yield the lines of one file without their ends, however large it is, a few kilobytes at a time.

    Of a line longer than ``LONGEST_LINE`` one character more than that comes; the rest is skipped.

    Raises:
        DataError: It is no UTF-8 text.
    """
    with archive.open(name) as unpacked, TextIOWrapper(unpacked, encoding="utf-8-sig") as text:
        try:
            while piece := text.readline(LONGEST_LINE + 1):
                yield piece.removesuffix("\n")
                while len(piece) > LONGEST_LINE and not piece.endswith("\n"):
                    piece = text.readline(LONGEST_LINE + 1)
        except UnicodeDecodeError as error:
            raise _no_text(archive, name, error) from error


def _no_text(archive: zipfile.ZipFile, name: str, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"the file is no UTF-8 text: {error.reason}",  # it counts bytes from the start of a piece
        where=f"{archive.filename}/{name}",
        cure="write it as UTF-8: `grep -naxv '.*' FILE` shows the lines that are not",
    )
