"""DOTA submissions: a flat zip with one text file per class; Task1 is oriented boxes, Task2 upright ones."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from rsfoundation.detection.evaluation.records import ImageRecord
from rsfoundation.detection.submission.archive import write_zip
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
        contents = {task: [_temporary(stack) for _ in classes] for task in tasks}
        for record in images:
            _refuse_blanks(record.name, "image")
            count += 1
            kept = _write_image(record, contents)
            detections += kept
            flat += len(record.scores) - kept
        files = tuple(folder / f"{task}.zip" for task in tasks)
        for file, (task, texts) in zip(files, contents.items(), strict=True):
            for text in texts:
                text.seek(0)
            write_zip(file, zip([f"{task}_{name}.txt" for name in classes], texts, strict=True))
    return Written(files, count, detections, flat)


def _temporary(stack: ExitStack) -> IO[bytes]:
    return stack.enter_context(tempfile.TemporaryFile())


def score_texts(scores: np.ndarray) -> list[str]:
    """Return a text of each score that reads back as the same float32, without exponents."""
    numbers = scores.astype(np.float32).tolist()
    texts = ("%.9g " * len(numbers) % tuple(numbers)).split()  # nine digits tell any two apart
    for place, text in enumerate(texts):
        if "e" in text:
            texts[place] = np.format_float_positional(np.float32(scores[place]), trim="-")
    return texts


def solid(corners: np.ndarray) -> np.ndarray:
    """Return which corners ``(n, 4, 2)`` have an area when they are written to a hundredth of a pixel."""
    x, y = np.round(corners, 2).transpose(2, 0, 1)
    x, y = x - x[:, :1], y - y[:, :1]
    twice = (np.roll(x, 1, 1) * y - x * np.roll(y, 1, 1)).sum(axis=1)
    return np.abs(twice) > 1e-4


def _write_image(record: ImageRecord, contents: Mapping[Task, Sequence[IO[bytes]]]) -> int:
    """Add one image to the files of its classes; return how many detections were written."""
    from rsfoundation.detection.submission.digits import result_lines  # loads numba

    corners = rbox_to_quad(record.boxes)
    keep = solid(corners)
    texts = np.array(score_texts(record.scores), dtype="S")
    for task, files in contents.items():
        table = corners.reshape(-1, 8) if task == "Task1" else _upright(corners)
        for label in np.unique(record.labels[keep]):
            mine = np.flatnonzero(keep & (record.labels == label))
            files[label].write(result_lines(record.name, texts[mine], table[mine]))
    return int(keep.sum())


def _upright(corners: np.ndarray) -> np.ndarray:
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _refuse_blanks(name: str, kind: str) -> None:
    if len(name.split()) != 1:
        raise DataError(
            f"{kind} name {name!r} cannot stand in a DOTA result file, whose fields end at blanks",
            cure=f"rename the {kind}",
        )
