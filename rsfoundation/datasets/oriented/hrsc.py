"""HRSC2016 as distributed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport, Policy
from rsfoundation.datasets.oriented.annotations import Scan
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import HRSC_CLASSES
from rsfoundation.datasets.oriented.reading import images_by_name, pair_up, read_labels, split_names
from rsfoundation.io.dota import DotaLabel, DotaObject
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

_LISTS = ("ImageSets", "")
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

    def scan(self) -> Scan:
        """Read the xml files of the lists."""
        root, left_out = Path(self.data_root), DatasetReport()
        names = split_names(root, _LISTS, self.splits, self.on_error, left_out)
        labels = next((root / folder for folder in _LABELS if (root / folder).is_dir()), root / _LABELS[0])
        pairs = pair_up(
            names,
            images_by_name(root, _IMAGES),
            labels,
            self.on_error,
            left_out,
            needs_labels=not self.test_mode,
        )
        return read_labels(pairs, self._read, self.on_error, left_out)

    def _read(self, path: Path, policy: Policy) -> DotaLabel:
        return read_hrsc_xml(path, policy, classwise=self.classwise)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


def read_hrsc_xml(path: Path, policy: Policy = "fail", *, classwise: bool = False) -> DotaLabel:
    """Read one file: ``<HRSC_Object>`` with ``mbox_cx mbox_cy mbox_w mbox_h mbox_ang`` (radians, clockwise).

    Args:
        path: The file; one without objects is an image without ships.
        policy: What a malformed object does: ``fail`` raises, ``skip`` leaves it out and reports it.
        classwise: Name objects by their ``Class_ID`` (``1000000NN``); otherwise all are ``ship``.

    Raises:
        DataError: The file is no xml, or none of HRSC2016's; under ``fail``, an object is malformed.
    """
    root = parse_xml(path)
    if root.find("HRSC_Objects") is None and root.find("Img_SizeWidth") is None:
        raise DataError(
            "no label file of HRSC2016: there is neither <HRSC_Objects> nor <Img_SizeWidth>",
            where=path,
            fix=f"replace it, or leave it out with {SKIPPING}",
        )
    nodes = root.findall("HRSC_Objects/HRSC_Object")
    objects, skipped = read_objects(nodes, lambda node: _object(node, classwise), path, policy)
    return DotaLabel(objects, skipped=skipped, size=read_size(root, "Img_SizeWidth", "Img_SizeHeight"))


def _object(node: Element, classwise: bool) -> DotaObject:
    name = _class_name(read_text(node, "Class_ID")) if classwise else "ship"
    return DotaObject(quad_of_rbox(read_numbers(node, _BOX)), name, read_difficulty(node))


def _class_name(identity: str) -> str:
    """Return the name of ``1000000NN``; an id of no class stays, and is reported as an unknown class."""
    return HRSC_CLASSES.get(identity[-2:], identity)
