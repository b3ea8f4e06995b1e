"""Writing sets of toy scenes to disk, in the layout of each task, and large scenes as GeoTIFF."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    replacing,
    staging_folder,
)
from rsfoundation.core.parallel import run_jobs
from rsfoundation.io.dota import LabelledBox, write_dota_txt
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.vectors import Features, write_vectors
from rsfoundation.prepare.toy.geometry import Points, polygon_mask
from rsfoundation.prepare.toy.planning import SINGLE_BLOCKS
from rsfoundation.prepare.toy.scene import GSD, Scene
from rsfoundation.prepare.toy.scene_model import DATES, KINDS, Material


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
_OBJECT_CLASSES = {
    "small-vehicle": "car",
    "large-vehicle": "car",
    "ship": "clutter",
    "storage-tank": "clutter",
}


def class_map(scene: Scene) -> NDArray[np.uint8]:
    """Return the class index ``(H, W)`` of every pixel at the first date, by :data:`LAND_CLASSES`."""
    width, height = scene.plan.width, scene.plan.height
    classes = np.full((height, width), _INDEX["impervious_surface"], dtype=np.uint8)
    for region in scene.plan.regions:
        classes[polygon_mask(region.outline, width, height)] = _INDEX[_MATERIALS[region.material]]
    for item in scene.objects[0]:
        classes[polygon_mask(item.outline(), width, height)] = _INDEX[_OBJECT_CLASSES[item.kind]]
    classes[scene.building_mask(0)] = _INDEX["building"]
    classes[scene.tree_mask] = _INDEX["tree"]
    return classes


@dataclass(frozen=True)
class SceneRecord:
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
    write: Callable[[Path, str, int, Scene, Images], SceneRecord]
    finish: Callable[[Path, str, Sequence[SceneRecord]], None] | None = None


def _save_png(path: Path, image: NDArray) -> None:
    """Write an RGB or single-channel picture.

    Raises:
        DataError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise DataError("cannot write the picture", where=path, fix="check free space and permissions")


def _write_change(folder: Path, split: str, number: int, scene: Scene, images: Images) -> SceneRecord:
    name = f"{split}_{number}.png"
    changed = scene.change_mask()
    for date, letter in enumerate("AB"):
        _save_png(folder / split / letter / name, images[date])
    _save_png(folder / split / "label" / name, changed.astype(np.uint8) * 255)
    return SceneRecord({"unchanged": int((~changed).sum()), "changed": int(changed.sum())})


CHANGE_WRITER = SceneWriter(dates=DATES, write=_write_change)


def _write_detection(folder: Path, split: str, number: int, scene: Scene, images: Images) -> SceneRecord:
    name = f"P{number:04d}"
    _save_png(folder / split / "images" / f"{name}.png", images[0])
    labels = folder / split / "labelTxt"
    labels.mkdir(parents=True, exist_ok=True)
    objects = [
        LabelledBox(tuple(float(value) for value in item.box.quad().ravel()), item.kind)
        for item in scene.objects[0]
    ]
    write_dota_txt(labels / f"{name}.txt", objects, source="toy", gsd=GSD)
    return SceneRecord(dict(Counter(item.name for item in objects)))


DETECTION_WRITER = SceneWriter(dates=1, write=_write_detection)


CATEGORIES = (*KINDS, "building")
_MIN_AREA = 40.0  # pixels; smaller scraps of a building at the border are left out


def _write_instance(folder: Path, split: str, number: int, scene: Scene, images: Images) -> SceneRecord:
    name = f"P{number:04d}.png"
    _save_png(folder / split / name, images[0])
    width, height = scene.plan.width, scene.plan.height
    outlines: list[tuple[str, Points]] = [(item.kind, item.outline()) for item in scene.objects[0]]
    outlines += [("building", building.outline) for building in scene.buildings]
    instances = [
        instance for kind, outline in outlines if (instance := _instance(kind, outline, width, height))
    ]
    image = {"id": number, "file_name": name, "width": width, "height": height}
    counts = Counter(CATEGORIES[instance["category_id"] - 1] for instance in instances)
    return SceneRecord(dict(counts), {"image": image, "instances": instances})


def _instance(kind: str, outline: Points, width: int, height: int) -> dict[str, Any] | None:
    """Return the annotation of the visible part of an object, without ids."""
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


def _write_index(folder: Path, split: str, records: Sequence[SceneRecord]) -> None:
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


INSTANCE_WRITER = SceneWriter(dates=1, write=_write_instance, finish=_write_index)


def _write_segmentation(folder: Path, split: str, number: int, scene: Scene, images: Images) -> SceneRecord:
    name = f"P{number:04d}.png"
    classes = class_map(scene)
    palette = np.array([land.colour for land in LAND_CLASSES], dtype=np.uint8)
    _save_png(folder / "img_dir" / split / name, images[0])
    _save_png(folder / "ann_dir" / split / name, classes + 1)
    _save_png(folder / "label_dir" / split / name, palette[classes])
    pixels = np.bincount(classes.ravel(), minlength=len(LAND_CLASSES))
    return SceneRecord({land.name: int(count) for land, count in zip(LAND_CLASSES, pixels, strict=True)})


SEGMENTATION_WRITER = SceneWriter(dates=1, write=_write_segmentation)


LARGE = "large"
RECOGNITION_CLASSES = tuple(SINGLE_BLOCKS)


def _write_recognition(folder: Path, split: str, number: int, scene: Scene, images: Images) -> SceneRecord:
    """Draw a scene of one kind of block, the kinds in turn; large scenes are those of the other tasks."""
    name = f"P{number:04d}.png"
    if split == LARGE:
        _save_png(folder / split / name, scene.image())
        return SceneRecord({})
    kind = RECOGNITION_CLASSES[(number - 1) % len(RECOGNITION_CLASSES)]
    plain = Scene(scene.key, scene.plan.width, scene.plan.height, kind)
    _save_png(folder / split / kind / name, plain.image())
    return SceneRecord({kind: 1})


RECOGNITION_WRITER = SceneWriter(dates=0, write=_write_recognition)


WRITERS: dict[str, SceneWriter] = {
    "detection": DETECTION_WRITER,
    "segmentation": SEGMENTATION_WRITER,
    "instance": INSTANCE_WRITER,
    "change": CHANGE_WRITER,
    "recognition": RECOGNITION_WRITER,
}


MAKER = "rsfoundation toy scenes"
VERSION = 4  # raised when the same parameters give other files; older sets are then drawn again
TASKS = tuple(WRITERS)
DEFAULT_COUNTS: Mapping[str, int] = {"train": 160, "val": 40, "test": 8}


@dataclass(frozen=True)
class ToyResult:
    """The toy scenes on disk.

    Attributes:
        root: Folder of all tasks.
        folders: Folder of each task asked for.
        scenes: Number of scenes per split.
        objects: Per task and split, labelled objects or pixels per class.
        reused: Tasks whose scenes existed already.
    """

    root: Path
    folders: dict[str, Path]
    scenes: dict[str, int]
    objects: dict[str, dict[str, dict[str, int]]]
    reused: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    split: str
    number: int
    width: int
    height: int


def make_toy_scenes(
    root: Path,
    *,
    size: int = 256,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    large: int = 1,
    large_size: tuple[int, int] = (1280, 960),
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    workers: int = 2,
) -> ToyResult:
    """Draw scenes and write them in the layout of each task: ``<root>/<task>/...``.

    A scene depends on the seed, its split, its number and its size only. A complete set with the same
    parameters is used again; one with others is replaced; an incomplete one is drawn again.

    Args:
        root: Folder of the task folders.
        size: Side of the square scenes in pixels.
        counts: Scenes per split.
        large: Scenes of ``large_size`` in the additional split ``large``, for prediction by windows.
        large_size: Width and height of those.
        seed: Any whole number from 0.
        tasks: Which of ``detection``, ``segmentation``, ``instance``, ``change``, ``recognition`` to write.
        workers: Threads; the files do not depend on it.

    Raises:
        DataError: A task is unknown, a number makes no sense, or a task folder has other content.
    """
    _check(size, counts, large, large_size, seed, tasks)
    all_counts = {**counts, LARGE: large} if large else dict(counts)
    parameters = dict(version=VERSION, size=size, counts=all_counts, large_size=list(large_size), seed=seed)
    jobs = [
        _Job(split, number, *(large_size if split == LARGE else (size, size)))
        for split, count in all_counts.items()
        for number in range(1, count + 1)
    ]
    folders = {task: Path(root) / task for task in tasks}
    with locked(Path(root)):
        reused = tuple(task for task in tasks if _is_complete(folders[task], parameters))
        missing = {task: folder for task, folder in folders.items() if task not in reused}
        if missing:
            _make(missing, jobs, parameters, workers)
        manifests = {task: read_manifest(folder) for task, folder in folders.items()}
    objects = {task: manifest.content for task, manifest in manifests.items() if manifest is not None}
    return ToyResult(Path(root), folders, all_counts, objects, reused)


def _check(
    size: int,
    counts: Mapping[str, int],
    large: int,
    large_size: tuple[int, int],
    seed: int,
    tasks: Sequence[str],
) -> None:
    for task in tasks:
        if task not in WRITERS:
            fix = nearest(task, TASKS) or f"one of: {', '.join(TASKS)}"
            raise DataError(f"there are no toy scenes for a task called {task!r}", fix=fix)
    for name, value, least in (("size", size, 64), ("large_size", min(large_size), 64), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name} is {value}", where=name, fix=f"choose at least {least}")
    for name, value in {**counts, LARGE: large}.items():
        if value < 0 or not name.isidentifier():
            raise DataError(f"{value} scenes for split {name!r}", where="counts", fix="name=0 or more")


def _is_complete(folder: Path, parameters: dict[str, Any]) -> bool:
    refuse_foreign(folder, MAKER)
    manifest = read_manifest(folder)
    return manifest is not None and manifest.parameters == parameters


def _make(folders: dict[str, Path], jobs: Sequence[_Job], parameters: dict[str, Any], workers: int) -> None:
    MMLogger.get_current_instance().info(f"drawing {len(jobs)} toy scenes for {', '.join(folders)}")
    with ExitStack() as stack:
        staged = {task: stack.enter_context(staging_folder(folder)) for task, folder in folders.items()}
        draw = partial(_draw, parameters["seed"], staged)
        records = run_jobs(draw, jobs, workers=workers, title="drawing toy scenes")
        for task, folder in folders.items():
            mine = [(job.split, made[task]) for job, made in zip(jobs, records, strict=True)]
            publish(staged[task], folder, Manifest(MAKER, parameters, _finish(task, staged[task], mine)))


def _draw(seed: int, folders: dict[str, Path], job: _Job) -> dict[str, SceneRecord]:
    """Draw one scene once and write it for every task."""
    scene = Scene((seed, job.split, job.number), job.width, job.height)
    dates = max(WRITERS[task].dates for task in folders)
    images = tuple(scene.image(date) for date in range(dates))
    return {
        task: WRITERS[task].write(folder, job.split, job.number, scene, images)
        for task, folder in folders.items()
    }


def _finish(task: str, folder: Path, records: list[tuple[str, SceneRecord]]) -> dict[str, dict[str, int]]:
    """Write what a split has once; return the counts per split."""
    content = {}
    for split in dict.fromkeys(split for split, _ in records):
        mine = [record for name, record in records if name == split]
        finish = WRITERS[task].finish
        if finish is not None:
            finish(folder, split, mine)
        content[split] = dict(sum((Counter(record.counts) for record in mine), Counter()))
    return content


CRS = "EPSG:32633"
CORNER = (500_000.0, 5_200_000.0)  # easting and northing of the upper left corner of the first scene
BORDER = 48  # pixels without data on the left
BANDS = ("red", "green", "blue", "near infrared", "height")
_NEAR_INFRARED = {"low_vegetation": 170, "tree": 200}
_HEIGHT = {"building": 90, "tree": 60, "car": 15}


def make_geotiffs(
    root: Path, count: int, *, size: tuple[int, int] = (1280, 960), seed: int = 0
) -> list[Path]:
    """Write the large toy scenes to ``<root>/geotiff/large_<n>_<date>.tif``.

    The first three bands are those of the large scenes of the tasks; near infrared and height follow from
    what is drawn. Pixels without data are 0 in every band.

    Args:
        root: Folder of the toy scenes.
        count: Number of scenes.
        size: Width and height in pixels.
        seed: As for :func:`rsfoundation.prepare.toy.make.make_toy_scenes`.

    Returns:
        The files: of each scene the first, then the second date.

    Raises:
        DataError: rasterio is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise DataError(
            "GeoTIFFs are written through rasterio, which is not installed",
            where=root / "geotiff",
            fix="pip install 'rsfoundation[geo]'",
        ) from error
    folder = root / "geotiff"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(1, count + 1):
        scene = Scene((seed, LARGE, number), *size)
        transform = rasterio.Affine(GSD, 0, _west(number, size[0]), 0, -GSD, CORNER[1])
        for date in range(DATES):
            bands = _bands(scene, date)
            file = folder / f"large_{number}_{date + 1}.tif"
            profile = dict(driver="GTiff", width=size[0], height=size[1], count=len(BANDS), dtype="uint8")
            layout = dict(tiled=True, blockxsize=256, blockysize=256, compress="deflate", photometric="rgb")
            place = dict(crs=CRS, transform=transform, nodata=0)
            with (
                replacing(file) as temporary,
                rasterio.open(temporary, "w", **profile, **layout, **place) as made,
            ):
                made.write(bands)
                made.descriptions = BANDS
            files.append(file)
    return files


def make_change_polygons(
    root: Path, count: int, *, size: tuple[int, int] = (1280, 960), seed: int = 0
) -> list[Path]:
    """Write the outlines of what changed in each large toy scene: ``<root>/geotiff/large_<n>_changes.gpkg``.

    Args:
        root: As for :func:`make_geotiffs`.
        count: As for :func:`make_geotiffs`.
        size: As for :func:`make_geotiffs`.
        seed: As for :func:`make_geotiffs`.

    Returns:
        The files.
    """
    import shapely.geometry
    from rasterio.features import shapes

    files = []
    for number in range(1, count + 1):
        changed = Scene((seed, LARGE, number), *size).change_mask().astype(np.uint8)
        outlines = [shapely.geometry.shape(shape) for shape, _ in shapes(changed, mask=changed > 0)]
        file = root / "geotiff" / f"large_{number}_changes.gpkg"
        reference = GeoReference(CRS, (GSD, 0.0, _west(number, size[0]), 0.0, -GSD, CORNER[1]))
        features = Features(np.asarray(outlines, dtype=object))
        write_vectors(features, reference, file, format_="gpkg", layer="changes")
        files.append(file)
    return files


def _west(number: int, width: int) -> float:
    """Return the easting of the left border of a scene."""
    return CORNER[0] + (number - 1) * 2 * width * GSD


def _bands(scene: Scene, date: int) -> NDArray[np.uint8]:
    """Return ``(5, H, W)`` of one date: at least 1 where there is data."""
    image = scene.image(date)
    names = [land.name for land in LAND_CLASSES]
    classes = class_map(scene)
    near = np.array([_NEAR_INFRARED.get(name, 70) for name in names], dtype=np.uint8)[classes]
    height = np.array([_HEIGHT.get(name, 1) for name in names], dtype=np.uint8)[classes]
    bands = np.maximum(np.stack([*np.moveaxis(image, 2, 0), near, height]), 1)
    bands[:, :, :BORDER] = 0
    return bands
