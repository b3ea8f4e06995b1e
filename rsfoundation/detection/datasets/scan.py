"""What a data set found on disk before anything is checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from rsfoundation.detection.label_table import LabelTable
from rsfoundation.detection.left_out import LeftOut, note_or_raise
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import Policy


@dataclass(frozen=True)
class Picture:
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

    pictures: tuple[Picture, ...]
    table: LabelTable
    left_out: LeftOut = field(default_factory=LeftOut)


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
    left_out = LeftOut()
    for scan in scans:
        for kind, files in scan.left_out.files.items():
            left_out.note(kind, files)
            left_out[kind] += scan.left_out[kind] - len(files)
    first: dict[str, Picture] = {}
    pictures = tuple(chain.from_iterable(scan.pictures for scan in scans))
    keep = np.ones(len(pictures), dtype=bool)
    for row, picture in enumerate(pictures):
        earlier = first.setdefault(picture.name, picture)
        if earlier is not picture:
            keep[row] = False
            where = f"{earlier.path} and {picture.path}"
            error = DataError(f"two images are called {picture.name}", where=where, cure="rename one of them")
            note_or_raise(left_out, "images called like an earlier one", error, picture.path, policy)
    table = scans[0].table if len(scans) == 1 else LabelTable.joined([scan.table for scan in scans])
    kept = tuple(picture for picture, good in zip(pictures, keep, strict=True) if good)
    return Scan(kept, table if keep.all() else table.take(np.flatnonzero(keep)), left_out)
