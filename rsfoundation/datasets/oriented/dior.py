"""DIOR and DIOR-R as distributed."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import Scan
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DIOR_CLASSES
from rsfoundation.datasets.oriented.reading import images_by_name, pair_up, read_labels, split_names
from rsfoundation.io.xml_labels import BoxKind, read_voc_xml
from rsfoundation.registry import DATASETS

_LISTS = ("ImageSets/Main", "ImageSets", "Main", "")
_IMAGES = ("JPEGImages-trainval", "JPEGImages-test", "JPEGImages", "JPEGImage")
_LABELS: dict[BoxKind, str] = {
    "oriented": "Annotations/Oriented Bounding Boxes",
    "horizontal": "Annotations/Horizontal Bounding Boxes",
}


@DATASETS.register_module()
class DIORDataset(OrientedDataset):
    """DIOR-R (oriented) and DIOR (horizontal): ``JPEGImages-*``, ``Annotations``, ``ImageSets/Main``.

    Class names are compared without capitals, blanks, hyphens and underscores, which differ between mirrors.

    Args:
        data_root: Folder of the data set.
        split: List below ``ImageSets/Main``, or several; ``trainval`` is ``train`` and ``val``, which is
            what published figures train on.
        boxes: Which of the two label sets.
        label_dir: Label folder below ``data_root``, where it is called otherwise.
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

    def scan(self) -> Scan:
        """Read the xml files of the lists."""
        root, left_out = Path(self.data_root), DatasetReport()
        names = split_names(root, _LISTS, self.splits, self.on_error, left_out)
        pairs = pair_up(
            names,
            images_by_name(root, _IMAGES),
            root / self.label_dir,
            self.on_error,
            left_out,
            needs_labels=not self.test_mode,
        )
        return read_labels(pairs, partial(read_voc_xml, kind=self.boxes), self.on_error, left_out)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"
