"""XML label files: VOC dialects (DIOR-R, HRSC2016, SSDD, RSDD-SAR) and FAIR1M."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport
from rsfoundation.geometry.boxes import as_turned_rectangle, quad_to_rbox, rbox_to_quad
from rsfoundation.io.dota import LabelFile, LabelledBox, SplitFiles, list_images, pair_up

BoxKind = Literal["oriented", "horizontal"]
RboxDialect = Literal["roLabelImg", "RSDD-SAR"]
MALFORMED_OBJECTS = "malformed objects"  # kind in reports
_ORDER = ("left_top", "right_top", "right_bottom", "left_bottom")
_CORNERS = tuple(f"{axis}_{corner}" for corner in _ORDER for axis in "xy")
_NUMBERED = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")
_CENTRED = ("cx", "cy", "w", "h", "angle")
_UPRIGHT = ("xmin", "ymin", "xmax", "ymax")


def read_voc_xml(
    path: Path,
    report: DatasetReport | None = None,
    *,
    kind: BoxKind = "oriented",
    dialect: RboxDialect = "roLabelImg",
) -> LabelFile:
    """Read one file: ``<object>`` with ``<name>``, ``<difficult>``, and ``<robndbox>`` or ``<bndbox>``.

    An oriented box has eight corner tags (DIOR-R: ``x_left_top`` ...; or ``x1`` ...), or ``cx cy w h angle``
    in radians, clockwise. Where an object has no ``<robndbox>``, its ``<bndbox>`` is taken.

    Args:
        path: The file.
        report: Takes the malformed objects, which are left out; without one they raise.
        kind: ``horizontal`` reads ``<bndbox>`` only.
        dialect: Side that ``angle`` belongs to: ``w`` in roLabelImg's files, the long side ``h`` in those of
            RSDD-SAR. Read by the wrong one, every box is turned by a right angle.

    Raises:
        DataError: The file is no xml; without a report, an object is malformed.
    """
    root = parse_xml(path)
    read = partial(_object, kind, dialect)
    objects = read_objects(root.findall("object"), read, path, report)
    return LabelFile(objects, size=read_size(root.find("size"), "width", "height"))


def write_voc_xml(path: Path, image: str, size: tuple[int, int], objects: Sequence[LabelledBox]) -> int:
    """Write one file as roLabelImg does, that :func:`read_voc_xml` reads; ``<bndbox>`` is there as well.

    Args:
        path: The file.
        image: Name of the image file.
        size: Its width and height in pixels.
        objects: Each becomes the smallest rectangle around its corners, with ``angle`` in [0, pi).

    Returns:
        How many of the objects were no rectangles.
    """
    root, bent = ElementTree.Element("annotation"), 0
    ElementTree.SubElement(root, "filename").text = image
    node = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3), strict=True):
        ElementTree.SubElement(node, tag).text = str(value)
    for item in objects:
        box = as_turned_rectangle(item.quad)
        bent += box is None
        cx, cy, w, h, theta = box or quad_to_rbox([item.quad])[0].tolist()
        corners = np.reshape(item.quad, (4, 2))
        upright = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
        node = ElementTree.SubElement(root, "object")
        texts = dict(type="robndbox", name=item.name, pose="Unspecified", truncated="0")
        for tag, text in {**texts, "difficult": str(item.difficulty)}.items():
            ElementTree.SubElement(node, tag).text = text
        for kind, tags, values in (
            ("robndbox", _CENTRED, (cx, cy, w, h, theta % math.pi)),
            ("bndbox", _UPRIGHT, upright),
        ):
            place = ElementTree.SubElement(node, kind)
            for tag, number in zip(tags, values, strict=True):
                ElementTree.SubElement(place, tag).text = f"{number:.6f}"
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, "utf-8", xml_declaration=True)
    return bent


def parse_xml(path: Path) -> Element:
    """Return the root of an xml file.

    Raises:
        DataError: The file is missing or no xml.
    """
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError("label file not found", where=path, fix="check the label folder") from None
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"label file is no xml: {error}", where=path, fix="replace the file") from error


def read_objects(
    nodes: list[Element], read: Callable[[Element], LabelledBox], path: Path, report: DatasetReport | None
) -> tuple[LabelledBox, ...]:
    """Read every object of a file and return the good ones.

    Args:
        nodes: The objects.
        read: Reads one; raises ``ValueError`` where it is malformed.
        path: The file.
        report: Takes the malformed objects; without one they raise.

    Raises:
        DataError: Without a report, an object is malformed.
    """
    found = DatasetReport() if report is None else report
    objects: list[LabelledBox] = []
    for number, node in enumerate(nodes, start=1):
        try:
            objects.append(read(node))
        except ValueError as error:
            fix = f"correct the object, or leave such objects out with {SKIPPING}"
            where = f"{path}, object {number}"
            found.error(
                MALFORMED_OBJECTS, DataError(f"malformed object: {error}", where=where, fix=fix), path
            )
    if report is None:
        found.enforce("fail")
    return tuple(objects)


def read_text(node: Element, tag: str) -> str:
    """Return the text below a tag.

    Args:
        node: Above the tag.
        tag: Name or path of the tag.

    Raises:
        ValueError: There is none.
    """
    text = (node.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"no <{tag}>")
    return text


def read_numbers(node: Element, tags: tuple[str, ...]) -> tuple[float, ...]:
    """Return finite numbers from tags below a node.

    Args:
        node: Above the tags.
        tags: Their names.

    Raises:
        ValueError: One is missing or no number.
    """
    values = []
    for tag in tags:
        text = read_text(node, tag)
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"<{tag}> is {text[:40]!r}, no number") from None
        if not math.isfinite(value):
            raise ValueError(f"<{tag}> is {text[:40]!r}, not finite")
        values.append(value)
    return tuple(values)


def read_size(node: Element | None, width: str, height: str) -> tuple[int, int] | None:
    """Return width and height; ``None`` where they are absent or no positive numbers.

    Args:
        node: Above the tags; ``None`` where a file has none.
        width: Name of the tag with the width.
        height: Name of the tag with the height.
    """
    try:
        size = read_numbers(node, (width, height)) if node is not None else (0.0, 0.0)
    except ValueError:
        return None
    return (int(size[0]), int(size[1])) if min(size) >= 1 else None


def read_difficulty(node: Element) -> int:
    """Return ``<difficult>``, 0 where it is absent.

    Raises:
        ValueError: It is no whole number.
    """
    text = (node.findtext("difficult") or "0").strip()
    if not text.isdecimal():
        raise ValueError(f"<difficult> is {text!r}, no whole number")
    return int(text)


def quad_of_rbox(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the corners (8 numbers) of ``cx cy w h angle``, radians clockwise.

    Raises:
        ValueError: A side is negative.
    """
    if min(values[2:4]) < 0:
        raise ValueError(f"a side is negative: {values[2]:g} x {values[3]:g}")
    return tuple(rbox_to_quad([values]).reshape(-1).tolist())


def _object(kind: BoxKind, dialect: RboxDialect, node: Element) -> LabelledBox:
    return LabelledBox(_quad(node, kind, dialect), read_text(node, "name"), read_difficulty(node))


def _quad(node: Element, kind: BoxKind, dialect: RboxDialect) -> tuple[float, ...]:
    box = node.find("robndbox")
    box = node.find("rotated_bndbox") if box is None else box
    if box is None or kind == "horizontal":
        upright = node.find("bndbox")
        if upright is None:
            raise ValueError("no <robndbox> and no <bndbox>" if kind == "oriented" else "no <bndbox>")
        x1, y1, x2, y2 = read_numbers(upright, _UPRIGHT)
        return x1, y1, x2, y1, x2, y2, x1, y2
    for tags in (_CORNERS, _NUMBERED):
        if box.find(tags[0]) is not None:
            return read_numbers(box, tags)
    cx, cy, w, h, angle = read_numbers(box, _CENTRED)
    return quad_of_rbox((cx, cy, w, h, angle) if dialect == "roLabelImg" else (cx, cy, h, w, angle))


LABEL_FOLDERS = ("labelXml", "labelXmls")
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_POINT = re.compile(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*")


def read_fair1m_xml(path: Path, report: DatasetReport | None = None) -> LabelFile:
    """Read one file: ``<object>`` with ``<possibleresult><name>`` and four points.

    The first point is mostly repeated at the end. Blanks in names become ``_``, as DOTA label files need
    it; a point may have blanks after its comma.

    Args:
        path: The file.
        report: Takes the malformed objects, which are left out; without one they raise.

    Raises:
        DataError: The file is no xml, or none of FAIR1M's; without a report, an object is malformed.
    """
    root = parse_xml(path)
    if root.find("objects") is None:
        raise DataError(
            "no label file of FAIR1M: there is no <objects>",
            where=path,
            fix=f"replace it, or leave it out with {SKIPPING}",
        )
    objects = read_objects(root.findall("objects/object"), _fair1m_object, path, report)
    source = (root.findtext("source/origin") or "").strip() or None
    return LabelFile(objects, source, size=read_size(root.find("size"), "width", "height"))


def find_fair1m(folder: Path) -> list[SplitFiles]:
    """List images and labels of ``train``, of one ``part1``, or of ``validation`` or ``test``.

    Returns:
        One entry for each folder with ``images/``: the parts below ``folder``, or ``folder`` itself.

    Raises:
        DataError: There is no such folder, or it has no image.
    """
    parts = sorted(path.parent for path in folder.glob("*/images") if path.is_dir())
    return [_files(part) for part in parts or [folder]]


def image_names(parts: Sequence[SplitFiles]) -> dict[Path, str]:
    """Return the name of every image: its stem, after that of its part where two parts share a stem."""
    images = [image for part in parts for image in part.images]
    count = Counter(image.stem for image in images)
    return {
        image: image.stem if count[image.stem] == 1 else f"{image.parent.parent.name}_{image.stem}"
        for image in images
    }


def _files(part: Path) -> SplitFiles:
    images = list_images(part / "images")
    folder = next((part / name for name in LABEL_FOLDERS if (part / name).is_dir()), None)
    return pair_up(images, sorted(folder.rglob("*.xml")) if folder else None)


def _fair1m_object(node: Element) -> LabelledBox:
    name = "_".join(read_text(node, "possibleresult/name").split())
    points = [_point(point.text or "") for point in node.findall("points/point")]
    if len(points) == 5 and points[0] == points[4]:
        points = points[:4]
    if len(points) != 4:
        raise ValueError(f"{len(points)} points; expected 4, or 5 with the first repeated")
    return LabelledBox(tuple(value for point in points for value in point), name)


def _point(text: str) -> tuple[float, float]:
    match = _POINT.fullmatch(text)
    if match is None:
        raise ValueError(f"point {text.strip()[:40]!r} is not 'x,y'")
    x, y = float(match[1]), float(match[2])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"point {text.strip()[:40]!r} is not finite")
    return x, y
