"""HRSC2016 as distributed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.datasets.oriented.annotations import (
    HRSC_LISTS,
    AnnotationTable,
    files_of_lists,
    read_folders,
)
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import HRSC_CLASSES
from rsfoundation.io.dota import LabelFile, LabelledBox
from rsfoundation.io.xml_labels import (
    parse_xml,
    quad_of_rbox,
    read_difficulty,
    read_numbers,
    read_objects,
    read_size,
    read_text,
)
from rsfoundation.registry import DATASETS

_IMAGES = ("FullDataSet/AllImages", "AllImages")
_LABELS = ("FullDataSet/Annotations", "Annotations")
_BOX = ("mbox_cx", "mbox_cy", "mbox_w", "mbox_h", "mbox_ang")


@DATASETS.register_module()
class HRSCDataset(OrientedDataset):
    """HRSC2016: ``FullDataSet/{AllImages,Annotations}`` and ``ImageSets/{train,val,trainval,test}.txt``.

    Args:
        data_root: Folder of the data set.
        split: List below ``ImageSets``, or several.
        classwise: The 31 classes instead of one, ``ship``.
        metainfo: See :class:`OrientedDataset`.
        **kwargs: See :class:`OrientedDataset`.
    """

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "trainval",
        classwise: bool = False,
        metainfo: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.classwise = classwise
        classes = tuple(HRSC_CLASSES.values()) if classwise else ("ship",)
        super().__init__(data_root=data_root, metainfo={"classes": classes, **(metainfo or {})}, **kwargs)

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read the xml files of the lists."""
        root = Path(self.data_root)
        labels = next((root / folder for folder in _LABELS if (root / folder).is_dir()), root / _LABELS[0])
        files = files_of_lists(root, HRSC_LISTS, self.splits, _IMAGES, labels, report)
        read = partial(read_hrsc_xml, classwise=self.classwise)
        return read_folders([files], read, report, needs_labels=not self.test_mode)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


def read_hrsc_xml(path: Path, report: DatasetReport | None = None, *, classwise: bool = False) -> LabelFile:
    """Read one file: ``<HRSC_Object>`` with ``mbox_cx mbox_cy mbox_w mbox_h mbox_ang`` (radians, clockwise).

    Args:
        path: The file; one without objects is an image without ships.
        report: Takes the malformed objects, which are left out; without one they raise.
        classwise: Name objects by their ``Class_ID`` (``1000000NN``); otherwise all are ``ship``.

    Raises:
        DataError: The file is no xml, or none of HRSC2016's; without a report, an object is malformed.
    """
    root = parse_xml(path)
    if root.find("HRSC_Objects") is None and root.find("Img_SizeWidth") is None:
        raise DataError(
            "no label file of HRSC2016: there is neither <HRSC_Objects> nor <Img_SizeWidth>",
            where=path,
            fix=f"replace it, or leave it out with {SKIPPING}",
        )
    nodes = root.findall("HRSC_Objects/HRSC_Object")
    objects = read_objects(nodes, lambda node: _object(node, classwise), path, report)
    return LabelFile(objects, size=read_size(root, "Img_SizeWidth", "Img_SizeHeight"))


def _object(node: Element, classwise: bool) -> LabelledBox:
    name = _class_name(read_text(node, "Class_ID")) if classwise else "ship"
    return LabelledBox(quad_of_rbox(read_numbers(node, _BOX)), name, read_difficulty(node))


def _class_name(identity: str) -> str:
    """Return the name of ``1000000NN``; an id of no class stays, and is reported as an unknown class."""
    return HRSC_CLASSES.get(identity[-2:], identity)
