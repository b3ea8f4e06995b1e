"""DOTA submissions: a flat zip with one text file per class; Task1 is oriented boxes, Task2 upright ones."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from rsfoundation.detection.evaluation.ahead import ahead_of
from rsfoundation.detection.evaluation.records import ImageRecord
from rsfoundation.detection.submission.deflated import DeflatedFile, write_zip
from rsfoundation.errors import DataError
from rsfoundation.structures.boxes import rbox_to_quad

Task = Literal["Task1", "Task2"]


class Written(NamedTuple):
    """What was written.

    Attributes:
        files: The archives.
        images: How many images.
        detections: How many detections.
        flat: Detections left out because nothing of their area is left at a hundredth of a pixel.
    """

    files: tuple[Path, ...]
    images: int
    detections: int
    flat: int


def write_dota(
    folder: Path,
    images: Iterable[ImageRecord],
    classes: Sequence[str],
    tasks: Sequence[Task] = ("Task1", "Task2"),
) -> Written:
    """Write ``Task1.zip`` and ``Task2.zip``; equal detections give equal bytes.

    Lines are ``image score x1 y1 x2 y2 x3 y3 x4 y4`` and ``image score xmin ymin xmax ymax`` in pixels of the
    full image. Scores keep every digit they have: rounded ones tie, and ties spoil the ranking that AP is
    made of. A class without detections has an empty file. Upright boxes are those around the oriented ones.

    Args:
        folder: Where the archives go.
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
        files = {
            task: [stack.enter_context(DeflatedFile(f"{task}_{name}.txt")) for name in classes]
            for task in tasks
        }
        for image in ahead_of(images).then(partial(_lines_of, tasks=tasks)):
            count += 1
            detections += image.kept
            flat += image.flat
            for (task, label), lines in image.lines.items():
                files[task][label].write(lines)
        archives = {task: folder / f"{task}.zip" for task in tasks}
        for task, path in archives.items():
            write_zip(path, files[task])
    return Written(tuple(archives.values()), count, detections, flat)


def solid(corners: np.ndarray) -> np.ndarray:
    """Return which corners ``(n, 4, 2)`` have an area when they are written to a hundredth of a pixel."""
    x, y = np.round(corners, 2).transpose(2, 0, 1)
    x, y = x - x[:, :1], y - y[:, :1]
    twice = (np.roll(x, 1, 1) * y - x * np.roll(y, 1, 1)).sum(axis=1)
    return np.abs(twice) > 1e-4


class _ImageLines(NamedTuple):
    """One image as text: its lines by task and label, and how many detections have lines, and have none."""

    lines: dict[tuple[Task, int], bytes]
    kept: int
    flat: int


def _lines_of(record: ImageRecord, tasks: Sequence[Task]) -> _ImageLines:
    from rsfoundation.detection.submission.digits import result_lines, score_texts  # loads numba

    _refuse_blanks(record.name, "image")
    corners = rbox_to_quad(record.boxes)
    keep = solid(corners)
    texts = score_texts(record.scores)
    rows = {
        int(label): np.flatnonzero(keep & (record.labels == label))
        for label in np.unique(record.labels[keep])
    }
    lines: dict[tuple[Task, int], bytes] = {}
    for task in tasks:
        table = corners.reshape(-1, 8) if task == "Task1" else _upright(corners)
        for label, mine in rows.items():
            lines[task, label] = result_lines(record.name, texts[mine], table[mine])
    return _ImageLines(lines, int(keep.sum()), int((~keep).sum()))


def _upright(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _refuse_blanks(name: str, kind: str) -> None:
    if len(name.split()) != 1:
        raise DataError(
            f"{kind} name {name!r} cannot stand in a DOTA result file, whose fields end at blanks",
            cure=f"rename the {kind}",
        )
