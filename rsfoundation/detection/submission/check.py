"""Checking an archive against the rules of its server before it is uploaded."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsfoundation.detection.submission.archive import file_names, open_zip
from rsfoundation.detection.submission.check_dota import check_dota, task_of
from rsfoundation.detection.submission.check_fair1m import check_fair1m
from rsfoundation.detection.submission.faults import Fault, Faults


@dataclass(frozen=True)
class Submission:
    """What an archive holds.

    Attributes:
        path: The archive.
        kind: ``DOTA Task1``, ``DOTA Task2`` or ``FAIR1M``.
        files: How many files.
        images: How many images have detections (DOTA) or a file (FAIR1M).
        detections: How many.
        faults: What is wrong with it, in the order of files and lines.
    """

    path: Path
    kind: str
    files: int
    images: int
    detections: int
    faults: tuple[Fault, ...]

    def refuse(self) -> None:
        """Raise what is wrong with it.

        Raises:
            DataError: Something is.
        """
        Faults(list(self.faults)).refuse()


def check_submission(
    path: Path, images: Collection[str] | None = None, classes: Sequence[str] | None = None
) -> Submission:
    """Check an archive: names, columns, scores, corners, duplicates, classes, images.

    Args:
        path: The archive.
        images: Names of the test images, without suffix. Not given: names are not checked.
        classes: Class names. Not given: those of the DOTA version that fits best, or FAIR1M's.

    Raises:
        DataError: The file is no zip archive.
    """
    path = Path(path)
    faults = Faults()
    known = None if images is None else frozenset(images)
    with open_zip(path) as archive:
        names = file_names(archive)
        if any(name.lower().endswith(".xml") for name in names):
            kind, check = "FAIR1M", check_fair1m
        else:
            kind, check = f"DOTA {task_of(names)}", check_dota
        seen, detections = check(archive, known, classes, faults)
    return Submission(path, kind, len(names), seen, detections, tuple(faults.found))
