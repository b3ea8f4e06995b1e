"""SSDD and HRSID: ships in radar images, in the layouts that are about."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import DatasetReport, Policy, note_or_raise
from rsfoundation.datasets.oriented.annotations import ImageInfo, LabelTable, Scan, join_scans
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.reading import LabelReader, read_folders
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.io.dota import DotaObject, list_images, pair_up, read_dota_txt
from rsfoundation.io.xml_labels import read_voc_xml
from rsfoundation.registry import DATASETS

CROWD_DIFFICULTY = 1  # crowds stand where DOTA has difficult objects


def read_coco(path: Path, images: Path, policy: Policy, left_out: DatasetReport) -> Scan:
    """Read one json file; the box of an object is the smallest rectangle around its polygons.

    Args:
        path: The json file.
        images: Folder that ``file_name`` starts from.
        policy: What a malformed object or a missing image does.
        left_out: Takes the counts; becomes the scan's.

    Raises:
        DataError: The file is missing or no COCO json; under ``fail``, an object is malformed, or an
            image is missing.
    """
    record, kinds = _load(path)
    listed = _once(record["images"], path, policy, left_out)
    objects: dict[Any, list[DotaObject]] = {item["id"]: [] for item in listed}
    for item in record["annotations"]:
        try:
            quad = _quad(item)
            difficulty = CROWD_DIFFICULTY if item.get("iscrowd") else 0
            if item["image_id"] not in objects:
                raise ValueError(f"image_id {item['image_id']!r} is not among the images")
            objects[item["image_id"]].append(DotaObject(quad, kinds[item["category_id"]], difficulty))
        except (ValueError, KeyError, TypeError) as error:
            where = f"{path}, annotation {item.get('id')}"
            problem = DataError(f"malformed annotation: {error!r}", where=where, fix="mend the file")
            note_or_raise(left_out, "malformed annotations", problem, path.name, policy)
    pictures = [_picture(item, path, images) for item in listed]
    present = [_is_there(picture, policy, left_out) for picture in pictures]
    rows = [row for row, there in enumerate(present) if there]
    table = LabelTable.of([objects[listed[row]["id"]] for row in rows])
    return Scan(tuple(pictures[row] for row in rows), table, left_out)


def _load(path: Path) -> tuple[dict[str, list[dict[str, Any]]], dict[int, str]]:
    """Return the record and the names of its categories by id."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        for item in record["images"]:
            item["id"], item["file_name"], int(item["width"]), int(item["height"])
        kinds = {int(item["id"]): str(item["name"]) for item in record["categories"]}
        return dict(record, annotations=list(record["annotations"])), kinds
    except FileNotFoundError:
        raise DataError("label file not found", where=path, fix="check the annotation folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"label file is no COCO json: {error!r}", where=path, fix="replace it") from error


def _once(
    images: list[dict[str, Any]], path: Path, policy: Policy, left_out: DatasetReport
) -> list[dict[str, Any]]:
    """Return the images with ids of their own: whose objects are the others'?"""
    first: dict[Any, dict[str, Any]] = {}
    for item in images:
        earlier = first.setdefault(item["id"], item)
        if earlier is not item:
            what = f"{earlier['file_name']} and {item['file_name']} have the id {item['id']!r}"
            error = DataError(what, where=path, fix="give every image an id of its own")
            note_or_raise(left_out, "images with the id of an earlier one", error, path.name, policy)
    return list(first.values())


def _picture(item: dict[str, Any], path: Path, images: Path) -> ImageInfo:
    image = images / item["file_name"]
    return ImageInfo(image.stem, str(image), str(path), (int(item["width"]), int(item["height"])))


def _is_there(picture: ImageInfo, policy: Policy, left_out: DatasetReport) -> bool:
    if Path(picture.path).is_file():
        return True
    error = DataError("an image of the list is missing", where=picture.path, fix="unpack all images")
    note_or_raise(left_out, "listed images that are not there", error, Path(picture.path).name, policy)
    return False


def _quad(item: dict[str, Any]) -> tuple[float, ...]:
    """Return the corners of the smallest rectangle around an object's shape.

    Raises:
        ValueError: There is no shape, or it has no extent.
    """
    points = _points(item.get("segmentation"))
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"{len(points)} points; expected a polygon of at least 3")
    (cx, cy), (width, height), degrees = cv2.minAreaRect(points - points.mean(axis=0))
    middle = points.mean(axis=0)
    box = (cx + middle[0], cy + middle[1], width, height, math.radians(degrees))
    return tuple(rbox_to_quad([box]).reshape(-1).tolist())


def _points(shape: Any) -> np.ndarray:
    """Return all points ``(P, 2)`` of polygons, or those on the outline of a run-length mask."""
    if isinstance(shape, dict):
        return _outline(shape)
    flat = [value for polygon in shape or [] for value in polygon]
    return np.array(flat, dtype=np.float32).reshape(-1, 2)


def _outline(shape: dict[str, Any]) -> np.ndarray:
    run_length = coco_mask.frPyObjects(shape, *shape["size"]) if isinstance(shape["counts"], list) else shape
    rows, columns = np.nonzero(coco_mask.decode(run_length))
    return np.stack([columns, rows], axis=1).astype(np.float32)


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
            fix="point data_root at the unpacked data set, or set ann_file and image_dir",
        )

    def _read(self, layout: Layout, labels: Path, images: Path) -> Scan:
        if layout.suffix == ".json":
            return read_coco(labels, images, self.on_error, DatasetReport())
        files = pair_up(list_images(images), sorted(labels.glob(f"*{layout.suffix}")))
        return read_folders(
            [files], _READERS[layout.suffix], self.on_error, DatasetReport(), needs_labels=True
        )

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
