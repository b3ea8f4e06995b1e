"""The entries of a data set, kept as columns: a dict is made when an entry is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport, Policy, note_or_raise
from rsfoundation.geometry.boxes import is_crossed, short_sides
from rsfoundation.io.dota import DotaObject


@dataclass(frozen=True)
class LabelTable:
    """Objects of ``N`` images, ``M`` in all, image by image.

    Attributes:
        ends: Where the objects of each image end ``(N,)``; they begin where those of the one before end.
        quads: Corners ``(M, 8)`` in pixels of the image.
        kinds: Index of each object's class name in ``names``.
        names: Class names as written.
        difficulties: 0 easy, 1 difficult, 2 cut by a window.
        lines: One-based line in the label file, 0 where there is none.
        short_sides: Shorter side of the smallest rectangle around each object, in pixels.
        crossed: Whether the corners of each object stand in crossed order.
    """

    ends: NDArray[np.int64]
    quads: NDArray[np.float64]
    kinds: NDArray[np.int32]
    names: tuple[str, ...]
    difficulties: NDArray[np.int32]
    lines: NDArray[np.int32]
    short_sides: NDArray[np.float64]
    crossed: NDArray[np.bool_]

    @classmethod
    def of(cls, images: Sequence[Sequence[DotaObject]]) -> "LabelTable":
        """Gather the objects of some images."""
        objects = [item for image in images for item in image]
        names = {name: index for index, name in enumerate(dict.fromkeys(item.name for item in objects))}
        quads = np.array([item.quad for item in objects], dtype=np.float64).reshape(-1, 8)
        return cls(
            ends=np.cumsum([len(image) for image in images], dtype=np.int64),
            quads=quads,
            kinds=np.array([names[item.name] for item in objects], dtype=np.int32),
            names=tuple(names),
            difficulties=np.array([item.difficulty for item in objects], dtype=np.int32),
            lines=np.array([item.line for item in objects], dtype=np.int32),
            short_sides=short_sides(quads),
            crossed=is_crossed(quads),
        )

    @property
    def owners(self) -> NDArray[np.int64]:
        """Index of the image ``(M,)`` that each object belongs to."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))

    def objects(self) -> list[tuple[DotaObject, ...]]:
        """Return the objects of every image."""
        columns = zip(
            self.quads.tolist(),
            self.kinds.tolist(),
            self.difficulties.tolist(),
            self.lines.tolist(),
            strict=True,
        )
        items = [DotaObject(tuple(quad), self.names[kind], *rest) for quad, kind, *rest in columns]
        ends = self.ends.tolist()
        return [tuple(items[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    @classmethod
    def joined(cls, tables: Sequence["LabelTable"]) -> "LabelTable":
        """Put the images of some tables one after the other."""
        names = {name: 0 for table in tables for name in table.names}
        names = {name: index for index, name in enumerate(names)}
        starts = np.cumsum([0, *(len(table.quads) for table in tables)])
        kinds = [
            np.array([names[name] for name in table.names], dtype=np.int32)[table.kinds] for table in tables
        ]
        return cls(
            ends=np.concatenate([table.ends + start for table, start in zip(tables, starts, strict=False)]),
            quads=np.concatenate([table.quads for table in tables]),
            kinds=np.concatenate(kinds),
            names=tuple(names),
            difficulties=np.concatenate([table.difficulties for table in tables]),
            lines=np.concatenate([table.lines for table in tables]),
            short_sides=np.concatenate([table.short_sides for table in tables]),
            crossed=np.concatenate([table.crossed for table in tables]),
        )

    def take(self, images: NDArray[np.integer]) -> "LabelTable":
        """Return the objects of some images, in the order given."""
        counts = np.diff(self.ends, prepend=0)[images]
        ends = np.cumsum(counts)
        # an object keeps its place within its image; only where the image begins is another row
        rows = np.arange(counts.sum()) + np.repeat(self.ends[images] - ends, counts)
        return LabelTable(
            ends=ends,
            quads=self.quads[rows],
            kinds=self.kinds[rows],
            names=self.names,
            difficulties=self.difficulties[rows],
            lines=self.lines[rows],
            short_sides=self.short_sides[rows],
            crossed=self.crossed[rows],
        )


@dataclass(frozen=True)
class ImageInfo:
    """One image of a data set.

    Attributes:
        name: What results call it; unique in the data set.
        path: Image file.
        label: File its labels come from; ``None`` for an image without labels.
        size: Width and height in pixels, where the labels, an index or the name tell.
        window: ``(x, y, side)`` of the square that is read of the file; ``None`` reads all of it.
    """

    name: str
    path: str
    label: str | None = None
    size: tuple[int, int] | None = None
    window: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Scan:
    """The images of a data set and their objects, in the order of the data set.

    Attributes:
        pictures: The images.
        table: Their objects.
        left_out: What reading left out already.
    """

    pictures: tuple[ImageInfo, ...]
    table: LabelTable
    left_out: DatasetReport = field(default_factory=DatasetReport)


def file_name(path: str | Path | None) -> str:
    """Return the last part of a path for a report; nothing for none."""
    return Path(path).name if path else ""


def join_scans(scans: Sequence[Scan], policy: Policy) -> Scan:
    """Put several splits together as one.

    Args:
        scans: The splits.
        policy: What a picture does that is called like an earlier one: ``fail`` raises, ``skip`` leaves
            it out and counts it.

    Raises:
        DataError: Under ``fail``, two pictures have one name.
    """
    left_out = DatasetReport()
    for scan in scans:
        left_out.merge(scan.left_out)
    first: dict[str, ImageInfo] = {}
    pictures = tuple(chain.from_iterable(scan.pictures for scan in scans))
    keep = np.ones(len(pictures), dtype=bool)
    for row, picture in enumerate(pictures):
        earlier = first.setdefault(picture.name, picture)
        if earlier is not picture:
            keep[row] = False
            where = f"{earlier.path} and {picture.path}"
            error = DataError(f"two images are called {picture.name}", where=where, fix="rename one of them")
            note_or_raise(left_out, "images called like an earlier one", error, picture.path, policy)
    table = scans[0].table if len(scans) == 1 else LabelTable.joined([scan.table for scan in scans])
    kept = tuple(picture for picture, good in zip(pictures, keep, strict=True) if good)
    return Scan(kept, table if keep.all() else table.take(np.flatnonzero(keep)), left_out)


@dataclass(frozen=True, eq=False)
class Entries(Sequence[dict]):
    """``N`` images and their ``M`` objects.

    Columns load in a fraction of the time that a dict per object takes, and workers share them without
    copies, which is what mmengine serialises lists for.

    Attributes:
        names: Of the images.
        paths: Of their files.
        sizes: Width and height ``(N, 2)``, -1 where they are not known.
        windows: ``x y side`` ``(N, 3)`` of the part of the file that is the image; side 0: all of it.
        ends: Where the objects of each image end.
        quads: Corners ``(M, 8)`` in pixels of the image.
        labels: Class of each object.
        ignored: 1 for objects that are neither trained on nor counted.
        difficulties: Of each object, as labelled.
    """

    names: NDArray[np.str_]
    paths: NDArray[np.str_]
    sizes: NDArray[np.int64]
    windows: NDArray[np.int64]
    ends: NDArray[np.int64]
    quads: NDArray[np.float64]
    labels: NDArray[np.int64]
    ignored: NDArray[np.int64]
    difficulties: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        pictures: Sequence[ImageInfo],
        ends: NDArray[np.int64],
        quads: NDArray[np.float64],
        labels: NDArray[np.int64],
        ignored: NDArray[np.int64],
        difficulties: NDArray[np.int32],
    ) -> "Entries":
        """Put images and objects together."""
        return cls(
            np.array([picture.name for picture in pictures], dtype=np.str_),
            np.array([picture.path for picture in pictures], dtype=np.str_),
            np.array([picture.size or (-1, -1) for picture in pictures], dtype=np.int64).reshape(-1, 2),
            np.array([picture.window or (0, 0, 0) for picture in pictures], dtype=np.int64).reshape(-1, 3),
            ends,
            quads,
            labels,
            ignored,
            difficulties,
        )

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: slice) -> "Entries": ...

    def __getitem__(self, key: int | slice) -> "dict[str, Any] | Entries":
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        row = range(len(self))[key]
        entry: dict[str, Any] = {
            "img_id": str(self.names[row]),
            "img_path": str(self.paths[row]),
            "instances": self._instances(row),
        }
        if self.sizes[row, 0] >= 0:
            entry["width"], entry["height"] = self.sizes[row].tolist()
        if self.windows[row, 2]:
            entry["window"] = tuple(self.windows[row].tolist())
        return entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: NDArray[np.int64]) -> "Entries":
        """Return some of the entries, in the order given."""
        counts = np.diff(self.ends, prepend=0)[rows]
        ends = np.cumsum(counts)
        objects = np.arange(counts.sum()) + np.repeat(self.ends[rows] - ends, counts)
        return replace(
            self,
            names=self.names[rows],
            paths=self.paths[rows],
            sizes=self.sizes[rows],
            windows=self.windows[rows],
            ends=ends,
            quads=self.quads[objects],
            labels=self.labels[objects],
            ignored=self.ignored[objects],
            difficulties=self.difficulties[objects],
        )

    def with_objects(self) -> NDArray[np.int64]:
        """Return the rows of images with an object that is not ignored."""
        owners = np.repeat(np.arange(len(self)), np.diff(self.ends, prepend=0))
        return np.unique(owners[self.ignored == 0])

    def objects_of(self, row: int) -> slice:
        """Return where the objects of an image stand."""
        return slice(int(self.ends[row - 1]) if row else 0, int(self.ends[row]))

    def _instances(self, row: int) -> list[dict[str, Any]]:
        part = self.objects_of(row)
        columns = (self.quads[part].tolist(), self.labels[part].tolist(), self.ignored[part].tolist())
        return [
            {"bbox": quad, "bbox_label": label, "ignore_flag": flag}
            for quad, label, flag in zip(*columns, strict=True)
        ]
