"""Oriented boxes from the polygons of COCO json files: SSDD, HRSID, NWPU VHR-10."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from rsfoundation.detection.datasets.scan import Picture, Scan
from rsfoundation.detection.label_table import LabelTable
from rsfoundation.detection.left_out import LeftOut, note_or_raise
from rsfoundation.errors import DataError
from rsfoundation.structures.boxes import rbox_to_quad
from rsfoundation.structures.dota_txt import DotaObject, Policy

CROWD_DIFFICULTY = 1  # crowds stand where DOTA has difficult objects


def read_coco(path: Path, images: Path, policy: Policy, left_out: LeftOut) -> Scan:
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
            problem = DataError(f"malformed annotation: {error!r}", where=where, cure="mend the file")
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
        raise DataError("label file not found", where=path, cure="check the annotation folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"label file is no COCO json: {error!r}", where=path, cure="replace it") from error


def _once(
    images: list[dict[str, Any]], path: Path, policy: Policy, left_out: LeftOut
) -> list[dict[str, Any]]:
    """Return the images with ids of their own: whose objects are the others'?"""
    first: dict[Any, dict[str, Any]] = {}
    for item in images:
        earlier = first.setdefault(item["id"], item)
        if earlier is not item:
            what = f"{earlier['file_name']} and {item['file_name']} have the id {item['id']!r}"
            error = DataError(what, where=path, cure="give every image an id of its own")
            note_or_raise(left_out, "images with the id of an earlier one", error, path.name, policy)
    return list(first.values())


def _picture(item: dict[str, Any], path: Path, images: Path) -> Picture:
    image = images / item["file_name"]
    return Picture(image.stem, str(image), str(path), (int(item["width"]), int(item["height"])))


def _is_there(picture: Picture, policy: Policy, left_out: LeftOut) -> bool:
    if Path(picture.path).is_file():
        return True
    error = DataError("an image of the list is missing", where=picture.path, cure="unpack all images")
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
