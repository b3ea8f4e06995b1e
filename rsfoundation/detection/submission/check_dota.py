"""Rules of DOTA's server: https://captain-whu.github.io/DOTA/tasks.html and what it refuses in practice."""

from collections.abc import Collection, Sequence
from pathlib import PurePosixPath
from zipfile import ZipFile

from rsfoundation.detection.classes import DOTA_CLASSES
from rsfoundation.detection.submission.archive import file_names, read_text
from rsfoundation.detection.submission.faults import Faults, area, bad_score, numbers
from rsfoundation.errors import nearest

_FIELDS = {"Task1": "image score x1 y1 x2 y2 x3 y3 x4 y4", "Task2": "image score xmin ymin xmax ymax"}
_LEAST_AREA = 1e-6


def check_dota(
    archive: ZipFile, images: Collection[str] | None, classes: Sequence[str] | None, faults: Faults
) -> tuple[int, int]:
    """Check a Task1 or Task2 archive.

    Args:
        archive: The archive.
        images: Names of the test images; ``None`` accepts any.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
        faults: Receives what is wrong.

    Returns:
        How many images have detections, and how many detections there are.
    """
    names = file_names(archive)
    task = task_of(names)
    expected = _expected(names, task, classes)
    _check_names(str(archive.filename), names, expected, task, faults)
    seen: set[str] = set()
    detections = 0
    for name in (name for name in names if name in expected):
        detections += _check_file(archive, name, task, images, seen, faults)
    return len(seen), detections


def task_of(names: Sequence[str]) -> str:
    """Tell by its files which task an archive is for."""
    return "Task2" if any("Task2_" in name for name in names) else "Task1"


def _expected(names: Sequence[str], task: str, classes: Sequence[str] | None) -> list[str]:
    """Return the names of the files that must be there."""
    versions = [tuple(classes)] if classes is not None else list(DOTA_CLASSES.values())
    found = {PurePosixPath(name).name for name in names}
    choices = [[f"{task}_{name}.txt" for name in version] for version in versions]
    return min(choices, key=lambda files: len(found.symmetric_difference(files)))


def _check_names(path: str, names: Sequence[str], expected: Sequence[str], task: str, faults: Faults) -> None:
    nested = [name for name in names if "/" in name]
    if nested:
        folder = PurePosixPath(nested[0]).parent
        what = (
            f"{len(nested)} files lie in the folder {str(folder)!r}; expected them at the top of the archive"
        )
        faults.add(
            "file in a folder", f"{path}/{nested[0]}", what, f"cd {folder} && zip ../{task}.zip {task}_*.txt"
        )
        return
    for name in names:
        if name not in expected:
            hint = nearest(name, expected, 1)
            what = f"unexpected file {name!r}{f'; {hint}' if hint else ''}"
            faults.add(
                "unexpected file", f"{path}/{name}", what, f"take it out, or rename it {task}_<class>.txt"
            )
    for name in expected:
        if name not in names:
            what = f"the file {name!r} is missing; all {len(expected)} classes need one"
            faults.add("missing file", path, what, "add it, empty where nothing was found")


def _check_file(
    archive: ZipFile, name: str, task: str, images: Collection[str] | None, seen: set[str], faults: Faults
) -> int:
    lines = read_text(archive, name).splitlines()
    earlier: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fault = _check_line(line, task, images) or _check_repeat(line, number, earlier)
        if fault is not None:
            faults.add(fault[0], f"{archive.filename}/{name}:{number}", *fault[1:])
        else:
            seen.add(line.split(maxsplit=1)[0])
    return len(lines)


def _check_line(line: str, task: str, images: Collection[str] | None) -> tuple[str, str, str] | None:
    """Return kind, sentence and cure of what is wrong with a line."""
    fields = line.split()
    if len(fields) != len(_FIELDS[task].split()):
        other = "; these look like oriented boxes" if task == "Task2" and len(fields) == 10 else ""
        what = f"{len(fields)} columns; expected '{_FIELDS[task]}'{other}"
        return "wrong columns", what, f"write the line as {_FIELDS[task]}"
    if images is not None and fields[0] not in images:
        hint = nearest(fields[0].rsplit(".", 1)[0], images, 1)
        what = f"unknown image {fields[0]!r}{f'; {hint}' if hint else ''}"
        return (
            "unknown image",
            what,
            "names are those of the test images, without suffix and without patch place",
        )
    bad = bad_score(fields[1])
    if bad is not None:
        return "bad score", bad, "write the detector's score, 0 to 1, in the second column"
    values = numbers(fields[2:])
    if values is None:
        return "bad coordinate", f"a coordinate is no finite number: {line[:100]!r}", "take the line out"
    if task == "Task1" and area(values) < _LEAST_AREA:
        return (
            "no area",
            "the corners enclose no area, or cross each other",
            "take the line out, or order the corners",
        )
    if task == "Task2" and (values[0] >= values[2] or values[1] >= values[3]):
        return "no area", "expected xmin < xmax and ymin < ymax", "take the line out, or order the sides"
    return None


def _check_repeat(line: str, number: int, earlier: dict[str, int]) -> tuple[str, str, str] | None:
    image, _, box = line.split(maxsplit=2)
    key = f"{image} {box.rstrip()}"
    first = earlier.setdefault(key, number)
    if first == number:
        return None
    what = f"the same box stands in line {first} already: each repetition counts as a wrong detection"
    return "repeated box", what, "suppress overlapping boxes of a class: `rsf test --format-only` does"
