"""XML label files: VOC dialects (DIOR-R, HRSC2016, SSDD) and FAIR1M."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, Policy
from rsfoundation.geometry.boxes import rbox_to_quad
from rsfoundation.io.dota import DotaLabel, DotaObject, SplitFiles, list_images, pair_up

BoxKind = Literal["oriented", "horizontal"]
_ORDER = ("left_top", "right_top", "right_bottom", "left_bottom")
_CORNERS = tuple(f"{axis}_{corner}" for corner in _ORDER for axis in "xy")
_NUMBERED = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")
_CENTRED = ("cx", "cy", "w", "h", "angle")
_UPRIGHT = ("xmin", "ymin", "xmax", "ymax")


def read_voc_xml(path: Path, policy: Policy = "fail", kind: BoxKind = "oriented") -> DotaLabel:
    """Read one file: ``<object>`` with ``<name>``, ``<difficult>``, and ``<robndbox>`` or ``<bndbox>``.

    An oriented box has eight corner tags (DIOR-R: ``x_left_top`` ...; or ``x1`` ...), or ``cx cy w h angle``
    with radians, clockwise (roLabelImg). Where an object has no ``<robndbox>``, its ``<bndbox>`` is taken.

    Args:
        path: The file.
        policy: What a malformed object does: ``fail`` raises, ``skip`` leaves it out and reports it.
        kind: ``horizontal`` reads ``<bndbox>`` only.

    Raises:
        DataError: The file is no xml; under ``fail``, an object is malformed.
    """
    root = parse_xml(path)
    objects, skipped = read_objects(root.findall("object"), partial(_object, kind), path, policy)
    return DotaLabel(objects, skipped=skipped, size=read_size(root.find("size"), "width", "height"))


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
    nodes: list[Element], read: Callable[[Element], DotaObject], path: Path, policy: Policy
) -> tuple[tuple[DotaObject, ...], tuple[str, ...]]:
    """Read every object; return the good ones, and a sentence for each left out under ``skip``.

    Raises:
        DataError: Under ``fail``, an object is malformed: ``read`` raised ``ValueError``.
    """
    objects: list[DotaObject] = []
    skipped: list[str] = []
    for number, node in enumerate(nodes, start=1):
        try:
            objects.append(read(node))
        except ValueError as error:
            sentence = f"malformed object: {error}"
            if policy == "fail":
                fix = f"mend the object, or leave such objects out with {SKIPPING}"
                raise DataError(sentence, where=f"{path}, object {number}", fix=fix) from None
            skipped.append(f"{path}, object {number}: {error}")
    return tuple(objects), tuple(skipped)


def read_text(node: Element, tag: str) -> str:
    """Return the text below a tag.

    Raises:
        ValueError: There is none.
    """
    text = (node.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"no <{tag}>")
    return text


def read_numbers(node: Element, tags: tuple[str, ...]) -> tuple[float, ...]:
    """Return finite numbers from tags below a node.

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
    """Return width and height where they are given and make sense."""
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


def _object(kind: BoxKind, node: Element) -> DotaObject:
    return DotaObject(_quad(node, kind), read_text(node, "name"), read_difficulty(node))


def _quad(node: Element, kind: BoxKind) -> tuple[float, ...]:
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
    return quad_of_rbox(read_numbers(box, _CENTRED))


LABEL_FOLDERS = ("labelXml", "labelXmls")
_NUMBER = r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?"
_POINT = re.compile(rf"\s*({_NUMBER})\s*,\s*({_NUMBER})\s*")


def read_fair1m_xml(path: Path, policy: Policy = "fail") -> DotaLabel:
    """Read one file: ``<object>`` with ``<possibleresult><name>`` and four points, mostly followed by
    the first again.

    Blanks in names become ``_``, as DOTA label files need it; a point may have blanks after its comma.

    Args:
        path: The file.
        policy: What a malformed object does: ``fail`` raises, ``skip`` leaves it out and reports it.

    Raises:
        DataError: The file is no xml, or none of FAIR1M's; under ``fail``, an object is malformed.
    """
    root = parse_xml(path)
    if root.find("objects") is None:
        raise DataError(
            "no label file of FAIR1M: there is no <objects>",
            where=path,
            fix=f"replace it, or leave it out with {SKIPPING}",
        )
    objects, skipped = read_objects(root.findall("objects/object"), _fair1m_object, path, policy)
    source = (root.findtext("source/origin") or "").strip() or None
    return DotaLabel(objects, source, None, skipped, read_size(root.find("size"), "width", "height"))


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
    """Return what images are called: their stem, after that of their part where two parts share a stem."""
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


def _fair1m_object(node: Element) -> DotaObject:
    name = "_".join(read_text(node, "possibleresult/name").split())
    points = [_point(point.text or "") for point in node.findall("points/point")]
    if len(points) == 5 and points[0] == points[4]:
        points = points[:4]
    if len(points) != 4:
        raise ValueError(f"{len(points)} points; expected 4, or 5 with the first repeated")
    return DotaObject(tuple(value for point in points for value in point), name)


def _point(text: str) -> tuple[float, float]:
    match = _POINT.fullmatch(text)
    if match is None:
        raise ValueError(f"point {text.strip()[:40]!r} is not 'x,y'")
    return float(match[1]), float(match[2])
