"""Checking an archive against the rules of its server before it is uploaded."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.submission.archive import file_names, open_zip
from rsfoundation.evaluation.submission.dota_results import TASKS, check_dota, is_of_task, task_of
from rsfoundation.evaluation.submission.fair1m_results import check_fair1m, is_xml
from rsfoundation.evaluation.submission.problems import ImageNames, Problem, ProblemReport
from rsfoundation.io.dota import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Submission:
    """Content and problems of an archive.

    Attributes:
        path: The archive.
        kind: ``DOTA Task1``, ``DOTA Task2``, ``FAIR1M``, ``LoveDA`` or ``UAVid``.
        files: Number of files.
        images: Number of images with detections (DOTA) or with a file (others).
        detections: Number of detections; ``None`` for label maps.
        problems: What the server would reject, in the order of files and lines; the first thousand.
        counts: Number of problems of each kind, including those beyond a thousand.
    """

    path: Path
    kind: str
    files: int
    images: int
    detections: int | None
    problems: tuple[Problem, ...]
    counts: Mapping[str, int]

    @property
    def problem_count(self) -> int:
        """Number of problems, including those beyond a thousand."""
        return sum(self.counts.values())

    def raise_problem(self) -> None:
        """Raise the first problem, with the number of others of each kind.

        Raises:
            DataError: There is a problem.
        """
        if not self.problems:
            return
        first = self.problems[0]
        others = Counter(self.counts) - Counter([first.kind])
        rest = ", ".join(f"{count} x {kind}" for kind, count in others.items())
        more = f"; further problems: {rest}" if rest else ""
        raise DataError(
            f"the server would not accept this: {first.what}{more}", where=first.where, fix=first.fix
        )


def check_submission(
    path: Path, images: Collection[str] | Path | None = None, classes: Sequence[str] | None = None
) -> Submission:
    """Check an archive: names, columns, scores, corners, duplicates, classes, images; or label maps.

    Args:
        path: The archive.
        images: Names of the test images, without suffix, or their folder; label maps are compared with the
            images of a folder only. Not given: any name is accepted that is no patch's and has no suffix of
            an image.
        classes: Class names of detections. Not given: those of the DOTA version that fits best, or FAIR1M's.

    Raises:
        DataError: The file is no zip archive, or holds no file; a label map is refused.
    """
    path = Path(path)
    report = ProblemReport()
    with open_zip(path) as archive:
        names = file_names(archive)
        if not names:
            raise DataError("the archive holds no file", where=path, fix="zip the result files")
        if 2 * sum(name.lower().endswith(".png") for name in names) > len(names):
            return _check_label_maps(path, names, images if isinstance(images, Path) else None)
        listed = list_images(images) if isinstance(images, Path) else images
        known = ImageNames(None if listed is None else frozenset(listed))
        fair1m = is_fair1m(names)
        check, kind = (check_fair1m, "FAIR1M") if fair1m else (check_dota, f"DOTA {task_of(names)}")
        seen, detections = check(archive, names, known, classes, report)
    return Submission(path, kind, len(names), seen, detections, tuple(report.problems), report.counts)


def _check_label_maps(path: Path, names: Sequence[str], images: Path | None) -> Submission:
    # Imported here: it needs mmseg, whose import takes seconds.
    from rsfoundation.evaluation.submission.label_maps import check_label_maps, image_sizes, server_of

    server = server_of(names)
    done = check_label_maps(path, server, None if images is None else image_sizes(images, server))
    kind = dict(loveda="LoveDA", uavid="UAVid")[server]
    return Submission(path, kind, done.files, done.files, None, (), {})


def list_images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name without suffix.

    Raises:
        DataError: There is no image.
    """
    found = sorted(file for file in folder.glob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError("no image in the folder", where=folder, fix="name the folder of the full test images")
    return {file.stem: file for file in found}


def is_fair1m(names: Sequence[str]) -> bool:
    """Return whether most of an archive's files are for FAIR1M's server, and not for DOTA's."""
    documents = sum(map(is_xml, names))
    return documents > sum(is_of_task(task, name) for name in names for task in TASKS)
