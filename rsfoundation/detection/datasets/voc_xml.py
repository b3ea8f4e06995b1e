"""Oriented boxes in Pascal VOC style xml: DIOR-R, roLabelImg (SSDD), and plain upright boxes."""

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from rsfoundation.errors import DataError
from rsfoundation.structures.boxes import rbox_to_quad
from rsfoundation.structures.dota_txt import SKIPPING, DotaLabel, DotaObject, Policy

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
        raise DataError("label file not found", where=path, cure="check the label folder") from None
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"label file is no xml: {error}", where=path, cure="replace the file") from error


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
                cure = f"mend the object, or leave such objects out with {SKIPPING}"
                raise DataError(sentence, where=f"{path}, object {number}", cure=cure) from None
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
