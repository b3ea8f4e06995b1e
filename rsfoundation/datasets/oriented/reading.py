"""Data sets whose splits are lists of names: DIOR, HRSC2016."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport, Policy, note_or_raise
from rsfoundation.datasets.oriented.annotations import ImageInfo, LabelTable, Scan
from rsfoundation.geometry.tiling import parse_patch_name
from rsfoundation.io.dota import IMAGE_SUFFIXES, DotaLabel, SplitFiles
from rsfoundation.io.rasters import image_size

LabelReader = Callable[[Path, Policy], DotaLabel]
_NOTHING = DotaLabel(())


def read_labels(
    files: Iterable[tuple[Path, Path | None]], read: LabelReader, policy: Policy, left_out: DatasetReport
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
    pictures: list[ImageInfo] = []
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
        pictures.append(ImageInfo(image.stem, str(image), str(label) if label else None, size))
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


def read_folders(
    folders: Sequence[SplitFiles],
    read: LabelReader,
    policy: Policy,
    left_out: DatasetReport,
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


def _check(files: SplitFiles, policy: Policy, left_out: DatasetReport, needs_labels: bool) -> None:
    """Refuse images that look unlabelled by mistake; tell of labels without an image."""
    if not files.labelled and needs_labels:
        raise DataError(
            "no label folder, and training needs one: expected labelTxt/ or annfiles/ beside images/",
            where=files.images[0].parent.parent,
            fix="name it with label_dir='...' if it is called otherwise",
        )
    bare = [image for image, label in zip(files.images, files.labels, strict=True) if label is None]
    if files.labelled and bare:
        if policy == "fail":
            raise DataError(
                f"{len(bare)} of {len(files.images)} images have no label file",
                where=bare[0],
                fix="add the label files, with no object where an image shows none, or leave such images "
                f"out with {SKIPPING}",
            )
        left_out.note("images without a label file", [image.name for image in bare])
    left_out.note("label files without an image", [label.name for label in files.orphans])


def split_names(
    root: Path, folders: Sequence[str], splits: Sequence[str], policy: Policy, left_out: DatasetReport
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
                error = DataError(f"{name} is listed twice", where=where, fix="list each image once")
                note_or_raise(left_out, "names listed twice", error, name, policy)
            names.setdefault(name, path)
    if not names:
        raise DataError("the list is empty", where=lists[0], fix="write one image name a line")
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
    left_out: DatasetReport,
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
            "no label folder, and training needs one", where=labels, fix="unpack the annotations there"
        )
    pairs: list[tuple[Path, Path | None]] = []
    for name in names:
        image, label = images.get(name), labels / f"{name}.xml"
        if image is None:
            error = DataError(
                f"image {name} is listed and not there", where=labels.parent, fix="unpack all images"
            )
            note_or_raise(left_out, "listed images that are not there", error, name, policy)
        elif not labels.is_dir():
            pairs.append((image, None))
        elif not label.is_file():
            error = DataError("the image has no label file", where=label, fix="unpack all annotations")
            note_or_raise(left_out, "images without a label file", error, name, policy)
        else:
            pairs.append((image, label))
    return pairs


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list cannot be read as text: {error}", where=path, fix="replace it") from error


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
        fix="point data_root at the unpacked data set; data/README.md has its layout",
    )
