"""One writer per task: how a scene is put on disk."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.io.dota import LabelledBox, write_dota_txt
from rsfoundation.prepare.toy.geometry import Points, polygon_mask
from rsfoundation.prepare.toy.objects import DATES, KINDS, Material
from rsfoundation.prepare.toy.scene import GSD, Scene


class LandClass(NamedTuple):
    """A class and its colour (RGB)."""

    name: str
    colour: tuple[int, int, int]


LAND_CLASSES = (
    LandClass("impervious_surface", (255, 255, 255)),
    LandClass("building", (0, 0, 255)),
    LandClass("low_vegetation", (0, 255, 255)),
    LandClass("tree", (0, 255, 0)),
    LandClass("car", (255, 255, 0)),
    LandClass("clutter", (255, 0, 0)),
)
_INDEX = {land.name: index for index, land in enumerate(LAND_CLASSES)}

_MATERIALS: dict[Material, str] = {
    "asphalt": "impervious_surface",
    "concrete": "impervious_surface",
    "gravel": "impervious_surface",
    "grass": "low_vegetation",
    "meadow": "low_vegetation",
    "field": "low_vegetation",
    "soil": "low_vegetation",
    "sand": "clutter",
    "water": "clutter",
}
_THINGS = {"small-vehicle": "car", "large-vehicle": "car", "ship": "clutter", "storage-tank": "clutter"}


def class_map(scene: Scene) -> NDArray[np.uint8]:
    """Return the class index ``(H, W)`` of every pixel at the first date, by :data:`LAND_CLASSES`."""
    width, height = scene.plan.width, scene.plan.height
    classes = np.full((height, width), _INDEX["impervious_surface"], dtype=np.uint8)
    for region in scene.plan.regions:
        classes[polygon_mask(region.outline, width, height)] = _INDEX[_MATERIALS[region.material]]
    for thing in scene.things[0]:
        classes[polygon_mask(thing.outline(), width, height)] = _INDEX[_THINGS[thing.kind]]
    classes[scene.building_mask(0)] = _INDEX["building"]
    classes[scene.tree_mask] = _INDEX["tree"]
    return classes


@dataclass(frozen=True)
class Record:
    """What one written scene adds to its split.

    Attributes:
        counts: Number of labelled objects (detection, instance) or pixels (others) per class.
        entry: What the split's index file needs, if the layout has one.
    """

    counts: dict[str, int]
    entry: Any = field(default=None)


Images = tuple[NDArray, ...]


@dataclass(frozen=True)
class SceneWriter:
    """How scenes are written for one task.

    Attributes:
        dates: How many dates of a scene it needs drawn.
        write: ``(folder, split, number, scene, images)``: writes one scene, ``images`` being RGB.
        finish: ``(folder, split, records)``: writes what a split has once, such as an index.
    """

    dates: int
    write: Callable[[Path, str, int, Scene, Images], Record]
    finish: Callable[[Path, str, Sequence[Record]], None] | None = None


def save_png(path: Path, image: NDArray) -> None:
    """Write an RGB or single-channel picture.

    Raises:
        DataError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise DataError("cannot write the picture", where=path, fix="check free space and permissions")


def _write_change(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"{split}_{number}.png"
    changed = scene.change_mask()
    for date, letter in enumerate("AB"):
        save_png(folder / split / letter / name, images[date])
    save_png(folder / split / "label" / name, changed.astype(np.uint8) * 255)
    return Record({"unchanged": int((~changed).sum()), "changed": int(changed.sum())})


CHANGE_WRITER = SceneWriter(dates=DATES, write=_write_change)


def _write_detection(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"P{number:04d}"
    save_png(folder / split / "images" / f"{name}.png", images[0])
    labels = folder / split / "labelTxt"
    labels.mkdir(parents=True, exist_ok=True)
    objects = [
        LabelledBox(tuple(float(value) for value in thing.box.quad().ravel()), thing.kind)
        for thing in scene.things[0]
    ]
    write_dota_txt(labels / f"{name}.txt", objects, source="toy", gsd=GSD)
    return Record(dict(Counter(item.name for item in objects)))


DETECTION_WRITER = SceneWriter(dates=1, write=_write_detection)


CATEGORIES = (*KINDS, "building")
_MIN_AREA = 40.0  # pixels; smaller scraps of a building at the border are left out


def _write_instance(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
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


INSTANCE_WRITER = SceneWriter(dates=1, write=_write_instance, finish=_finish)


def _write_segmentation(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"P{number:04d}.png"
    classes = class_map(scene)
    palette = np.array([land.colour for land in LAND_CLASSES], dtype=np.uint8)
    save_png(folder / "img_dir" / split / name, images[0])
    save_png(folder / "ann_dir" / split / name, classes + 1)
    save_png(folder / "label_dir" / split / name, palette[classes])
    pixels = np.bincount(classes.ravel(), minlength=len(LAND_CLASSES))
    return Record({land.name: int(count) for land, count in zip(LAND_CLASSES, pixels, strict=True)})


SEGMENTATION_WRITER = SceneWriter(dates=1, write=_write_segmentation)


WRITERS: dict[str, SceneWriter] = {
    "detection": DETECTION_WRITER,
    "segmentation": SEGMENTATION_WRITER,
    "instance": INSTANCE_WRITER,
    "change": CHANGE_WRITER,
}
