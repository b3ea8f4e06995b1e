"""Problems that a server would reject a submission for, and the rules that all formats share."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.evaluation.oriented.patch_merging import parse_place
from rsfoundation.evaluation.submission.archive import base_name
from rsfoundation.io.dota import IMAGE_SUFFIXES

_MAX_KEPT = 1000  # problems that are worth keeping


class Problem(NamedTuple):
    """One thing that the server would reject, or score as nothing.

    Attributes:
        kind: Equal for all problems of one sort.
        what: What was found and what was expected.
        fix: The edit or command that repairs it.
        where: Archive, file in it and line; empty until it is reported.
    """

    kind: str
    what: str
    fix: str
    where: str = ""


@dataclass
class ProblemReport:
    """The problems of one archive.

    Attributes:
        problems: The first thousand, in the order of files and lines.
        counts: Number of problems of each kind, including those that were not kept.
    """

    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, where: str, problem: Problem) -> None:
        """Count a problem, and keep it with its place if it is one of the first thousand.

        Args:
            where: Archive, file in it and line.
            problem: What is wrong there.
        """
        self.counts[problem.kind] += 1
        if len(self.problems) < _MAX_KEPT:
            self.problems.append(problem._replace(where=where))


_MAX_COORDINATE = 1e6  # pixels; DOTA's largest images have under 30 000, and boxes reach little over the edge
_MIN_AREA = 1e-6


def check_score(text: str) -> str | None:
    """Return the problem of a score; ``None`` for a number in 0..1."""
    try:
        score = float(text) if _is_plain(text) else None
    except ValueError:
        score = None
    if score is None:
        return f"the score {text[:100]!r} is no number"
    return None if 0 <= score <= 1 else f"the score {text[:100]} is outside 0..1"


def parse_numbers(fields: list[str]) -> list[float] | None:
    """Return finite numbers, or ``None`` where a field is none."""
    if not _is_plain("".join(fields)):
        return None
    try:
        numbers = list(map(float, fields))
    except ValueError:
        return None
    return numbers if all(map(isfinite, numbers)) else None


def _is_plain(text: str) -> bool:
    """Return whether it has nothing that only Python reads as a number: ``1_0``, digits of other scripts."""
    return text.isascii() and "_" not in text


def check_corners(corners: list[float]) -> Problem | None:
    """Return the problem of ``x1 y1 x2 y2 x3 y3 x4 y4``, if they have one."""
    if quad_area(corners) >= _MIN_AREA:
        return None
    what = "the corners enclose no area, or cross each other"
    return Problem("no area", what, "remove the box, or order its corners")


def check_range(coordinates: list[float]) -> Problem | None:
    """Return the coordinate that is beyond any image, if one is."""
    if max(map(abs, coordinates)) <= _MAX_COORDINATE:
        return None
    farthest = max(coordinates, key=abs)
    what = f"the coordinate {farthest:g} is beyond any image; expected pixels of the full image"
    return Problem("far coordinate", what, "remove the box: a detector that makes such boxes has diverged")


def repeated_box(first: int) -> Problem:
    """Return the problem of a box that line ``first`` has too."""
    what = f"the same box is in line {first} already: each repetition counts as a wrong detection"
    fix = "suppress overlapping boxes of a class: `rsf test --format-only` does"
    return Problem("repeated box", what, fix)


def quad_area(corners: list[float]) -> float:
    """Return the area within ``x1 y1 x2 y2 x3 y3 x4 y4``; 0 for crossed or collinear corners."""
    points = list(zip(corners[0::2], corners[1::2], strict=True))

    def turn(a: int, b: int, c: int) -> float:
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)

    halves, others = (turn(0, 1, 2), turn(0, 2, 3)), (turn(1, 2, 3), turn(1, 3, 0))
    # each diagonal of a crossed quad has both triangles on one side of it
    crossed = halves[0] * halves[1] < 0 and others[0] * others[1] < 0
    return 0.0 if crossed else abs(sum(halves)) / 2


_MAX_NAME = 255  # characters; the limit of file systems
_MAX_HINTS = 20  # one comparison with thousands of names takes a hundredth of a second
_NAMES = "names are those of the full test images, without folder and suffix"
_MERGE = f"{_NAMES}, and so are the pixels: `rsf test --format-only` merges patches"


@dataclass
class ImageNames:
    """Image names that a server accepts.

    Attributes:
        known: Names of the test images, without suffix; ``None`` where they are not known.
    """

    known: frozenset[str] | None
    _hints: dict[str, str] = field(default_factory=dict)

    def check(self, name: str) -> Problem | None:
        """Return the problem of a name, if it has one."""
        if not name.isprintable() or len(name) > _MAX_NAME or "/" in name or "\\" in name:
            what = f"no image is named {name[:100]!r}"
            return Problem("bad image name", what, _NAMES)
        stem = _without_suffix(name)
        if _is_patch(stem):
            return Problem("patch name", f"{name!r} is the name of a patch", _MERGE)
        if stem != name:
            what = f"the image name {name!r} has a suffix; did you mean {stem!r}?"
            return Problem("name with suffix", what, _NAMES)
        return None if self.known is None or name in self.known else self._unknown(name, self.known)

    def _unknown(self, name: str, known: frozenset[str]) -> Problem:
        if name not in self._hints and len(self._hints) < _MAX_HINTS:
            self._hints[name] = nearest(name, sorted(known), 1)
        hint = self._hints.get(name)
        what = f"unknown image {name!r}{f'; {hint}' if hint else ''}"
        return Problem("unknown image", what, _NAMES)


def _without_suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def _is_patch(name: str) -> bool:
    try:
        return parse_place(name).image != name
    except DataError:  # cut from a resized image
        return True


_MACOS = "__MACOSX/"
_ARCHIVES = (".zip", ".rar", ".7z", ".gz", ".tar")


def drop_stray_files(path: str, names: Sequence[str], report: ProblemReport) -> list[str]:
    """Report the files that belong in no archive, and return the names of the others.

    Args:
        path: The archive.
        names: Of the files in it.
        report: Receives the problems.
    """
    added = [name for name in names if name.startswith(_MACOS)]
    if added:  # as many as there are files: reported once
        what = f"{count_files(len(added))} in {_MACOS!r}, which macOS adds"
        report.add(f"{path}/{added[0]}", Problem("file of macOS", what, deletion(path, f"{_MACOS}*")))
    others = []
    for name in (name for name in names if not name.startswith(_MACOS)):
        problem = _check_stray(path, name)
        if problem is None:
            others.append(name)
        else:
            report.add(f"{path}/{name}", problem)
    return others


def deletion(path: str, pattern: str) -> str:
    """Return the fix that deletes files from an archive.

    Args:
        path: The archive.
        pattern: Of the names of the files in it.
    """
    return f"delete them: zip -d {quote(Path(path).name)} {quote(pattern)}"


def count_files(count: int) -> str:
    """Return ``1 file is`` or ``2 files are``."""
    return "1 file is" if count == 1 else f"{count} files are"


def _check_stray(path: str, name: str) -> Problem | None:
    folders = name.split("/")
    if "\\" in name:
        what = f"the name {name!r} has a backslash; expected '/' between folder and file"
        return Problem("backslash in a name", what, "zip them with a program that writes '/': zip, 7-Zip")
    if re.match("[A-Za-z]:", name) or not {"", ".", ".."}.isdisjoint(folders):
        what = f"the name {name!r} is absolute, or has '.' or '..' in it; expected one below the archive"
        return Problem("bad path", what, "zip the files again from inside their folder, by relative names")
    if any(folder.startswith(".") for folder in folders):
        return Problem("hidden file", f"the file {name!r} is a hidden one", deletion(path, name))
    if base_name(name).lower().endswith(_ARCHIVES):
        what = f"the file {name!r} is an archive in the archive"
        return Problem("archive in the archive", what, "unpack it and zip the result files themselves")
    return None
