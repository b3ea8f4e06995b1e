"""Rules of FAIR1M's server: layout, class names and fields of the xml files."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from rsfoundation.detection.classes import FAIR1M_CLASSES
from rsfoundation.detection.submission.archive import file_names, read_text
from rsfoundation.detection.submission.fair1m import FOLDER, official_name
from rsfoundation.detection.submission.faults import Faults, area, bad_score, numbers
from rsfoundation.errors import nearest

_LEAST_AREA = 1e-6
Finding = tuple[str, str, str]  # kind, sentence, cure


def check_fair1m(
    archive: ZipFile, images: Collection[str] | None, classes: Sequence[str] | None, faults: Faults
) -> tuple[int, int]:
    """Check an archive of xml files.

    Args:
        archive: The archive.
        images: Names of the test images; ``None`` accepts any.
        classes: Class names; ``None`` takes the 37 of FAIR1M.
        faults: Receives what is wrong.

    Returns:
        How many images have a file, and how many detections there are.
    """
    names = file_names(archive)
    known = frozenset(official_name(name) for name in classes or FAIR1M_CLASSES)
    _check_names(str(archive.filename), names, images, faults)
    documents = [name for name in names if name.lower().endswith(".xml")]
    detections = 0
    for name in documents:
        where = f"{archive.filename}/{name}"
        text = read_text(archive, name)
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            faults.add(
                "broken xml", f"{where}:{error.position[0]}", f"the file is no xml: {error}", "write it again"
            )
            continue
        _check_head(root, name, where, faults)
        detections += _check_objects(root, text, where, known, faults)
    return len(documents), detections


def _check_names(path: str, names: Sequence[str], images: Collection[str] | None, faults: Faults) -> None:
    for name in names:
        place = PurePosixPath(name)
        if place.suffix != ".xml":
            faults.add("unexpected file", f"{path}/{name}", f"unexpected file {name!r}", "take it out")
        elif str(place.parent) != FOLDER:
            found = f"in the folder {str(place.parent)!r}" if "/" in name else "at the top of the archive"
            what = f"the file lies {found}; expected '{FOLDER}/{place.name}'"
            faults.add(
                "wrong folder",
                f"{path}/{name}",
                what,
                f"put all xml files into {FOLDER}/: zip -r test.zip {FOLDER}",
            )
        elif images is not None and place.stem not in images:
            hint = nearest(place.stem, images, 1)
            what = f"unknown image {place.stem!r}{f'; {hint}' if hint else ''}"
            faults.add("unknown image", f"{path}/{name}", what, "name the file after its test image")
    stems = {PurePosixPath(name).stem for name in names}
    for image in sorted(set(images or ()) - stems):
        what = f"the image {image!r} has no xml file"
        faults.add("missing file", path, what, "add one, with empty <objects> where nothing was found")


def _check_head(root: Element, name: str, where: str, faults: Faults) -> None:
    stem, found = PurePosixPath(name).stem, (root.findtext("source/filename") or "").strip()
    if found.rsplit(".", 1)[0] != stem:
        what = f"<filename> is {found!r}; expected that of image {stem!r}"
        faults.add("wrong file name", where, what, "write the image's own name into <source><filename>")
    sides = [root.findtext(f"size/{side}") for side in ("width", "height")]
    if not all((side or "").strip().isdecimal() and int(side or 0) > 0 for side in sides):
        faults.add("bad size", where, f"<size> says {sides}", "write the image's width and height in pixels")
    if root.find("objects") is None:
        faults.add("no objects", where, "there is no <objects>", "add it, empty where nothing was found")


def _check_objects(root: Element, text: str, where: str, known: Collection[str], faults: Faults) -> int:
    lines = _object_lines(text)
    earlier: dict[tuple[str, tuple[float, ...]], int] = {}
    nodes = root.findall("objects/object")
    for node in nodes:
        line = next(lines)
        fault = _check_object(node, known) or _check_repeat(node, line, earlier)
        if fault is not None:
            faults.add(fault[0], f"{where}:{line}", *fault[1:])
    return len(nodes)


def _check_object(node: Element, known: Collection[str]) -> Finding | None:
    name = (node.findtext("possibleresult/name") or "").strip()
    if name not in known:
        hint = nearest(official_name(name), known, 1)
        what = f"unknown class {name!r}{f'; {hint}' if hint else ''}"
        return "unknown class", what, "write class names as in FAIR1M's own labels, with blanks"
    bad = bad_score(node.findtext("possibleresult/probability") or "")
    if bad is not None:
        return "bad score", bad, "write the detector's score, 0 to 1, into <probability>"
    points = _points(node)
    if points is None:
        return "bad point", "a <point> is not 'x,y'", "write <point>x,y</point> in pixels"
    if len(points) != 10 or points[:2] != points[8:]:
        what = f"{len(points) // 2} points; expected 5, the last equal to the first"
        return "wrong points", what, "repeat the first corner at the end"
    if area(points[:8]) < _LEAST_AREA:
        return (
            "no area",
            "the corners enclose no area, or cross each other",
            "take the object out, or order them",
        )
    return None


def _check_repeat(
    node: Element, line: int, earlier: dict[tuple[str, tuple[float, ...]], int]
) -> Finding | None:
    key = (node.findtext("possibleresult/name") or "", tuple(_points(node) or ()))
    first = earlier.setdefault(key, line)
    if first == line:
        return None
    what = f"the same box stands in line {first} already: each repetition counts as a wrong detection"
    return "repeated box", what, "suppress overlapping boxes of a class: `rsf test --format-only` does"


def _points(node: Element) -> list[float] | None:
    texts = [(point.text or "").split(",") for point in node.findall("points/point")]
    return (
        numbers([value for pair in texts for value in pair])
        if all(len(pair) == 2 for pair in texts)
        else None
    )


def _object_lines(text: str) -> Iterator[int]:
    """Return the line of each ``<object>``, which the parser does not tell."""
    line, position = 1, 0
    for match in re.finditer(r"<object[\s>/]", text):
        line += text.count("\n", position, match.start())
        position = match.start()
        yield line
