"""Data sets whose splits are lists of names: DIOR, HRSC2016."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from rsfoundation.detection.dota_files import IMAGE_SUFFIXES
from rsfoundation.detection.left_out import LeftOut, note_or_raise
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import Policy


def split_names(
    root: Path, folders: Sequence[str], splits: Sequence[str], policy: Policy, left_out: LeftOut
) -> list[str]:
    """Return the names that some lists give, in the order of the lists, each once.

    Args:
        root: Folder of the data set.
        folders: Where ``<split>.txt`` may lie below it; the first that has it counts.
        splits: The lists. A ``trainval`` that is not there is ``train`` and ``val`` together.
        policy: What a name that stands twice does.
        left_out: Takes the counts.

    Raises:
        DataError: A list is missing, empty or no text; under ``fail``, a name stands twice.
    """
    lists = list(chain.from_iterable(_list_files(root, folders, split) for split in splits))
    names: dict[str, Path] = {}
    for path in lists:
        for name in _read(path).split():
            if name in names:
                where = f"{names[name]} and {path}" if names[name] != path else path
                error = DataError(f"{name} is listed twice", where=where, cure="list each image once")
                note_or_raise(left_out, "names listed twice", error, name, policy)
            names.setdefault(name, path)
    if not names:
        raise DataError("the list is empty", where=lists[0], cure="write one image name a line")
    return list(names)


def images_by_name(root: Path, folders: Iterable[str]) -> dict[str, Path]:
    """Return the images of some folders below ``root`` by their names without suffix."""
    found: dict[str, Path] = {}
    for folder in folders:
        if (root / folder).is_dir():
            paths = sorted(
                path for path in (root / folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
            )
            found = {**{path.stem: path for path in paths}, **found}
    return found


def pair_up(
    names: Sequence[str],
    images: dict[str, Path],
    labels: Path,
    policy: Policy,
    left_out: LeftOut,
    *,
    needs_labels: bool,
) -> list[tuple[Path, Path | None]]:
    """Find image and label of every name.

    Args:
        names: The names.
        images: Image files by name.
        labels: Folder with ``<name>.xml``; where it is missing altogether, the split has no labels.
        policy: What a missing image or label does.
        left_out: Takes the counts.
        needs_labels: Whether a split without labels is an error.

    Raises:
        DataError: The label folder is missing and needed; under ``fail``, a file is missing.
    """
    if needs_labels and not labels.is_dir():
        raise DataError(
            "no label folder, and training needs one", where=labels, cure="unpack the annotations there"
        )
    pairs: list[tuple[Path, Path | None]] = []
    for name in names:
        image, label = images.get(name), labels / f"{name}.xml"
        if image is None:
            error = DataError(
                f"image {name} is listed and not there", where=labels.parent, cure="unpack all images"
            )
            note_or_raise(left_out, "listed images that are not there", error, name, policy)
        elif not labels.is_dir():
            pairs.append((image, None))
        elif not label.is_file():
            error = DataError("the image has no label file", where=label, cure="unpack all annotations")
            note_or_raise(left_out, "images without a label file", error, name, policy)
        else:
            pairs.append((image, label))
    return pairs


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list cannot be read as text: {error}", where=path, cure="replace it") from error


def _list_files(root: Path, folders: Sequence[str], split: str) -> list[Path]:
    for folder in folders:
        path = root / folder / f"{split}.txt"
        if path.is_file():
            return [path]
    if split == "trainval":
        return [file for part in ("train", "val") for file in _list_files(root, folders, part)]
    expected = " or ".join(str(root / folder / f"{split}.txt") for folder in folders)
    raise DataError(
        f"no list of the split {split!r}: expected {expected}",
        where=root,
        cure="point data_root at the unpacked data set; data/README.md has its layout",
    )
