"""Finding the images and label files of one DOTA split on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rsfoundation.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
LABEL_FOLDERS = ("labelTxt", "annfiles")  # as distributed, and as tiled
_LAYOUT = (
    "expected <root>/<split>/images/*.png and <root>/<split>/labelTxt/*.txt "
    "(tiled data: annfiles/*.txt; FAIR1M: labelXml/*.xml)"
)
_CURE = (
    "point at a folder of that layout: <root>/<split> for `rsf prepare`, data_root and split in a config "
    "(data/README.md has the command that makes it for each data set; `rsf prepare toy` draws the toy scenes)"
)


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split, in name order.

    Attributes:
        images: Every image.
        labels: Label file of each image; ``None`` for an image without one.
        labelled: Whether the split has a label folder at all.
        orphans: Label files without an image.
    """

    images: tuple[Path, ...]
    labels: tuple[Path | None, ...]
    labelled: bool
    orphans: tuple[Path, ...]


def find_split(
    root: Path, split: str, label_dir: str | None = None, version: str | None = None
) -> SplitFiles:
    """List the images and labels of a split, whatever order the file system has them in.

    Args:
        root: Folder of the data set.
        split: Folder of the split below it; may be empty.
        label_dir: Label folder below the split; found by its usual names when ``None``.
        version: Of DOTA. A folder of labels with this version in its name goes before ``labelTxt``.

    Raises:
        DataError: The folder or its images are missing, or two images share a stem.
    """
    folder = root / split
    for needed in (root, folder):
        if not needed.is_dir():
            raise DataError(f"data folder not found: {needed}; {_LAYOUT}", where=needed, cure=_CURE)
    images = list_images(folder / "images")
    label_folder = find_label_folder(folder, label_dir, version)
    return pair_up(images, sorted(label_folder.glob("*.txt")) if label_folder else None)


def pair_up(images: Sequence[Path], labels: Sequence[Path] | None) -> SplitFiles:
    """Give every image the label file of its stem; ``None`` for a split without labels."""
    if labels is None:
        return SplitFiles(tuple(images), (None,) * len(images), False, ())
    files = {path.stem: path for path in labels}
    mine = tuple(files.pop(path.stem, None) for path in images)
    return SplitFiles(tuple(images), mine, True, tuple(files.values()))


def find_label(image: Path) -> Path | None:
    """Return the label file of ``<split>/images/<name>.<suffix>``, or ``None`` where there is none."""
    folder = find_label_folder(image.parent.parent)
    label = folder / f"{image.stem}.txt" if folder and image.parent.name == "images" else None
    return label if label and label.is_file() else None


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the images of a folder in name order.

    Raises:
        DataError: The folder is missing or has none, or two share a stem.
    """
    if not folder.is_dir():
        raise DataError(f"data folder not found: {folder}; {_LAYOUT}", where=folder, cure=_CURE)
    images = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise DataError(
            f"no image in the folder; {_LAYOUT}; known suffixes: {known}", where=folder, cure=_CURE
        )
    for first, second in pairwise(images):
        if first.stem == second.stem:
            raise DataError(
                f"{first.name} and {second.name} would share one label file",
                where=folder,
                cure="keep one of the two",
            )
    return tuple(images)


def find_label_folder(folder: Path, label_dir: str | None = None, version: str | None = None) -> Path | None:
    """Return the label folder of a split, or ``None`` where there is none.

    Args:
        folder: Of the split.
        label_dir: Its name below the split; found by the usual names when ``None``.
        version: Of DOTA. A folder with this version in its name goes before the usual ones.

    Raises:
        DataError: There is no folder ``label_dir``.
    """
    if label_dir is None:
        usual = [folder / name for name in LABEL_FOLDERS]
        places = [*version_folders(folder, version), *usual] if version else usual
        return next((place for place in places if place.is_dir()), None)
    if not (folder / label_dir).is_dir():
        raise DataError(f"label folder {label_dir!r} not found", where=folder / label_dir, cure=_CURE)
    return folder / label_dir


def version_folders(folder: Path, version: str) -> list[Path]:
    """Return where the known mirrors have the labels of one version of DOTA below a split."""
    outer = f"labelTxt-v{version}"
    names = (
        f"{outer}/labelTxt",
        f"{outer}/DOTA-v{version}_{folder.name}",
        outer,
        f"annotations/version{version}",
    )
    return [folder / name for name in names]
