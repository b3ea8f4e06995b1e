"""Reading zip archives, with errors that say what is wrong."""

import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from math import isfinite
from pathlib import Path, PureWindowsPath
from shlex import quote
from typing import NamedTuple

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.evaluation.oriented.patch_merging import place_of
from rsfoundation.io.dota import IMAGE_SUFFIXES

_MOST = 1000  # faults that are worth keeping


class Finding(NamedTuple):
    """Something wrong, wherever it stands.

    Attributes:
        kind: Equal for all of one sort.
        what: What was found and what was expected.
        fix: What mends it.
    """

    kind: str
    what: str
    fix: str


@dataclass(frozen=True)
class Fault:
    """One thing that the server would refuse or score as nothing.

    Attributes:
        where: Archive, file in it and line.
        what: What was found and what was expected.
        fix: What mends it.
        kind: Equal for all faults of one sort.
    """

    where: str
    what: str
    fix: str
    kind: str


@dataclass
class Faults:
    """The faults of one archive.

    Attributes:
        found: The first thousand; one more tells nothing new.
        counts: How many there are of each kind, those that were not kept among them.
    """

    found: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, where: str, finding: Finding) -> None:
        """Note a fault and its place: archive, file in it and line."""
        self.counts[finding.kind] += 1
        if len(self.found) < _MOST:
            self.found.append(Fault(where, finding.what, finding.fix, finding.kind))


_FARTHEST = 1e6  # pixels; DOTA's largest images have under 30 000, and boxes reach little over the edge
_LEAST_AREA = 1e-6


def bad_score(text: str) -> str | None:
    """Say what is wrong with a score, if anything is."""
    try:
        score = float(text) if _is_plain(text) else None
    except ValueError:
        score = None
    if score is None:
        return f"the score {text[:100]!r} is no number"
    return None if 0 <= score <= 1 else f"the score {text[:100]} is outside 0..1"


def numbers(fields: list[str]) -> list[float] | None:
    """Return finite numbers, or ``None`` where a field is none."""
    if not _is_plain("".join(fields)):
        return None
    try:
        values = list(map(float, fields))
    except ValueError:
        return None
    return values if all(map(isfinite, values)) else None


def _is_plain(text: str) -> bool:
    """Whether it holds nothing that only Python takes for a number: ``1_0``, digits of other scripts."""
    return text.isascii() and "_" not in text


def bad_corners(corners: list[float]) -> Finding | None:
    """Say what is wrong with ``x1 y1 x2 y2 x3 y3 x4 y4``, if anything is."""
    if area(corners) >= _LEAST_AREA:
        return None
    what = "the corners enclose no area, or cross each other"
    return Finding("no area", what, "take the box out, or order its corners")


def too_far(values: list[float]) -> Finding | None:
    """Say which coordinate lies beyond any image, if one does."""
    if max(map(abs, values)) <= _FARTHEST:
        return None
    what = f"the coordinate {max(values, key=abs):g} lies beyond any image; expected pixels of the full image"
    return Finding("far coordinate", what, "take the box out: a detector that makes such boxes has diverged")


def repeated(first: int) -> Finding:
    """Say that a box stands in an earlier line too."""
    what = f"the same box stands in line {first} already: each repetition counts as a wrong detection"
    fix = "suppress overlapping boxes of a class: `rsf test --format-only` does"
    return Finding("repeated box", what, fix)


def area(corners: list[float]) -> float:
    """Return the area within ``x1 y1 x2 y2 x3 y3 x4 y4``; 0 for crossed or collinear ones."""
    points = list(zip(corners[0::2], corners[1::2], strict=True))

    def turn(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    halves, others = (turn(0, 1, 2), turn(0, 2, 3)), (turn(1, 2, 3), turn(1, 3, 0))
    # each diagonal of a crossed one has both triangles on one side of it
    crossed = halves[0] * halves[1] < 0 and others[0] * others[1] < 0
    return 0.0 if crossed else abs(sum(halves)) / 2


_LONGEST = 255  # what file systems hold
_HINTS = 20  # a name is compared with thousands, which takes a hundredth of a second; nobody reads more
_NAMES = "names are those of the full test images, without folder and suffix"
_MERGE = f"{_NAMES}, and so are the pixels: `rsf test --format-only` merges patches"


@dataclass
class ImageNames:
    """Which names of images a server takes.

    Attributes:
        known: Names of the test images, without suffix; ``None`` where they are not known.
    """

    known: frozenset[str] | None
    _hints: dict[str, str] = field(default_factory=dict)

    def fault(self, name: str) -> Finding | None:
        """Say what is wrong with a name, if anything is."""
        if not name.isprintable() or len(name) > _LONGEST or "/" in name or "\\" in name:
            what = f"no image is named {name[:100]!r}"
            return Finding("bad image name", what, _NAMES)
        stem = _without_suffix(name)
        if _is_patch(stem):
            return Finding("patch name", f"{name!r} is the name of a patch", _MERGE)
        if stem != name:
            what = f"the image name {name!r} has a suffix; did you mean {stem!r}?"
            return Finding("name with suffix", what, _NAMES)
        return None if self.known is None or name in self.known else self._unknown(name, self.known)

    def _unknown(self, name: str, known: frozenset[str]) -> Finding:
        if name not in self._hints and len(self._hints) < _HINTS:
            self._hints[name] = nearest(name, sorted(known), 1)
        hint = self._hints.get(name)
        what = f"unknown image {name!r}{f'; {hint}' if hint else ''}"
        return Finding("unknown image", what, _NAMES)


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _is_patch(name: str) -> bool:
    try:
        return place_of(name).image != name
    except DataError:  # cut from a resized image
        return True


_MACOS = "__MACOSX/"
_ARCHIVES = (".zip", ".rar", ".7z", ".gz", ".tar")


def set_aside(path: str, names: Sequence[str], faults: Faults) -> list[str]:
    """Note the files that belong into no archive, and return the names of the others.

    Args:
        path: The archive.
        names: Of the files in it.
        faults: Receives what is wrong.
    """
    added = [name for name in names if name.startswith(_MACOS)]
    if added:  # as many as there are files: told once
        what = f"{files_lie(len(added))} in {_MACOS!r}, which macOS adds"
        faults.add(f"{path}/{added[0]}", Finding("file of macOS", what, take_out(path, f"{_MACOS}*")))
    others = []
    for name in (name for name in names if not name.startswith(_MACOS)):
        finding = _stray(path, name)
        if finding is None:
            others.append(name)
        else:
            faults.add(f"{path}/{name}", finding)
    return others


def base_name(name: str) -> str:
    """Return the name of a file without its folders, whichever slash they are written with."""
    return PureWindowsPath(name).name


def take_out(path: str, pattern: str) -> str:
    """Return the fix that deletes files from an archive."""
    return f"take them out: zip -d {quote(Path(path).name)} {quote(pattern)}"


def files_lie(count: int) -> str:
    """Return ``1 file lies`` or ``2 files lie``."""
    return "1 file lies" if count == 1 else f"{count} files lie"


def _stray(path: str, name: str) -> Finding | None:
    parts = name.split("/")
    if "\\" in name:
        what = f"the name {name!r} has a backslash; expected '/' between folder and file"
        return Finding("backslash in a name", what, "zip them with a program that writes '/': zip, 7-Zip")
    if re.match("[A-Za-z]:", name) or not {"", ".", ".."}.isdisjoint(parts):
        what = f"the name {name!r} is absolute, or has '.' or '..' in it; expected one below the archive"
        return Finding("odd name", what, "zip the files again from inside their folder, by relative names")
    if any(part.startswith(".") for part in parts):
        return Finding("hidden file", f"the file {name!r} is a hidden one", take_out(path, name))
    if name.lower().endswith(_ARCHIVES):
        what = f"the file {name!r} is an archive in the archive"
        return Finding("archive in the archive", what, "unpack it and zip the result files themselves")
    return None


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


def _check_entries(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse, before anything is unpacked, what would fill the memory, and names that stand twice."""
    size = sum(info.file_size for info in archive.infolist())
    if size > _LARGEST:
        raise DataError(
            f"the archive unpacks to {size / 2**30:.1f} GiB; no submission has more than {_LARGEST >> 30}",
            where=path,
            fix="keep fewer detections: a higher score threshold, or max_per_img in the test_cfg",
        )
    twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
    if twice:
        raise DataError(f"a file stands twice in the archive: {twice[0]!r}", where=path, fix="zip it again")


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
        fix="write it as UTF-8: `grep -naxv '.*' FILE` shows the lines that are not",
    )
