"""Files of labelling tools that hold the objects of many images: Label Studio's JSON, CVAT's XML.

Label Studio (export format "JSON"): per task ``data`` with the image, and ``annotations`` with regions in
per cent of the image; ``x y`` of a rectangle is its first corner, which it is turned about, clockwise,
by ``rotation`` degrees. CVAT ("CVAT for images 1.1"): ``<image>`` with ``<box xtl ytl xbr ybr rotation>``,
turned clockwise about its middle, and ``<polygon points="x,y;...">`` in pixels. Coordinates stay as labelled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.geometry.boxes import as_turned_rectangle, rbox_to_quad, smallest_rectangle
from rsfoundation.io.dota import LabelledBox
from rsfoundation.io.xml_labels import MALFORMED_OBJECTS, parse_xml, read_size

OTHER_SHAPES = "shapes without an area (points, lines, brushes)"  # kinds in reports
MANY_CORNERS = "polygons replaced by the smallest rectangle around them"
NO_NAME = "shapes without a label"
OTHER_ANNOTATORS = "further annotations of one image (the first is taken)"
_FIX = f"correct the object, or leave such objects out with {SKIPPING}"
_CVAT_AREAS, _CVAT_OTHERS = (
    ("box", "polygon"),
    ("polyline", "points", "mask", "ellipse", "cuboid", "skeleton"),
)


class ToolImage(NamedTuple):
    """One image of such a file.

    Attributes:
        name: Its path as the tool has it.
        size: Width and height in pixels; ``None`` where no object states them.
        objects: Its objects.
    """

    name: str
    size: tuple[int, int] | None
    objects: tuple[LabelledBox, ...]


def corners_of(points: NDArray[np.float64], file: Path, report: DatasetReport) -> tuple[float, ...]:
    """Return the corners (8 numbers) of a labelled polygon ``(P, 2)``: its own where it has four.

    Args:
        points: In pixels; a last point that repeats the first does not count.
        file: The label file, for the report.
        report: Counts polygons that a rectangle replaces.

    Raises:
        ValueError: There are fewer than three points, or one is not finite.
    """
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not finite")
    if len(points) > 3 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    if len(points) == 4:
        return tuple(points.reshape(-1).tolist())
    report.note(MANY_CORNERS, [file.name])
    return smallest_rectangle(points)


def read_label_studio(path: Path, report: DatasetReport) -> list[ToolImage]:
    """Read an export of Label Studio in its format "JSON".

    Rectangles and polygons are read; other regions are counted. Of several annotations of a task the first
    that was not cancelled is taken, or the ground truth.

    Args:
        path: The json file.
        report: Takes malformed regions, which are left out.

    Raises:
        DataError: The file cannot be read, or is no such export.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"no json: {error}", where=path, fix="export the project again") from error
    sound = isinstance(tasks, list) and all(
        isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks
    )
    if not sound or not all(isinstance(task.get("annotations", []), list) for task in tasks):
        what = "no export of Label Studio: expected a list of tasks with 'data' and 'annotations'"
        raise DataError(what, where=path, fix="export the project in the format JSON (not JSON_MIN)")
    images = []
    for number, task in enumerate(tasks, start=1):
        name = _studio_image(task["data"])
        if name is None:
            problem = DataError("a task without an image", where=f"{path}, task {number}", fix=_FIX)
            report.error(MALFORMED_OBJECTS, problem, path)
            continue
        images.append(_studio_task(path, name, task.get("annotations", []), report))
    return images


def _studio_image(data: dict[str, Any]) -> str | None:
    """Return the path of a task's image: of an address its path, of a local file that below the storage."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    found = texts.get("image") or next(
        (value for value in texts.values() if "/" in value or "." in value), None
    )
    if found is None:
        return None
    try:
        parts = urlsplit(found)
        local = parse_qs(parts.query).get("d")
    except ValueError:
        return None
    return unquote(local[0]) if local else unquote(parts.path) or None


def _studio_task(path: Path, name: str, annotations: list[Any], report: DatasetReport) -> ToolImage:
    where = f"{path}, {PurePosixPath(name).name}"
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    kept.sort(key=lambda one: not one.get("ground_truth"))
    report.note(OTHER_ANNOTATORS, [path.name] * max(0, len(kept) - 1))
    regions = kept[0].get("result") if kept else []
    size: tuple[int, int] | None = None
    objects = []
    bare: list[Any] = []
    named: list[Any] = []
    for number, region in enumerate(regions if isinstance(regions, list) else [None], start=1):
        try:
            if not isinstance(region, dict) or not isinstance(region.get("value"), dict):
                raise ValueError("no region with a 'value'")
            if not any(key.endswith("labels") for key in region["value"]):
                bare += [region.get("id")] * any(key in region["value"] for key in ("width", "points"))
                continue  # a shape whose labels may be a region of their own; a choice, a text
            named.append(region.get("id"))
            found, quad = _studio_region(region, path, report)
            size = size or found
            if quad is not None:
                objects.append(LabelledBox(quad, _studio_name(region["value"])))
        except ValueError as error:
            problem = DataError(f"malformed region: {error}", where=f"{where}, region {number}", fix=_FIX)
            report.error(MALFORMED_OBJECTS, problem, path)
    report.note(NO_NAME, [path.name for identity in bare if identity not in named])
    return ToolImage(name, size, tuple(objects))


def _studio_name(value: dict[str, Any]) -> str:
    labels = next(value[key] for key in value if key.endswith("labels"))
    if (
        not isinstance(labels, list)
        or len(labels) != 1
        or not isinstance(labels[0], str)
        or not labels[0].strip()
    ):
        raise ValueError(f"labels are {str(labels)[:60]}; expected one name")
    return labels[0]


def _studio_region(
    region: dict[str, Any], path: Path, report: DatasetReport
) -> tuple[tuple[int, int], tuple[float, ...] | None]:
    """Return the size of the image, and the corners of a region; ``None`` for a shape without an area."""
    width, height = (
        _number(region.get(f"original_{side}"), f"original_{side}") for side in ("width", "height")
    )
    if min(width, height) < 1:
        raise ValueError(f"the image is {width:g} x {height:g} px")
    if region.get("image_rotation"):
        raise ValueError(f"the image was turned by {region['image_rotation']} degrees in the editor")
    size, value = (int(width), int(height)), region["value"]
    if isinstance(value.get("points"), list):
        points = [
            [_number(x, "points") for x in point] for point in value["points"] if isinstance(point, list)
        ]
        if any(len(point) != 2 for point in points):
            raise ValueError("a point is not 'x, y'")
        corners = np.array(points, dtype=np.float64).reshape(-1, 2) * np.array(size) / 100
        return size, corners_of(corners, path, report)
    if "width" not in value or "radiusX" in value:
        report.note(OTHER_SHAPES, [path.name])
        return size, None
    x, y, w, h = (
        _number(value.get(key), key) / 100 * size[place % 2]
        for place, key in enumerate(("x", "y", "width", "height"))
    )
    if min(w, h) < 0:
        raise ValueError(f"a side is negative: {w:g} x {h:g}")
    theta = math.radians(_number(value.get("rotation", 0), "rotation"))
    cos, sin = math.cos(theta), math.sin(theta)
    offsets = ((0, 0), (w, 0), (w, h), (0, h))
    return size, tuple(v for a, b in offsets for v in (x + a * cos - b * sin, y + a * sin + b * cos))


def _number(value: Any, name: str) -> float:
    """Return a finite number.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {str(value)[:40]!r}, no finite number")
    return float(value)


def write_label_studio(path: Path, images: Sequence[ToolImage]) -> None:
    """Write tasks with annotations that Label Studio imports; images are looked for by their names.

    Args:
        path: The json file.
        images: Each with its size.
    """
    tasks = []
    for number, image in enumerate(images, start=1):
        assert image.size is not None  # the caller knows its images
        regions = [
            _studio_record(image.size, item, f"{number}-{place}") for place, item in enumerate(image.objects)
        ]
        tasks.append(dict(id=number, data=dict(image=image.name), annotations=[dict(result=regions)]))
    path.write_text(json.dumps(tasks), encoding="utf-8")


def _studio_record(size: tuple[int, int], item: LabelledBox, identity: str) -> dict[str, Any]:
    percent = 100 / np.array(size)
    box = as_turned_rectangle(item.quad)
    if box is None:
        kind, value = "polygonlabels", dict(points=(np.reshape(item.quad, (4, 2)) * percent).tolist())
    else:
        x, y, w, h = (np.array([*rbox_to_quad([box])[0, 0], *box[2:4]]) * np.tile(percent, 2)).tolist()
        value = dict(x=x, y=y, width=w, height=h, rotation=math.degrees(box[4]) % 360)
        kind = "rectanglelabels"
    return dict(
        id=identity, type=kind, from_name="label", to_name="image", image_rotation=0,
        original_width=size[0], original_height=size[1], value={**value, kind: [item.name]},
    )  # fmt: skip


def read_cvat(path: Path, report: DatasetReport) -> list[ToolImage]:
    """Read an export of CVAT in its format "CVAT for images 1.1".

    Boxes and polygons are read; other shapes are counted. An attribute ``difficult`` is the difficulty.

    Args:
        path: The xml file.
        report: Takes malformed shapes, which are left out.

    Raises:
        DataError: The file cannot be read, or is no such export.
    """
    root = parse_xml(path)
    if root.tag != "annotations" or root.find("track") is not None:
        what = (
            "an export for video: objects are tracks"
            if root.tag == "annotations"
            else f"the root is <{root.tag}>"
        )
        fix = "export the task in the format 'CVAT for images 1.1'"
        raise DataError(f"no export of CVAT for images: {what}", where=path, fix=fix)
    images = []
    for node in root.findall("image"):
        name = node.get("name") or ""
        if not name:
            error = DataError("an <image> without a name", where=path, fix=_FIX)
            report.error(MALFORMED_OBJECTS, error, path)
            continue
        images.append(ToolImage(name, _cvat_size(node), tuple(_cvat_objects(path, name, node, report))))
    return images


def _cvat_size(node: Element) -> tuple[int, int] | None:
    holder = Element("size")
    for tag in ("width", "height"):
        ElementTree.SubElement(holder, tag).text = node.get(tag)
    return read_size(holder, "width", "height")


def _cvat_objects(path: Path, name: str, image: Element, report: DatasetReport) -> Iterator[LabelledBox]:
    report.note(OTHER_SHAPES, [path.name for node in image if node.tag in _CVAT_OTHERS])
    shapes = [node for node in image if node.tag in _CVAT_AREAS]
    for number, node in enumerate(shapes, start=1):
        try:
            label = (node.get("label") or "").strip()
            if not label:
                raise ValueError("no label")
            quad = _cvat_box(node) if node.tag == "box" else corners_of(_cvat_points(node), path, report)
            yield LabelledBox(quad, label, _cvat_difficulty(node))
        except ValueError as error:
            where = f"{path}, {name}, shape {number}"
            problem = DataError(f"malformed <{node.tag}>: {error}", where=where, fix=_FIX)
            report.error(MALFORMED_OBJECTS, problem, path)


def _cvat_box(node: Element) -> tuple[float, ...]:
    x1, y1, x2, y2 = (_attribute(node, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if x2 < x1 or y2 < y1:
        raise ValueError(f"a side is negative: {x2 - x1:g} x {y2 - y1:g}")
    theta = math.radians(_attribute(node, "rotation", "0"))
    box = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, theta)
    return tuple(rbox_to_quad([box]).reshape(-1).tolist())


def _cvat_points(node: Element) -> NDArray[np.float64]:
    text = node.get("points") or ""
    try:
        points = [[float(value) for value in point.split(",")] for point in text.split(";") if point.strip()]
    except ValueError:
        raise ValueError(f"points are {text[:60]!r}, not 'x,y;x,y'") from None
    if any(len(point) != 2 for point in points):
        raise ValueError(f"points are {text[:60]!r}, not 'x,y;x,y'")
    return np.array(points, dtype=np.float64).reshape(-1, 2)


def _cvat_difficulty(node: Element) -> int:
    for attribute in node.findall("attribute"):
        if attribute.get("name") == "difficult":
            text = (attribute.text or "").strip().lower()
            text = {"true": "1", "false": "0", "": "0"}.get(text, text)
            if not (text.isascii() and text.isdecimal()) or len(text) > 3:
                raise ValueError(f"difficult is {text[:40]!r}, no whole number")
            return int(text)
    return 0


def _attribute(node: Element, key: str, absent: str | None = None) -> float:
    text = node.get(key, absent)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} is {str(text)[:40]!r}, no finite number")
    return value


def write_cvat(path: Path, images: Sequence[ToolImage]) -> None:
    """Write boxes, turned where they are rectangles, else polygons, as CVAT imports them.

    Args:
        path: The xml file.
        images: Each with its size.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for number, image in enumerate(images):
        assert image.size is not None  # the caller knows its images
        width, height = map(str, image.size)
        head = dict(id=str(number), name=image.name, width=width, height=height)
        node = ElementTree.SubElement(root, "image", head)
        for item in image.objects:
            common = dict(label=item.name, source="manual", occluded="0")
            box = as_turned_rectangle(item.quad)
            if box is None:
                points = ";".join(f"{x:.6f},{y:.6f}" for x, y in np.reshape(item.quad, (4, 2)).tolist())
                shape = ElementTree.SubElement(node, "polygon", {**common, "points": points})
            else:
                cx, cy, w, h, theta = box
                sides = dict(xtl=cx - w / 2, ytl=cy - h / 2, xbr=cx + w / 2, ybr=cy + h / 2)
                sides["rotation"] = math.degrees(theta) % 360
                texts = {key: f"{value:.6f}" for key, value in sides.items()}
                shape = ElementTree.SubElement(node, "box", {**common, **texts})
            shape.set("z_order", "0")
            if item.difficulty:
                ElementTree.SubElement(shape, "attribute", name="difficult").text = str(item.difficulty)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, "utf-8", xml_declaration=True)


TOOL_READERS: dict[str, Callable[[Path, DatasetReport], list[ToolImage]]] = {
    "label-studio": read_label_studio,
    "cvat": read_cvat,
}
