"""The labels of many images, column by column: quick to check, quick to store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rsfoundation.structures.dota_txt import DotaObject
from rsfoundation.structures.quads import is_crossed, short_sides


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
