"""The entries of a data set, kept as columns: a dict is made when an entry is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from rsfoundation.detection.datasets.scan import Picture


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
        pictures: Sequence[Picture],
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
