"""SSDD, HRSID and any other COCO json as oriented boxes: ships in radar images, in the known layouts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import (
    NO_IMAGE,
    AnnotationTable,
    ImageLabels,
    LabelReader,
    join_splits,
    read_folders,
)
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.geometry.boxes import smallest_rectangle
from rsfoundation.io.coco import NO_SHAPE, annotation_error, decode_mask, read_coco
from rsfoundation.io.dota import LabelledBox, list_images, pair_up, read_dota_txt
from rsfoundation.io.xml_labels import RboxDialect, read_voc_xml
from rsfoundation.registry import DATASETS

CROWD_DIFFICULTY = 1  # crowds take the place of DOTA's difficult objects
_MOSTLY, _ENOUGH = 0.95, 20  # share and number of boxes from which a dialect is doubted


def read_coco_boxes(
    path: Path, images: Path, report: DatasetReport, *, corners: bool = False
) -> AnnotationTable:
    """Read one json file; the box of an object is the smallest rectangle around its polygons or mask.

    Args:
        path: The json file.
        images: Folder that ``file_name`` starts from.
        report: Takes annotations that break a rule of :mod:`rsfoundation.io.coco`, and missing images.
        corners: Single polygons of four points keep their corners.

    Raises:
        DataError: The file is missing or no COCO json.
    """
    return AnnotationTable.build(_coco_images(path, images, report, corners))


def _coco_images(path: Path, images: Path, report: DatasetReport, corners: bool) -> Iterator[ImageLabels]:
    content = read_coco(path, report)
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    sizes = {item["id"]: (int(item["width"]), int(item["height"])) for item in content["images"]}
    objects: dict[Any, list[LabelledBox]] = {number: [] for number in sizes}
    for item in content["annotations"]:
        width, height = sizes[item["image_id"]]
        points = _points(item["segmentation"], height, width)
        if not len(points):
            error = annotation_error(path, item["id_in_file"], "a mask without a pixel")
            report.error(NO_SHAPE, error, path)
            continue
        difficulty = CROWD_DIFFICULTY if item.get("iscrowd") else 0
        shape = item["segmentation"]
        if corners and isinstance(shape, list) and len(shape) == 1 and len(shape[0]) == 8:
            quad = tuple(map(float, shape[0]))
            difficulty = max(difficulty, _difficulty(item.get("difficult")))
        else:
            quad = smallest_rectangle(points)
        box = LabelledBox(quad, names[item["category_id"]], difficulty)
        objects[item["image_id"]].append(box)
    for item in content["images"]:
        image = images / item["file_name"]
        if image.is_file():
            yield ImageLabels(image, objects[item["id"]], path, sizes[item["id"]])
        else:
            error = DataError("a listed image does not exist", where=image, fix="unpack all images")
            report.error(NO_IMAGE, error, image)


def _difficulty(value: Any) -> int:
    """Return the difficulty that `rsf prepare labels` writes beyond the format; 0 for anything else."""
    return value if isinstance(value, int) and 0 <= value <= 2 else 0


def _points(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return all points ``(P, 2)`` of polygons, or all pixels of a mask."""
    if isinstance(segmentation, list):
        flat = [value for polygon in segmentation for value in polygon]
        return np.array(flat, dtype=np.float32).reshape(-1, 2)
    rows, columns = np.nonzero(decode_mask(segmentation, height, width))
    return np.stack([columns, rows], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Layout:
    """The place of labels and images of a split below the data folder.

    Attributes:
        labels: A COCO json, or a folder of label files, with ``{split}`` for the split.
        images: The image folder.
        suffix: Of the label files in a folder.
        names: Names of the splits there, where they differ.
    """

    labels: str
    images: str
    suffix: str = ".json"
    names: tuple[tuple[str, str], ...] = ()

    def at(self, root: Path, split: str) -> tuple[Path, Path]:
        """Return the places of labels and images of one split.

        Args:
            root: Folder of the data set.
            split: Name of the split.
        """
        name = dict(self.names).get(split, split)
        return root / self.labels.format(split=name), root / self.images.format(split=name)


class ShipDataset(OrientedDataset):
    """One class, ``ship``, in the first of the known layouts that exists.

    Boxes are the smallest rectangles around polygons where the labels are COCO's.

    Args:
        data_root: Folder of the data set.
        split: ``train`` or ``test``, or several; some layouts have more.
        ann_file: COCO json below ``data_root``, instead of the known places.
        image_dir: Its image folder below ``data_root``.
        dialect: Side that ``<angle>`` of a ``<robndbox>`` belongs to, in xml files: ``w`` (``roLabelImg``,
            SSDD), or the long side ``h`` (``RSDD-SAR``).
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
        dialect: RboxDialect = "roLabelImg",
        **kwargs: Any,
    ) -> None:
        check_choice("dialect", dialect, get_args(RboxDialect), type(self).__name__)
        self.dialect: RboxDialect = dialect
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.layouts = (Layout(ann_file, image_dir),) if ann_file else self.LAYOUTS
        super().__init__(data_root=data_root, **kwargs)

    def class_key(self, name: str) -> str:
        """Drop capitals."""
        return name.lower()

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read every split."""
        return join_splits([self._read_split(split, report) for split in self.splits], report)

    def _read_split(self, split: str, report: DatasetReport) -> AnnotationTable:
        places = [(layout, *layout.at(Path(self.data_root), split)) for layout in self.layouts]
        for layout, labels, images in places:
            if labels.exists() and images.is_dir():
                return self._read_layout(layout, labels, images, report)
        expected = "; ".join(f"{labels} with {images}" for _, labels, images in places)
        raise DataError(
            f"no labels and images of the split {split!r}: expected one of {expected}",
            where=self.data_root,
            fix="point data_root at the unpacked data set, or set ann_file and image_dir",
        )

    def _read_layout(
        self, layout: Layout, labels: Path, images: Path, report: DatasetReport
    ) -> AnnotationTable:
        if layout.suffix == ".json":
            return read_coco_boxes(labels, images, report)
        files = pair_up(list_images(images), sorted(labels.glob(f"*{layout.suffix}")))
        read: LabelReader = read_dota_txt
        if layout.suffix == ".xml":
            read = partial(read_voc_xml, dialect=self.dialect)
        table = read_folders([files], read, report, needs_labels=True)
        if layout.suffix == ".xml" and self.dialect == "roLabelImg":
            _doubt_dialect(table, labels, report)
        return table

    def _described(self) -> str:
        return f"{self.data_root} {'+'.join(self.splits)}"


def _doubt_dialect(table: AnnotationTable, labels: Path, report: DatasetReport) -> None:
    """Warn where nearly all boxes have a longer side h than w: RSDD-SAR's files do, roLabelImg's do not."""
    corners = table.quads.reshape(-1, 4, 2)
    w, h = (np.linalg.norm(corners[:, one] - corners[:, one - 1], axis=1) for one in (1, 2))
    longer = h > w * (1 + 1e-6)
    if len(longer) >= _ENOUGH and longer.mean() >= _MOSTLY:
        report.warn(
            f"{int(longer.sum())} of {len(longer)} boxes in {labels} are longer along h than along w: where "
            "<angle> is that of the long side, as in RSDD-SAR, set dialect='RSDD-SAR' in the data set"
        )


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
