"""Checking an archive against the rules of its server before it is uploaded."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.submission.check_dota import TASKS, check_dota, is_of, task_of
from rsfoundation.evaluation.submission.check_fair1m import check_fair1m
from rsfoundation.evaluation.submission.checks import Fault, Faults, ImageNames, file_names, open_zip


@dataclass(frozen=True)
class Submission:
    """What an archive holds.

    Attributes:
        path: The archive.
        kind: ``DOTA Task1``, ``DOTA Task2`` or ``FAIR1M``.
        files: How many files.
        images: How many images have detections (DOTA) or a file (FAIR1M).
        detections: How many.
        faults: What is wrong with it, in the order of files and lines; the first thousand.
        counts: How many faults there are of each kind, those beyond a thousand among them.
    """

    path: Path
    kind: str
    files: int
    images: int
    detections: int
    faults: tuple[Fault, ...]
    counts: Mapping[str, int]

    @property
    def fault_count(self) -> int:
        """How many faults there are, those beyond a thousand among them."""
        return sum(self.counts.values())

    def refuse(self) -> None:
        """Raise the first fault, with the number of others of each kind.

        Raises:
            DataError: There is a fault.
        """
        if not self.faults:
            return
        first = self.faults[0]
        others = Counter(self.counts) - Counter([first.kind])
        told = ", ".join(f"{count} x {kind}" for kind, count in others.items())
        more = f"; further faults: {told}" if told else ""
        raise DataError(
            f"the server would not accept this: {first.what}{more}", where=first.where, fix=first.fix
        )


def check_submission(
    path: Path, images: Collection[str] | None = None, classes: Sequence[str] | None = None
) -> Submission:
    """Check an archive: names, columns, scores, corners, duplicates, classes, images.

    Args:
        path: The archive.
        images: Names of the test images, without suffix. Not given: any name is accepted that is no patch's
            and has no suffix of an image.
        classes: Class names. Not given: those of the DOTA version that fits best, or FAIR1M's.

    Raises:
        DataError: The file is no zip archive, or holds no file.
    """
    path = Path(path)
    faults = Faults()
    known = ImageNames(None if images is None else frozenset(images))
    with open_zip(path) as archive:
        names = file_names(archive)
        if not names:
            raise DataError("the archive holds no file", where=path, fix="zip the result files")
        fair1m = _is_fair1m(names)
        check, kind = (check_fair1m, "FAIR1M") if fair1m else (check_dota, f"DOTA {task_of(names)}")
        seen, detections = check(archive, names, known, classes, faults)
    return Submission(path, kind, len(names), seen, detections, tuple(faults.found), faults.counts)


def _is_fair1m(names: Sequence[str]) -> bool:
    """Tell by most of its files which server an archive is for."""
    documents = sum(name.lower().endswith(".xml") for name in names)
    return documents > sum(is_of(task, name) for name in names for task in TASKS)
