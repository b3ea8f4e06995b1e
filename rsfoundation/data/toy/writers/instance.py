"""COCO layout: ``<split>/P0001.png`` and ``annotations/instances_<split>.json`` with polygons.

COCO counts from the corner of the first pixel, so its coordinates are those of the scene plus 0.5.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from rsfoundation.data.toy.elements import KINDS
from rsfoundation.data.toy.geometry import Points
from rsfoundation.data.toy.scene import Scene
from rsfoundation.data.toy.writers.base import Images, Record, SceneWriter, save_png

CATEGORIES = (*KINDS, "building")
_MIN_AREA = 40.0  # pixels; smaller scraps of a building at the border are left out


def _write(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"P{number:04d}.png"
    save_png(folder / split / name, images[0])
    width, height = scene.plan.width, scene.plan.height
    outlines: list[tuple[str, Points]] = [(thing.kind, thing.outline()) for thing in scene.things[0]]
    outlines += [("building", building.outline) for building in scene.buildings]
    instances = [
        instance for kind, outline in outlines if (instance := _instance(kind, outline, width, height))
    ]
    image = {"id": number, "file_name": name, "width": width, "height": height}
    counts = Counter(CATEGORIES[instance["category_id"] - 1] for instance in instances)
    return Record(dict(counts), {"image": image, "instances": instances})


def _instance(kind: str, outline: Points, width: int, height: int) -> dict[str, Any] | None:
    """Return the annotation of what is visible of an object, without ids."""
    visible = shapely.intersection(shapely.Polygon(outline + 0.5), shapely.box(0, 0, width, height))
    if visible.area < _MIN_AREA:
        return None
    pieces = [part for part in shapely.get_parts(visible) if part.area > 0]
    left, top, right, bottom = visible.bounds
    return {
        "category_id": CATEGORIES.index(kind) + 1,
        "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
        "area": round(visible.area, 2),
        "segmentation": [np.round(shapely.get_coordinates(part)[:-1], 2).ravel().tolist() for part in pieces],
        "iscrowd": 0,
    }


def _finish(folder: Path, split: str, records: Sequence[Record]) -> None:
    annotations: list[dict[str, Any]] = []
    for record in records:
        for instance in record.entry["instances"]:
            ids = {"id": len(annotations) + 1, "image_id": record.entry["image"]["id"]}
            annotations.append(ids | instance)
    index = {
        "info": {"description": "toy scenes"},
        "images": [record.entry["image"] for record in records],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)],
    }
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(index), encoding="utf-8")


WRITER = SceneWriter(dates=1, write=_write, finish=_finish)
