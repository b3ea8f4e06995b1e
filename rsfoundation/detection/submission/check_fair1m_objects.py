"""Rules of FAIR1M's server for the detections in an xml file: classes, scores and corners."""

import re
from collections.abc import Iterator
from functools import lru_cache
from xml.etree.ElementTree import Element

from rsfoundation.detection.submission.fair1m import official_name
from rsfoundation.detection.submission.faults import Faults, Finding
from rsfoundation.detection.submission.values import bad_corners, bad_score, numbers, repeated, too_far
from rsfoundation.errors import nearest

Boxes = dict[tuple[str, tuple[float, ...]], int]  # line of each class and box


def check_objects(root: Element, text: str, where: str, known: frozenset[str], faults: Faults) -> int:
    """Check every detection of a file.

    Args:
        root: Of the xml.
        text: Of the file.
        where: Archive and file.
        known: Class names as the server spells them.
        faults: Receives what is wrong.

    Returns:
        How many detections there are.
    """
    lines = dict(zip(root.iter("object"), _object_lines(text), strict=False))
    earlier: Boxes = {}
    nodes = root.findall("objects/object")
    for node in nodes:
        finding = _check_object(node, lines[node], known, earlier)
        if finding is not None:
            faults.add(f"{where}:{lines[node]}", finding)
    return len(nodes)


def _check_object(node: Element, line: int, known: frozenset[str], earlier: Boxes) -> Finding | None:
    name = (node.findtext("possibleresult/name") or "").strip()
    if name not in known:
        hint = _class_hint(name[:100], known)
        what = f"unknown class {name[:100]!r}{f'; {hint}' if hint else ''}"
        return Finding("unknown class", what, "write class names as in FAIR1M's own labels, with blanks")
    bad = bad_score((node.findtext("possibleresult/probability") or "").strip())
    if bad is not None:
        return Finding("bad score", bad, "write the detector's score, 0 to 1, into <probability>")
    points = _points(node)
    if points is None:
        return Finding("bad point", "a <point> is not 'x,y'", "write <point>x,y</point> in pixels")
    finding = _bad_points(points)
    if finding is not None:
        return finding
    first = earlier.setdefault((name, tuple(points)), line)
    return None if first == line else repeated(first)


@lru_cache(maxsize=100)  # where one name is wrong, thousands are
def _class_hint(name: str, known: frozenset[str]) -> str:
    return nearest(official_name(name), sorted(known), 1)


def _bad_points(points: list[float]) -> Finding | None:
    if len(points) != 10 or points[:2] != points[8:]:
        what = f"{len(points) // 2} points; expected 5, the last equal to the first"
        return Finding("wrong points", what, "repeat the first corner at the end")
    return too_far(points) or bad_corners(points[:8])


def _points(node: Element) -> list[float] | None:
    texts = [(point.text or "").split(",") for point in node.findall("points/point")]
    if any(len(pair) != 2 for pair in texts):
        return None
    return numbers([value for pair in texts for value in pair])


def _object_lines(text: str) -> Iterator[int]:
    """Return the line of each ``<object>``, which the parser does not tell; comments hold none."""
    line, position = 1, 0
    for match in re.finditer(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<object(?=[\s>/])", text, re.DOTALL):
        if match[0] == "<object":
            line += text.count("\n", position, match.start())
            position = match.start()
            yield line
