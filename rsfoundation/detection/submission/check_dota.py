"""Rules of DOTA's server: https://captain-whu.github.io/DOTA/tasks.html and what it refuses in practice."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from zipfile import ZipFile

from rsfoundation.detection.submission.archive import LONGEST_LINE, read_lines
from rsfoundation.detection.submission.dota_names import check_missing, check_names, expected_files, task_of
from rsfoundation.detection.submission.faults import Faults, Finding
from rsfoundation.detection.submission.image_names import ImageNames
from rsfoundation.detection.submission.layout import set_aside
from rsfoundation.detection.submission.values import bad_corners, bad_score, numbers, repeated, too_far

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
    cure = f"write the line as {_FIELDS[task]}"
    if len(line) > LONGEST_LINE:
        what = f"the line has more than {LONGEST_LINE} characters; expected '{_FIELDS[task]}'"
        return Finding("long line", what, cure)
    other = "; these look like oriented boxes" if task == "Task2" and len(fields) == 10 else ""
    return Finding("wrong columns", f"{len(fields)} columns; expected '{_FIELDS[task]}'{other}", cure)


def _bad_sides(values: list[float]) -> Finding | None:
    if values[0] < values[2] and values[1] < values[3]:
        return None
    return Finding("no area", "expected xmin < xmax and ymin < ymax", "take the line out, or order the sides")
