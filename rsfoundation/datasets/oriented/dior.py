"""DIOR and DIOR-R as distributed."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import (
    DIOR_LISTS,
    AnnotationTable,
    files_of_lists,
    read_folders,
)
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DIOR_CLASSES
from rsfoundation.io.dota import list_images, pair_up
from rsfoundation.io.xml_labels import BoxKind, read_voc_xml
from rsfoundation.registry import DATASETS

_IMAGES = ("JPEGImages-trainval", "JPEGImages-test", "JPEGImages", "JPEGImage")
_PARTS = ("Images", "Annotations")  # torchgeo's mirror: a folder for each split in both
_LABELS: dict[BoxKind, str] = {
    "oriented": "Annotations/Oriented Bounding Boxes",
    "horizontal": "Annotations/Horizontal Bounding Boxes",
}


@DATASETS.register_module()
class DIORDataset(OrientedDataset):
    """DIOR-R (oriented) and DIOR (horizontal): ``JPEGImages-*``, ``Annotations``, ``ImageSets/Main``.

    DIOR with ``Images/<split>`` and ``Annotations/<split>`` is read, too.

    Class names are compared without capitals, blanks, hyphens and underscores, which differ between mirrors.

    Args:
        data_root: Folder of the data set.
        split: List below ``ImageSets/Main``, or several; ``trainval`` is ``train`` and ``val``, which is
            what published results train on.
        boxes: Which of the two label sets.
        label_dir: Label folder below ``data_root``, where it has another name.
        **kwargs: See :class:`OrientedDataset`.
    """

    CLASSES = DIOR_CLASSES
    FAMILY = frozenset(DIOR_CLASSES)

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "trainval",
        boxes: BoxKind = "oriented",
        label_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.boxes: BoxKind = boxes
        self.label_dir = label_dir or _LABELS[boxes]
        super().__init__(data_root=data_root, **kwargs)

    def class_key(self, name: str) -> str:
        """Drop capitals and everything between words."""
        return re.sub(r"[\s_-]", "", name).lower()

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read the xml files of the lists."""
        root, read = Path(self.data_root), partial(read_voc_xml, kind=self.boxes)
        parts = [(root / _PARTS[0] / split, root / _PARTS[1] / split) for split in self.splits]
        if all(images.is_dir() and labels.is_dir() for images, labels in parts):
            pairs = [pair_up(list_images(images), sorted(labels.glob("*.xml"))) for images, labels in parts]
            return read_folders(pairs, read, report, needs_labels=not self.test_mode)
        files = files_of_lists(root, DIOR_LISTS, self.splits, _IMAGES, root / self.label_dir, report)
        return read_folders([files], read, report, needs_labels=not self.test_mode)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"
