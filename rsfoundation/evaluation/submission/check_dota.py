"""Rules of DOTA's server: https://captain-whu.github.io/DOTA/tasks.html and what it refuses in practice."""

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from shlex import quote
from zipfile import ZipFile

from rsfoundation.core.errors import nearest
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.evaluation.submission.checks import (
    LONGEST_LINE,
    Faults,
    Finding,
    ImageNames,
    bad_corners,
    bad_score,
    base_name,
    files_lie,
    numbers,
    read_lines,
    repeated,
    set_aside,
    take_out,
    too_far,
)

TASKS = ("Task1", "Task2")


def is_of(task: str, name: str) -> bool:
    """Whether a file is meant for a task, by its name in any folder and case."""
    return base_name(name).lower().startswith(f"{task.lower()}_")


def task_of(names: Sequence[str]) -> str:
    """Tell by most of its files which task an archive is for."""
    return max(TASKS, key=lambda task: sum(is_of(task, name) for name in names))


def expected_files(names: Sequence[str], task: str, classes: Sequence[str] | None) -> list[str]:
    """Return the names of the files that must be there.

    Args:
        names: Of the files that are there.
        task: ``Task1`` or ``Task2``.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
    """
    versions = [tuple(classes)] if classes is not None else list(DOTA_CLASSES.values())
    found = {base_name(name) for name in names}
    choices = [[f"{task}_{name}.txt" for name in version] for version in versions]
    return min(choices, key=lambda files: len(found.symmetric_difference(files)))


def check_names(path: str, names: Sequence[str], expected: Sequence[str], task: str, faults: Faults) -> None:
    """Note files that lie in a folder or are unexpected.

    Args:
        path: The archive.
        names: Of the files in it that belong into an archive.
        expected: Names of the files that must be there.
        task: ``Task1`` or ``Task2``.
        faults: Receives what is wrong.
    """
    top = {name for name in names if "/" not in name}
    nested = [name for name in names if "/" in name]
    for first, finding in _in_folders(path, nested, top, task):
        faults.add(f"{path}/{first}", finding)
    for name in names:
        if name in top and name not in expected:
            faults.add(f"{path}/{name}", _unexpected(name, expected, task))


def check_missing(path: str, names: Sequence[str], expected: Sequence[str], faults: Faults) -> None:
    """Note class files that stand nowhere in an archive, not even in a wrong place."""
    there = {base_name(name) for name in names}
    for name in expected:
        if name not in there:
            what = f"the file {name!r} is missing; all {len(expected)} classes need one"
            faults.add(path, Finding("missing file", what, "add it, empty where nothing was found"))


def _in_folders(
    path: str, nested: Sequence[str], top: Collection[str], task: str
) -> Iterator[tuple[str, Finding]]:
    """Yield the first file of each wrong folder and what is wrong; class files the top lacks are ours."""
    homes = {_folder(name) for name in nested if is_of(task, name) and base_name(name) not in top}
    ours = [name for name in nested if _folder(name) in homes]
    if ours:
        yield ours[0], _class_files(len(ours), sorted(homes), task)
    strangers: dict[str, list[str]] = {}
    for name in nested:
        if _folder(name) not in homes:
            strangers.setdefault(_folder(name), []).append(name)
    for folder, files in strangers.items():
        what = f"{files_lie(len(files))} in the folder {folder!r}; expected class files of {task} only"
        yield files[0], Finding("unexpected folder", what, take_out(path, f"{folder}/*"))


def _class_files(count: int, folders: Sequence[str], task: str) -> Finding:
    if len(folders) == 1:
        place = f"the folder {folders[0]!r}"
        fix = f"cd {quote(folders[0])} && zip ../{task}.zip {task}_*.txt"
    else:
        place = f"the folders {', '.join(map(repr, folders))}"
        fix = f"zip -j {task}.zip {' '.join(f'{quote(folder)}/{task}_*.txt' for folder in folders)}"
    what = f"{files_lie(count)} in {place}; expected them at the top of the archive"
    return Finding("file in a folder", what, fix)


def _unexpected(name: str, expected: Sequence[str], task: str) -> Finding:
    if any(is_of(other, name) for other in TASKS if other != task):
        what = f"unexpected file {name!r} among those of {task}"
        return Finding("unexpected file", what, "take it out: each task has an archive of its own")
    hint = nearest(name, expected, 1)
    what = f"unexpected file {name!r}{f'; {hint}' if hint else ''}"
    return Finding("unexpected file", what, f"take it out, or rename it {task}_<class>.txt")


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


_FIELDS = {"Task1": "image score x1 y1 x2 y2 x3 y3 x4 y4", "Task2": "image score xmin ymin xmax ymax"}
_COLUMNS = {task: len(fields.split()) for task, fields in _FIELDS.items()}


def check_dota(
    archive: ZipFile, names: Sequence[str], images: ImageNames, classes: Sequence[str] | None, faults: Faults
) -> tuple[int, int]:
    """Check a Task1 or Task2 archive.

    Args:
        archive: The archive.
        names: Of the files in it.
        images: Names of the test images.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
        faults: Receives what is wrong.

    Returns:
        How many images have detections, and how many detections there are.
    """
    path, task = str(archive.filename), task_of(names)
    expected = expected_files(names, task, classes)
    check_names(path, set_aside(path, names, faults), expected, task, faults)
    check_missing(path, names, expected, faults)
    seen: set[str] = set()
    detections = 0
    for name in (name for name in names if name in expected):
        detections += _check_file(archive, name, _ClassFile(task, images, seen), faults)
    return len(seen), detections


@dataclass
class _ClassFile:
    """What the lines of one file are checked against.

    Attributes:
        task: ``Task1`` or ``Task2``.
        images: Names of the test images.
        seen: Images of good lines, here and in the files before.
        boxes: Line of each box, by a hash of 64 bits: lines themselves would fill the memory, and of ten
            million boxes no two share a hash but once in 300 000 archives.
    """

    task: str
    images: ImageNames
    seen: set[str]
    boxes: dict[int, int] = field(default_factory=dict)

    def fault(self, number: int, line: str) -> Finding | None:
        """Say what is wrong with a line, if anything is."""
        fields = line.split()
        if len(line) > LONGEST_LINE or len(fields) != _COLUMNS[self.task]:
            return _wrong_columns(line, fields, self.task)
        image = fields[0]
        named = None if image in self.seen else self.images.fault(image)
        if named is not None:
            return named
        bad = bad_score(fields[1])
        if bad is not None:
            return Finding("bad score", bad, "write the detector's score, 0 to 1, in the second column")
        return self._box_fault(number, image, fields[2:])

    def _box_fault(self, number: int, image: str, texts: list[str]) -> Finding | None:
        values = numbers(texts)
        if values is None:
            what = f"a coordinate is no finite number: {' '.join(texts)[:100]!r}"
            return Finding("bad coordinate", what, "take the line out")
        bad = too_far(values) or (bad_corners(values) if self.task == "Task1" else _bad_sides(values))
        if bad is not None:
            return bad
        self.seen.add(image)
        first = self.boxes.setdefault(hash(image.encode() + array("d", values).tobytes()), number)
        return None if first == number else repeated(first)


def _check_file(archive: ZipFile, name: str, rules: _ClassFile, faults: Faults) -> int:
    number = 0
    for number, line in enumerate(read_lines(archive, name), start=1):
        finding = rules.fault(number, line)
        if finding is not None:
            faults.add(f"{archive.filename}/{name}:{number}", finding)
    return number


def _wrong_columns(line: str, fields: list[str], task: str) -> Finding:
    fix = f"write the line as {_FIELDS[task]}"
    if len(line) > LONGEST_LINE:
        what = f"the line has more than {LONGEST_LINE} characters; expected '{_FIELDS[task]}'"
        return Finding("long line", what, fix)
    other = "; these look like oriented boxes" if task == "Task2" and len(fields) == 10 else ""
    return Finding("wrong columns", f"{len(fields)} columns; expected '{_FIELDS[task]}'{other}", fix)


def _bad_sides(values: list[float]) -> Finding | None:
    if values[0] < values[2] and values[1] < values[3]:
        return None
    return Finding("no area", "expected xmin < xmax and ymin < ymax", "take the line out, or order the sides")
