"""SSDD and HRSID: ships in radar images, in the layouts that are about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rsfoundation.detection.datasets.base import OrientedDataset
from rsfoundation.detection.datasets.coco import read_coco
from rsfoundation.detection.datasets.folders import read_folders
from rsfoundation.detection.datasets.reading import LabelReader
from rsfoundation.detection.datasets.scan import Scan, join_scans
from rsfoundation.detection.datasets.voc_xml import read_voc_xml
from rsfoundation.detection.dota_files import list_images, pair_up
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.errors import DataError
from rsfoundation.registry import DATASETS
from rsfoundation.structures.dota_txt import read_dota_txt

_READERS: dict[str, LabelReader] = {".txt": read_dota_txt, ".xml": read_voc_xml}


@dataclass(frozen=True)
class Layout:
    """Where labels and images of a split lie below the data folder.

    Attributes:
        labels: A COCO json, or a folder of label files, with ``{split}`` for the split.
        images: The image folder.
        suffix: Of the label files in a folder.
        names: What the splits are called there, where it differs.
    """

    labels: str
    images: str
    suffix: str = ".json"
    names: tuple[tuple[str, str], ...] = ()

    def at(self, root: Path, split: str) -> tuple[Path, Path]:
        """Return the places of labels and images of one split."""
        name = dict(self.names).get(split, split)
        return root / self.labels.format(split=name), root / self.images.format(split=name)


class ShipDataset(OrientedDataset):
    """One class, ``ship``, in the first of the known layouts that is there.

    Boxes are the smallest rectangles around polygons where the labels are COCO's.

    Args:
        data_root: Folder of the data set.
        split: ``train`` or ``test``, or several; some layouts have more.
        ann_file: COCO json below ``data_root``, instead of the known places.
        image_dir: Its image folder below ``data_root``.
        **kwargs: See :class:`OrientedDataset`.
    """

    CLASSES = ("ship",)
    LAYOUTS: ClassVar[tuple[Layout, ...]] = ()

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "train",
        ann_file: str = "",
        image_dir: str = "",
        **kwargs: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.layouts = (Layout(ann_file, image_dir),) if ann_file else self.LAYOUTS
        super().__init__(data_root=data_root, **kwargs)

    def class_key(self, name: str) -> str:
        """Drop capitals."""
        return name.lower()

    def scan(self) -> Scan:
        """Read every split."""
        return join_scans([self._scan_split(split) for split in self.splits], self.on_error)

    def _scan_split(self, split: str) -> Scan:
        places = [(layout, *layout.at(Path(self.data_root), split)) for layout in self.layouts]
        for layout, labels, images in places:
            if labels.exists() and images.is_dir():
                return self._read(layout, labels, images)
        expected = "; ".join(f"{labels} with {images}" for _, labels, images in places)
        raise DataError(
            f"no labels and images of the split {split!r}: expected one of {expected}",
            where=self.data_root,
            cure="point data_root at the unpacked data set, or set ann_file and image_dir",
        )

    def _read(self, layout: Layout, labels: Path, images: Path) -> Scan:
        if layout.suffix == ".json":
            return read_coco(labels, images, self.on_error, LeftOut())
        files = pair_up(list_images(images), sorted(labels.glob(f"*{layout.suffix}")))
        return read_folders([files], _READERS[layout.suffix], self.on_error, LeftOut(), needs_labels=True)

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


@DATASETS.register_module()
class SSDDDataset(ShipDataset):
    """SSDD: COCO json with polygons, DOTA text files, or roLabelImg xml."""

    LAYOUTS = (
        Layout("annotations/SSDD_instances_{split}.json", "imgs", names=(("test", "val"),)),
        Layout("{split}/{split}.json", "{split}/images"),
        Layout("test/all/{split}.json", "test/all/images"),
        Layout("PSeg_SSDD/coco_style/annotations/{split}.json", "PSeg_SSDD/coco_style/images/{split}"),
        Layout("annotations/{split}.json", "images/{split}"),
        Layout("{split}/labelTxt", "{split}/images", ".txt"),
        Layout("{split}/labelTxt", "{split}/images", ".txt", (("test", "test/all"), ("val", "test/all"))),
        Layout("RBox_SSDD/voc_style/Annotations_{split}", "RBox_SSDD/voc_style/JPEGImages_{split}", ".xml"),
        Layout("Annotations_{split}", "JPEGImages_{split}", ".xml"),
    )


@DATASETS.register_module()
class HRSIDDataset(ShipDataset):
    """HRSID: COCO json with polygons, or DOTA text files made from it."""

    LAYOUTS = (
        Layout("annotations/{split}2017.json", "JPEGImages"),
        Layout("annotations/{split}2017.json", "images"),
        Layout("{split}/labelTxt", "{split}/images", ".txt"),
    )


@DATASETS.register_module()
class CocoOrientedDataset(ShipDataset):
    """Any COCO json with polygons, such as NWPU VHR-10: set ``ann_file``, ``image_dir`` and ``metainfo``."""
