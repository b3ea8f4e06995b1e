"""Data sets whose splits are folders: ``images/`` beside a folder of label files."""

from collections.abc import Sequence
from pathlib import Path

from rsfoundation.detection.datasets.reading import LabelReader, read_labels
from rsfoundation.detection.datasets.scan import Scan
from rsfoundation.detection.dota_files import SplitFiles
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import SKIPPING, Policy


def read_folders(
    folders: Sequence[SplitFiles],
    read: LabelReader,
    policy: Policy,
    left_out: LeftOut,
    *,
    needs_labels: bool,
) -> Scan:
    """Read the images and labels of some folders as one split.

    Args:
        folders: Their files.
        read: Reads one label file.
        policy: What missing or malformed labels do.
        left_out: Takes the counts.
        needs_labels: Whether a folder without labels is an error.

    Raises:
        DataError: Labels are needed and missing altogether; under ``fail``, some are missing or malformed.
    """
    pairs: list[tuple[Path, Path | None]] = []
    for files in folders:
        _check(files, policy, left_out, needs_labels)
        found = zip(files.images, files.labels, strict=True)
        pairs += [(image, label) for image, label in found if label is not None or not files.labelled]
    return read_labels(pairs, read, policy, left_out)


def _check(files: SplitFiles, policy: Policy, left_out: LeftOut, needs_labels: bool) -> None:
    """Refuse images that look unlabelled by mistake; tell of labels without an image."""
    if not files.labelled and needs_labels:
        raise DataError(
            "no label folder, and training needs one: expected labelTxt/ or annfiles/ beside images/",
            where=files.images[0].parent.parent,
            cure="name it with label_dir='...' if it is called otherwise",
        )
    bare = [image for image, label in zip(files.images, files.labels, strict=True) if label is None]
    if files.labelled and bare:
        if policy == "fail":
            raise DataError(
                f"{len(bare)} of {len(files.images)} images have no label file",
                where=bare[0],
                cure="add the label files, with no object where an image shows none, or leave such images "
                f"out with {SKIPPING}",
            )
        left_out.note("images without a label file", [image.name for image in bare])
    left_out.note("label files without an image", [label.name for label in files.orphans])
