"""Rules of FAIR1M's server: layout of the archive and heads of the xml files."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from rsfoundation.core.errors import nearest
from rsfoundation.datasets.oriented.classes import FAIR1M_CLASSES
from rsfoundation.evaluation.submission.checks import (
    Faults,
    Finding,
    ImageNames,
    bad_corners,
    bad_score,
    base_name,
    numbers,
    read_text,
    repeated,
    set_aside,
    too_far,
)
from rsfoundation.evaluation.submission.writing import FOLDER, official_name

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


_LARGEST = 64 << 20  # bytes of one xml; 90 000 detections in one image, and its tree takes ten times as much


def check_fair1m(
    archive: ZipFile, names: Sequence[str], images: ImageNames, classes: Sequence[str] | None, faults: Faults
) -> tuple[int, int]:
    """Check an archive of xml files.

    Args:
        archive: The archive.
        names: Of the files in it.
        images: Names of the test images.
        classes: Class names; ``None`` takes the 37 of FAIR1M.
        faults: Receives what is wrong.

    Returns:
        How many images have a file, and how many detections there are.
    """
    known = frozenset(official_name(name) for name in classes or FAIR1M_CLASSES)
    path = str(archive.filename)
    kept = set_aside(path, names, faults)
    for name in kept:
        finding = _misplaced(name, images)
        if finding is not None:
            faults.add(f"{path}/{name}", finding)
    _check_missing(path, names, images, faults)
    documents = [name for name in kept if _is_xml(name)]
    detections = sum(_check_file(archive, name, known, faults) for name in documents)
    return len(documents), detections


def _misplaced(name: str, images: ImageNames) -> Finding | None:
    place = PurePosixPath(name)
    if place.suffix != ".xml":
        fix = "rename it: its suffix is '.xml'" if _is_xml(name) else "take it out"
        return Finding("unexpected file", f"unexpected file {name!r}", fix)
    if str(place.parent) != FOLDER:
        found = f"in the folder {str(place.parent)!r}" if "/" in name else "at the top of the archive"
        what = f"the file lies {found}; expected '{FOLDER}/{place.name}'"
        return Finding("wrong folder", what, f"put all xml files into {FOLDER}/: zip -r test.zip {FOLDER}")
    return images.fault(place.stem)


def _check_missing(path: str, names: Sequence[str], images: ImageNames, faults: Faults) -> None:
    there = {_stem(name) for name in names if _is_xml(name)}
    for image in sorted((images.known or frozenset()) - there):
        what = f"the image {image!r} has no xml file"
        fix = "add one, with empty <objects> where nothing was found"
        faults.add(path, Finding("missing file", what, fix))


def _check_file(archive: ZipFile, name: str, known: frozenset[str], faults: Faults) -> int:
    """Check one xml file; return how many detections it has."""
    where, size = f"{archive.filename}/{name}", archive.getinfo(name).file_size
    if size > _LARGEST:
        what = f"the file has {size / 2**20:.0f} MiB; no image has detections for more than {_LARGEST >> 20}"
        fix = "keep fewer detections: a higher score threshold, or max_per_img in the test_cfg"
        faults.add(where, Finding("large file", what, fix))
        return 0
    text = read_text(archive, name)
    if "<!ENTITY" in text:  # a few of them, one within the other, unpack to gigabytes
        what = "the xml declares entities; those of FAIR1M have none"
        faults.add(where, Finding("entities", what, "write it without a document type"))
        return 0
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        broken = Finding("broken xml", f"the file is no xml: {error}", "write it again")
        faults.add(f"{where}:{error.position[0]}", broken)
        return 0
    _check_head(root, name, where, faults)
    return check_objects(root, text, where, known, faults)


def _check_head(root: Element, name: str, where: str, faults: Faults) -> None:
    stem, found = _stem(name), (root.findtext("source/filename") or "").strip()
    if found.rsplit(".", 1)[0] != stem:
        what = f"<filename> is {found[:100]!r}; expected that of image {stem!r}"
        fix = "write the image's own name into <source><filename>"
        faults.add(where, Finding("wrong file name", what, fix))
    sides = [(root.findtext(f"size/{side}") or "").strip()[:100] for side in ("width", "height")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,5}", side) for side in sides):
        what = f"<size> says {sides}; expected width and height of 1 to 999999 pixels"
        faults.add(where, Finding("bad size", what, "write the image's width and height in pixels"))
    if root.find("objects") is None:
        finding = Finding("no objects", "there is no <objects>", "add it, empty where nothing was found")
        faults.add(where, finding)


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _stem(name: str) -> str:
    return PurePosixPath(base_name(name)).stem
