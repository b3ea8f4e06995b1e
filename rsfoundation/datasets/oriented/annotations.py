"""The annotation table: images and oriented boxes of a data set as columns, the one form data sets keep.

A labelled box is converted four times on its way from a file to a loss:

| from            | to                                           | in                                      |
| --------------- | -------------------------------------------- | --------------------------------------- |
| line, XML, JSON | ``LabelledBox``, one object of one file      | the readers of :mod:`rsfoundation.io`   |
| ``LabelledBox`` | a row of :class:`AnnotationTable`            | :meth:`AnnotationTable.build`           |
| a row           | mmdet's ``instances`` dict of one image      | :meth:`AnnotationTable.__getitem__`     |
| the dict        | mmrotate's ``QuadriBoxes``, ``RotatedBoxes`` | ``LoadAnnotations``, ``ConvertBoxType`` |

Columns load in a fraction of the time that a dict per object takes, and workers share them without copies,
which is what mmengine serialises lists for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.geometry.boxes import is_crossed, short_sides
from rsfoundation.io.dota import (
    IMAGE_SUFFIXES,
    LabelFile,
    LabelledBox,
    SplitFiles,
    pair_up,
    parse_patch_name,
    read_lines,
)
from rsfoundation.io.rasters import image_size

_OF_OBJECTS = ("quads", "labels", "difficulties", "ignored", "lines", "short_sides", "crossed")
_OF_IMAGES = ("names", "paths", "label_files", "sizes", "windows")


class ImageLabels(NamedTuple):
    """One image and its objects, as a reader hands them to :meth:`AnnotationTable.build`.

    Attributes:
        path: Image file.
        objects: Its objects.
        label_file: File they come from; ``None`` for an image without labels.
        size: Width and height in pixels; ``None`` where they are not known.
        name: Unique in the data set and used in results; the stem of ``path`` where it is empty.
    """

    path: Path
    objects: Sequence[LabelledBox]
    label_file: Path | None = None
    size: tuple[int, int] | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class AnnotationTable(Sequence[dict]):
    """``N`` images and their ``M`` objects, image by image; as a sequence it gives one dict per image.

    Attributes:
        names: Name of each image, unique in the data set.
        paths: Image files.
        label_files: Files their labels come from; empty text where there is none.
        sizes: Width and height ``(N, 2)``, -1 where they are not known.
        windows: ``x y side`` ``(N, 3)`` of the part of the file that is the image; side 0: all of it.
        ends: Where the objects of each image end ``(N,)``; they begin where those of the one before end.
        quads: Corners ``(M, 8)`` in pixels of the image.
        labels: Index of each object's class in ``class_names``; below 0 for classes that are not used.
        class_names: As written in the files; the classes of the data set once it is checked.
        difficulties: 0 easy, 1 difficult, 2 truncated by a window.
        ignored: 1 for objects that are neither trained on nor counted.
        lines: One-based line in the label file, 0 where there is none.
        short_sides: Shorter side of the smallest rectangle around each object, in pixels.
        crossed: Whether the corners of each object are in crossed order.
    """

    names: NDArray[np.str_]
    paths: NDArray[np.str_]
    label_files: NDArray[np.str_]
    sizes: NDArray[np.int64]
    windows: NDArray[np.int64]
    ends: NDArray[np.int64]
    quads: NDArray[np.float64]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    difficulties: NDArray[np.int32]
    ignored: NDArray[np.int64]
    lines: NDArray[np.int32]
    short_sides: NDArray[np.float64]
    crossed: NDArray[np.bool_]

    @classmethod
    def build(cls, images: Iterable[ImageLabels]) -> AnnotationTable:
        """Gather images one by one; no more than one image's objects are held as Python objects."""
        rows: list[tuple[str, str, str, tuple[int, int]]] = []
        classes: dict[str, int] = {}
        quads, labels, difficulties, lines, counts = [], [], [], [], [0]
        for image in images:
            rows.append(
                (
                    image.name or image.path.stem,
                    str(image.path),
                    str(image.label_file or ""),
                    image.size or (-1, -1),
                )
            )
            objects = image.objects
            counts.append(len(objects))
            quads.append(np.array([item.quad for item in objects], dtype=np.float64).reshape(-1, 8))
            labels.append(
                np.array([classes.setdefault(o.name, len(classes)) for o in objects], dtype=np.int64)
            )
            difficulties.append(np.array([item.difficulty for item in objects], dtype=np.int32))
            lines.append(np.array([item.line for item in objects], dtype=np.int32))
        names, paths, label_files, sizes = zip(*rows, strict=True) if rows else ((), (), (), ())
        corners = np.concatenate(quads) if quads else np.zeros((0, 8))
        return cls(
            names=np.array(names, dtype=np.str_),
            paths=np.array(paths, dtype=np.str_),
            label_files=np.array(label_files, dtype=np.str_),
            sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
            windows=np.zeros((len(rows), 3), dtype=np.int64),
            ends=np.cumsum(counts, dtype=np.int64)[1:],
            quads=corners,
            labels=np.concatenate([np.zeros(0, np.int64), *labels]),
            class_names=tuple(classes),
            difficulties=np.concatenate([np.zeros(0, np.int32), *difficulties]),
            ignored=np.zeros(len(corners), dtype=np.int64),
            lines=np.concatenate([np.zeros(0, np.int32), *lines]),
            short_sides=short_sides(corners),
            crossed=is_crossed(corners),
        )

    @classmethod
    def join(cls, tables: Sequence[AnnotationTable]) -> AnnotationTable:
        """Return the images of some tables one after the other."""
        if len(tables) == 1:
            return tables[0]
        classes = {name: 0 for table in tables for name in table.class_names}
        classes = {name: index for index, name in enumerate(classes)}
        starts = np.cumsum([0, *(len(table.quads) for table in tables)])
        columns = {
            name: np.concatenate([getattr(table, name) for table in tables])
            for name in (*_OF_IMAGES, *_OF_OBJECTS)
        }
        columns["ends"] = np.concatenate(
            [table.ends + start for table, start in zip(tables, starts, strict=False)]
        )
        columns["labels"] = np.concatenate(
            [
                np.array([classes[name] for name in table.class_names], dtype=np.int64)[table.labels]
                for table in tables
            ]
        )
        return cls(class_names=tuple(classes), **columns)

    def take(self, rows: NDArray[np.integer]) -> AnnotationTable:
        """Return some of the images with their objects, in the order given."""
        counts = np.diff(self.ends, prepend=0)[rows]
        ends = np.cumsum(counts)
        # an object keeps its place within its image; only the row where the image begins differs
        objects = np.arange(counts.sum()) + np.repeat(self.ends[rows] - ends, counts)
        return replace(
            self,
            ends=ends,
            **{name: getattr(self, name)[rows] for name in _OF_IMAGES},
            **{name: getattr(self, name)[objects] for name in _OF_OBJECTS},
        )

    def keep(self, objects: NDArray[np.bool_]) -> AnnotationTable:
        """Return all images with the objects where the mask ``(M,)`` is true."""
        ends = np.concatenate([[0], np.cumsum(objects)])[self.ends]
        return replace(self, ends=ends, **{name: getattr(self, name)[objects] for name in _OF_OBJECTS})

    @property
    def owners(self) -> NDArray[np.int64]:
        """Row of the image ``(M,)`` that each object belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))

    def objects_of(self, row: int) -> slice:
        """Return the rows of the objects of an image."""
        return slice(int(self.ends[row - 1]) if row else 0, int(self.ends[row]))

    def boxes_of(self, row: int) -> list[LabelledBox]:
        """Return the objects of an image as a label file has them."""
        part = self.objects_of(row)
        columns = (self.quads[part], self.labels[part], self.difficulties[part], self.lines[part])
        return [
            LabelledBox(tuple(quad), self.class_names[label], difficulty, line)
            for quad, label, difficulty, line in zip(*(column.tolist() for column in columns), strict=True)
        ]

    def with_objects(self) -> NDArray[np.int64]:
        """Return the rows of images with an object that is not ignored."""
        return np.unique(self.owners[self.ignored == 0])

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: slice) -> AnnotationTable: ...

    def __getitem__(self, key: int | slice) -> dict[str, Any] | AnnotationTable:
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        row = range(len(self))[key]
        part = self.objects_of(row)
        columns = (self.quads[part].tolist(), self.labels[part].tolist(), self.ignored[part].tolist())
        entry: dict[str, Any] = {
            "img_id": str(self.names[row]),
            "img_path": str(self.paths[row]),
            "instances": [
                {"bbox": quad, "bbox_label": label, "ignore_flag": flag}
                for quad, label, flag in zip(*columns, strict=True)
            ],
        }
        if self.sizes[row, 0] >= 0:
            entry["width"], entry["height"] = self.sizes[row].tolist()
        if self.windows[row, 2]:
            entry["window"] = tuple(self.windows[row].tolist())
        return entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


LabelReader = Callable[[Path, DatasetReport], LabelFile]
UNREADABLE_LABELS = "unreadable label files"  # kinds in reports
UNREADABLE_IMAGES = "unreadable images"
NO_LABEL = "images without a label file"
NO_IMAGE = "listed images that do not exist"
ORPHANS = "label files without an image"
SAME_NAME = "images with the name of an earlier one"
DIOR_LISTS = ("ImageSets/Main", "ImageSets", "Main", "")  # folders of lists of splits, as mirrors have them
HRSC_LISTS = ("ImageSets", "")


def read_labels(
    files: Iterable[tuple[Path, Path | None]], read: LabelReader, report: DatasetReport
) -> AnnotationTable:
    """Read the labels of some images.

    Args:
        files: Image and label file (``None``: no labels) of each.
        read: Reads one label file.
        report: Takes malformed objects and unreadable files, whose images are left out.
    """
    return AnnotationTable.build(_read_each(files, read, report))


def _read_each(
    files: Iterable[tuple[Path, Path | None]], read: LabelReader, report: DatasetReport
) -> Iterator[ImageLabels]:
    for image, label in files:
        try:
            content = LabelFile(()) if label is None else read(label, report)
        except DataError as error:
            report.error(UNREADABLE_LABELS, error, label or image)
            continue
        size = content.size or size_from_head(image, opened=bool(content.objects))
        yield ImageLabels(image, content.objects, label, size)


def size_from_head(image: Path, *, opened: bool = True) -> tuple[int, int] | None:
    """Return width and height from the name of a patch, or from the head of the file.

    Args:
        image: The image file.
        opened: Whether the file may be opened; otherwise the name alone is used.

    Returns:
        ``None`` where the size is not known: a broken image is reported when it is decoded.
    """
    patch = parse_patch_name(image.stem)
    if patch is not None and patch.window > 1:
        return patch.window, patch.window
    if not opened:
        return None
    try:
        return image_size(image)
    except DataError:
        return None


def read_folders(
    folders: Sequence[SplitFiles], read: LabelReader, report: DatasetReport, *, needs_labels: bool
) -> AnnotationTable:
    """Read the images and labels of some folders as one split.

    Args:
        folders: Their files.
        read: Reads one label file.
        report: Takes missing and malformed labels, and labels without an image.
        needs_labels: Whether a folder without labels is an error.

    Raises:
        DataError: Labels are needed and a folder has none at all.
    """
    pairs: list[tuple[Path, Path | None]] = []
    for files in folders:
        if not files.labelled and needs_labels:
            raise DataError(
                "no label folder, and training needs one: expected labelTxt/ or annfiles/ next to images/",
                where=files.images[0].parent.parent,
                fix="name it with label_dir='...' if it has another name",
            )
        report_unpaired(files, report)
        found = zip(files.images, files.labels, strict=True)
        pairs += [(image, label) for image, label in found if label is not None or not files.labelled]
    return read_labels(pairs, read, report)


def report_unpaired(files: SplitFiles, report: DatasetReport) -> None:
    """Report images without a label file as errors, and note label files without an image.

    Args:
        files: Of a split.
        report: Takes both.
    """
    if files.bare:
        error = DataError(
            f"{len(files.bare)} of {len(files.images)} images have no label file",
            where=files.bare[0],
            fix="add the label files, with no object where an image shows none, or leave such images "
            f"out with {SKIPPING}",
        )
        report.error(NO_LABEL, error, *files.bare)
    report.note(ORPHANS, [label.name for label in files.orphans])


def join_splits(tables: Sequence[AnnotationTable], report: DatasetReport) -> AnnotationTable:
    """Put several splits together as one.

    Args:
        tables: The splits.
        report: Takes the images that have the name of an earlier one, which are left out.
    """
    table = AnnotationTable.join(tables)
    first: dict[str, int] = {}
    keep = np.ones(len(table), dtype=bool)
    for row, name in enumerate(table.names.tolist()):
        earlier = first.setdefault(name, row)
        if earlier != row:
            keep[row] = False
            where = f"{table.paths[earlier]} and {table.paths[row]}"
            error = DataError(f"two images are called {name}", where=where, fix="rename one of them")
            report.error(SAME_NAME, error, str(table.paths[row]))
    return table if keep.all() else table.take(np.flatnonzero(keep))


def files_of_lists(
    root: Path,
    lists: Sequence[str],
    splits: Sequence[str],
    images: Iterable[str],
    labels: Path,
    report: DatasetReport,
) -> SplitFiles:
    """Return the files of a data set whose splits are lists of names, in the order of the lists.

    Args:
        root: Folder of the data set.
        lists: Folders below it that may hold ``<split>.txt``; the first that has it counts.
        splits: The lists. A ``trainval`` that does not exist is ``train`` and ``val`` together.
        images: Image folders below ``root``; of two images of one name the first counts.
        labels: Folder with ``<name>.xml``; where it does not exist, the split has no labels.
        report: Takes names that are listed twice, and listed images that do not exist.

    Raises:
        DataError: A list is missing, empty or no text.
    """
    known: dict[str, Path] = {}
    for folder in (root / below for below in images):
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() in IMAGE_SUFFIXES:
                    known.setdefault(path.stem, path)
    found = []
    for name in _listed_names(root, lists, splits, report):
        if name in known:
            found.append(known[name])
        else:
            error = DataError(
                f"image {name} is listed and does not exist", where=root, fix="unpack all images"
            )
            report.error(NO_IMAGE, error, name)
    files = (labels / f"{image.stem}.xml" for image in found)
    return pair_up(found, [file for file in files if file.is_file()] if labels.is_dir() else None)


def _listed_names(
    root: Path, folders: Sequence[str], splits: Sequence[str], report: DatasetReport
) -> list[str]:
    """Return the names of some lists, each once."""
    paths = [path for split in splits for path in _list_files(root, folders, split)]
    names: dict[str, Path] = {}
    for path in paths:
        for name in " ".join(read_lines(path)).split():
            if name in names:
                where = f"{names[name]} and {path}" if names[name] != path else path
                error = DataError(f"{name} is listed twice", where=where, fix="list each image once")
                report.error("names listed twice", error, name)
            names.setdefault(name, path)
    if not names:
        raise DataError("the list is empty", where=paths[0], fix="write one image name a line")
    return list(names)


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
