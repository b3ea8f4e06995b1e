"""Reading one label file per image, in any of the formats."""

from collections.abc import Callable, Iterable
from pathlib import Path

from rsfoundation.detection.datasets.scan import Picture, Scan
from rsfoundation.detection.label_table import LabelTable
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.detection.patch_names import parse_patch_name
from rsfoundation.detection.pixels import image_size
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import DotaLabel, Policy

LabelReader = Callable[[Path, Policy], DotaLabel]
_NOTHING = DotaLabel(())


def read_labels(
    files: Iterable[tuple[Path, Path | None]], read: LabelReader, policy: Policy, left_out: LeftOut
) -> Scan:
    """Read the labels of some images.

    Args:
        files: Image and label file (``None``: no labels) of each.
        read: Reads one label file.
        policy: What malformed objects and files do.
        left_out: Takes the counts; becomes the scan's.

    Raises:
        DataError: Under ``fail``, a label file is malformed.
    """
    pictures: list[Picture] = []
    objects = []
    for image, label in files:
        try:
            content = _NOTHING if label is None else read(label, policy)
        except DataError:
            if policy == "fail":
                raise
            left_out.note("unreadable label files", [label.name if label else image.name])
            continue
        left_out.note("malformed label lines", [label.name for _ in content.skipped] if label else [])
        size = content.size or _size(image, look=bool(content.objects))
        pictures.append(Picture(image.stem, str(image), str(label) if label else None, size))
        objects.append(content.objects)
    return Scan(tuple(pictures), LabelTable.of(objects), left_out)


def _size(image: Path, look: bool) -> tuple[int, int] | None:
    """Return width and height from the name of a patch, or the head of the file if it may be opened."""
    patch = parse_patch_name(image.stem)
    if patch is not None and patch.window > 1:
        return patch.window, patch.window
    if not look:
        return None
    try:
        return image_size(image)
    except DataError:
        return None  # a broken image is reported when it is decoded
