"""Scenes whose classes are in a table: a data set of one's own for scene recognition."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rsfoundation.datasets.classification import SceneDataset, SceneEntry
from rsfoundation.registry import DATASETS


@DATASETS.register_module()
class SceneTable(SceneDataset):
    """Images named by a CSV table with the columns ``image``, ``land_use`` and ``part``.

    All else is inherited: classes, several labels, the dataset report of missing files and unknown classes.

    Args:
        data_root: The folder that ``image`` is relative to.
        table: The table, relative to ``data_root``.
        part: Rows with another value in the column ``part`` are left out.
        **kwargs: As for ``SceneDataset``.
    """

    def __init__(self, data_root: str, table: str, part: str, **kwargs: Any) -> None:
        self.part = part
        super().__init__(data_root=data_root, ann_file=table, **kwargs)

    def read_list(self, file: Path) -> Iterator[SceneEntry]:
        """Yield the images of the part with the names of their classes."""
        with file.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                if row["part"] == self.part:
                    classes = tuple(row["land_use"].split("|"))
                    yield SceneEntry(str(file.parent / row["image"]), classes, f"{file}:{number}")
