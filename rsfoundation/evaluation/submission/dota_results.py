"""Result files of DOTA's server: ``Task1_<class>.txt`` and ``Task2_<class>.txt`` in a zip.

Rules: https://captain-whu.github.io/DOTA/tasks.html, and what the server rejects in practice.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Literal, NamedTuple
from zipfile import ZipFile

import numpy as np

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.evaluation.oriented.image_results import ImageResult
from rsfoundation.evaluation.submission.archive import (
    MAX_LINE,
    base_name,
    file_names,
    read_lines,
    temporary_file,
    write_zip,
)
from rsfoundation.evaluation.submission.problems import (
    ImageNames,
    Problem,
    ProblemReport,
    check_corners,
    check_range,
    check_score,
    count_files,
    deletion,
    drop_stray_files,
    parse_numbers,
    repeated_box,
)
from rsfoundation.geometry.boxes import rbox_to_quad

Task = Literal["Task1", "Task2"]
TASKS: tuple[Task, ...] = ("Task1", "Task2")
_FIELDS = {"Task1": "image score x1 y1 x2 y2 x3 y3 x4 y4", "Task2": "image score xmin ymin xmax ymax"}
_COLUMNS = {task: len(fields.split()) for task, fields in _FIELDS.items()}


class Written(NamedTuple):
    """Archives that were written.

    Attributes:
        files: The archives.
        images: Number of images.
        detections: Number of detections.
        flat: Detections left out because they have no area at a hundredth of a pixel.
    """

    files: tuple[Path, ...]
    images: int
    detections: int
    flat: int


def write_dota(
    folder: Path, images: Iterable[ImageResult], classes: Sequence[str], tasks: Sequence[Task] = TASKS
) -> Written:
    """Write ``Task1.zip`` and ``Task2.zip``; equal detections give equal bytes.

    Lines are ``image score x1 y1 x2 y2 x3 y3 x4 y4`` and ``image score xmin ymin xmax ymax`` in pixels of the
    full image. Scores keep every digit they have: rounded ones tie, and ties spoil the ranking that AP is
    made of. A class without detections has an empty file. Upright boxes are those around the oriented ones.

    Args:
        folder: Folder of the archives.
        images: Full images, one at a time.
        classes: Names, in label order.
        tasks: Which of the two to write.

    Raises:
        DataError: An image or class name has blanks, which the format cannot hold.
    """
    for name in classes:
        _refuse_blanks(name, "class")
    count = detections = flat = 0
    with ExitStack() as stack:
        files = {task: [stack.enter_context(temporary_file()) for _ in classes] for task in tasks}
        for image in images:
            _refuse_blanks(image.name, "image")
            corners = rbox_to_quad(image.boxes)
            keep = has_area(corners)
            texts = score_texts(image.scores)
            count, detections, flat = count + 1, detections + int(keep.sum()), flat + int((~keep).sum())
            for task in tasks:
                table = corners.reshape(-1, 8) if task == "Task1" else _upright(corners)
                for label in np.unique(image.labels[keep]).tolist():
                    chosen = keep & (image.labels == label)
                    files[task][label].write(result_lines(image.name, texts[chosen], table[chosen]))
        archives = tuple(folder / f"{task}.zip" for task in tasks)
        for task, path in zip(tasks, archives, strict=True):
            names = (f"{task}_{name}.txt" for name in classes)
            write_zip(path, zip(names, files[task], strict=True))
    return Written(archives, count, detections, flat)


def has_area(corners: np.ndarray) -> np.ndarray:
    """Return which corners ``(n, 4, 2)`` have an area when they are written to a hundredth of a pixel."""
    x, y = np.round(corners, 2).transpose(2, 0, 1)
    x, y = x - x[:, :1], y - y[:, :1]
    twice = (np.roll(x, 1, 1) * y - x * np.roll(y, 1, 1)).sum(axis=1)
    return np.abs(twice) > 1e-4


def score_texts(scores: np.ndarray) -> np.ndarray:
    """Return texts ``(n,)`` of scores that read back as the same float32: nine digits, no exponents.

    Args:
        scores: ``(n,)``, 0 to 10^9.
    """
    texts = [f"{score:.9g}" for score in np.asarray(scores, np.float32).tolist()]
    plain = [np.format_float_positional(float(text), trim="-") if "e" in text else text for text in texts]
    return np.array(plain, dtype=object)


def result_lines(name: str, scores: Sequence[str] | np.ndarray, table: np.ndarray) -> bytes:
    """Return a line for each row of ``table``: ``name score 1.25 -0.50``, numbers with two decimals.

    Args:
        name: First field of each line.
        scores: ``n`` texts.
        table: ``(n, k)`` numbers.
    """
    form = f"%s %s{' %.2f' * table.shape[1]}\n"
    rows = (np.round(table, 2) + 0.0).tolist()  # no -0.00
    lines = [form % (name, score, *row) for score, row in zip(scores, rows, strict=True)]
    return "".join(lines).encode()


def _upright(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _refuse_blanks(name: str, kind: str) -> None:
    if len(name.split()) != 1:
        raise DataError(
            f"the {kind} name {name!r} cannot be written to a DOTA result file, whose fields end at blanks",
            fix=f"rename the {kind}",
        )


class ResultRow(NamedTuple):
    """One detection of a result file: image, label, score, and the corners as written."""

    image: str
    label: int
    score: float
    corners: tuple[float, ...]


def read_dota(archive: ZipFile, files: Mapping[str, int], task: Task) -> Iterator[ResultRow]:
    """Yield the detections of an archive, file by file, with 8 (Task1) or 4 (Task2) coordinates as corners.

    Args:
        archive: The archive.
        files: Name of each class file to read, in any folder -> label.
        task: ``Task1`` or ``Task2``.

    Raises:
        DataError: A class has two files; or a line has other columns, or no numbers where they are expected.
    """
    read: dict[int, str] = {}
    for name in file_names(archive):
        label = files.get(base_name(name))
        if label is None:
            continue
        earlier = read.setdefault(label, name)
        if earlier != name:
            raise DataError(
                f"the class has two files in the archive: {earlier!r} and {name!r}",
                where=str(archive.filename),
                fix="remove one of them: zip -d",
            )
        for number, line in enumerate(read_lines(archive, name), start=1):
            fields = line.split()
            if not fields:
                continue
            numbers = parse_numbers(fields[1:]) if len(fields) == _COLUMNS[task] else None
            if numbers is None or len(line) > MAX_LINE:
                raise DataError(
                    f"{line[:100]!r} is no detection; expected '{_FIELDS[task]}'",
                    where=f"{archive.filename}/{name}:{number}",
                    fix="`rsf submission check` lists every such line",
                )
            yield ResultRow(fields[0], label, numbers[0], tuple(numbers[1:]))


def is_of_task(task: str, name: str) -> bool:
    """Return whether a file is meant for a task, by its name in any folder and case.

    Args:
        task: ``Task1`` or ``Task2``.
        name: Of the file.
    """
    return base_name(name).lower().startswith(f"{task.lower()}_")


def task_of(names: Sequence[str]) -> Task:
    """Return the task that most of an archive's files are for."""
    return max(TASKS, key=lambda task: sum(is_of_task(task, name) for name in names))


def expected_files(names: Sequence[str], task: str, classes: Sequence[str] | None) -> dict[str, str]:
    """Return the class of each file that must be in an archive, by the file's name.

    Args:
        names: Of the files that are there.
        task: ``Task1`` or ``Task2``.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
    """
    versions = [tuple(classes)] if classes is not None else list(DOTA_CLASSES.values())
    present = {base_name(name) for name in names}
    choices = [{f"{task}_{name}.txt": name for name in version} for version in versions]
    return min(choices, key=lambda files: len(present.symmetric_difference(files)))


def check_dota(
    archive: ZipFile,
    names: Sequence[str],
    images: ImageNames,
    classes: Sequence[str] | None,
    report: ProblemReport,
) -> tuple[int, int]:
    """Check a Task1 or Task2 archive.

    Args:
        archive: The archive.
        names: Of the files in it.
        images: Names of the test images.
        classes: Class names; ``None`` takes those of the DOTA version that fits best.
        report: Receives the problems.

    Returns:
        Number of images with detections, and of detections.
    """
    path, task = str(archive.filename), task_of(names)
    expected = expected_files(names, task, classes)
    _check_layout(path, drop_stray_files(path, names, report), expected, task, report)
    _check_missing(path, names, expected, report)
    seen: set[str] = set()
    detections = 0
    for name in (name for name in names if name in expected):
        detections += _check_file(archive, name, _ClassFile(task, images, seen), report)
    return len(seen), detections


def _check_layout(
    path: str, names: Sequence[str], expected: Collection[str], task: str, report: ProblemReport
) -> None:
    """Report files that are in a folder or unexpected."""
    top = {name for name in names if "/" not in name}
    nested = [name for name in names if "/" in name]
    for first, problem in _check_folders(path, nested, top, task):
        report.add(f"{path}/{first}", problem)
    for name in names:
        if name in top and name not in expected:
            report.add(f"{path}/{name}", _unexpected(name, expected, task))


def _check_missing(path: str, names: Sequence[str], expected: Collection[str], report: ProblemReport) -> None:
    """Report class files that are nowhere in an archive, not even in a wrong place."""
    present = {base_name(name) for name in names}
    for name in expected:
        if name not in present:
            what = f"the file {name!r} is missing; all {len(expected)} classes need one"
            report.add(path, Problem("missing file", what, "add it, empty where nothing was found"))


def _check_folders(
    path: str, nested: Sequence[str], top: Collection[str], task: str
) -> Iterator[tuple[str, Problem]]:
    """Yield the first file of each wrong folder and the problem; folders of missing class files are one."""
    of_classes = {_folder(name) for name in nested if is_of_task(task, name) and base_name(name) not in top}
    class_files = [name for name in nested if _folder(name) in of_classes]
    if class_files:
        yield class_files[0], _nested_class_files(len(class_files), sorted(of_classes), task)
    others: dict[str, list[str]] = {}
    for name in nested:
        if _folder(name) not in of_classes:
            others.setdefault(_folder(name), []).append(name)
    for folder, files in others.items():
        what = f"{count_files(len(files))} in the folder {folder!r}; expected class files of {task} only"
        yield files[0], Problem("unexpected folder", what, deletion(path, f"{folder}/*"))


def _nested_class_files(count: int, folders: Sequence[str], task: str) -> Problem:
    if len(folders) == 1:
        place = f"the folder {folders[0]!r}"
        fix = f"cd {quote(folders[0])} && zip ../{task}.zip {task}_*.txt"
    else:
        place = f"the folders {', '.join(map(repr, folders))}"
        fix = f"zip -j {task}.zip {' '.join(f'{quote(folder)}/{task}_*.txt' for folder in folders)}"
    what = f"{count_files(count)} in {place}; expected them at the top of the archive"
    return Problem("file in a folder", what, fix)


def _unexpected(name: str, expected: Collection[str], task: str) -> Problem:
    if any(is_of_task(other, name) for other in TASKS if other != task):
        what = f"unexpected file {name!r} among those of {task}"
        return Problem("unexpected file", what, "remove it: each task has an archive of its own")
    hint = nearest(name, expected, 1)
    what = f"unexpected file {name!r}{f'; {hint}' if hint else ''}"
    return Problem("unexpected file", what, f"remove it, or rename it {task}_<class>.txt")


def _folder(name: str) -> str:
    return str(PurePosixPath(name).parent)


@dataclass
class _ClassFile:
    """Rules for the lines of one file.

    Attributes:
        task: ``Task1`` or ``Task2``.
        images: Names of the test images.
        seen: Images of good lines, in this file and those before.
        boxes: Line of each box, by a hash of 64 bits: lines themselves would fill the memory, and of ten
            million boxes no two share a hash but once in 300 000 archives.
    """

    task: str
    images: ImageNames
    seen: set[str]
    boxes: dict[int, int] = field(default_factory=dict)

    def check(self, number: int, line: str) -> Problem | None:
        """Return the problem of a line, if it has one.

        Args:
            number: Of the line, from 1 on.
            line: Its text.
        """
        fields = line.split()
        if len(line) > MAX_LINE or len(fields) != _COLUMNS[self.task]:
            return _wrong_columns(line, fields, self.task)
        image = fields[0]
        bad_name = None if image in self.seen else self.images.check(image)
        if bad_name is not None:
            return bad_name
        bad_score = check_score(fields[1])
        if bad_score is not None:
            return Problem("bad score", bad_score, "write the detector's score, 0 to 1, in the second column")
        return self._check_box(number, image, fields[2:])

    def _check_box(self, number: int, image: str, texts: list[str]) -> Problem | None:
        coordinates = parse_numbers(texts)
        if coordinates is None:
            what = f"a coordinate is no finite number: {' '.join(texts)[:100]!r}"
            return Problem("bad coordinate", what, "remove the line")
        check = check_corners if self.task == "Task1" else _check_sides
        problem = check_range(coordinates) or check(coordinates)
        if problem is not None:
            return problem
        self.seen.add(image)
        first = self.boxes.setdefault(hash(image.encode() + array("d", coordinates).tobytes()), number)
        return None if first == number else repeated_box(first)


def _check_file(archive: ZipFile, name: str, rules: _ClassFile, report: ProblemReport) -> int:
    number = 0
    for number, line in enumerate(read_lines(archive, name), start=1):
        problem = rules.check(number, line)
        if problem is not None:
            report.add(f"{archive.filename}/{name}:{number}", problem)
    return number


def _wrong_columns(line: str, fields: list[str], task: str) -> Problem:
    fix = f"write the line as {_FIELDS[task]}"
    if len(line) > MAX_LINE:
        what = f"the line has more than {MAX_LINE} characters; expected '{_FIELDS[task]}'"
        return Problem("long line", what, fix)
    other = "; these look like oriented boxes" if task == "Task2" and len(fields) == 10 else ""
    return Problem("wrong columns", f"{len(fields)} columns; expected '{_FIELDS[task]}'{other}", fix)


def _check_sides(sides: list[float]) -> Problem | None:
    if sides[0] < sides[2] and sides[1] < sides[3]:
        return None
    return Problem("no area", "expected xmin < xmax and ymin < ymax", "remove the line, or order the sides")
