"""Result files of FAIR1M's server: ``test/<image>.xml`` in a zip, one for every test image."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO
from xml.etree.ElementTree import Element, SubElement
from zipfile import ZipFile

import numpy as np

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.datasets.oriented.classes import FAIR1M_CLASSES
from rsfoundation.evaluation.oriented.image_results import ImageResult
from rsfoundation.evaluation.submission.archive import (
    base_name,
    file_names,
    read_text,
    temporary_file,
    write_zip,
)
from rsfoundation.evaluation.submission.dota_results import ResultRow, Written, has_area, score_texts
from rsfoundation.evaluation.submission.problems import (
    ImageNames,
    Problem,
    ProblemReport,
    check_corners,
    check_range,
    check_score,
    drop_stray_files,
    parse_numbers,
    repeated_box,
)
from rsfoundation.geometry.boxes import rbox_to_quad

FOLDER = "test"
_RESEARCH = {  # the server wants the fields and ignores their content
    "version": "4.0",
    "provider": "provider",
    "author": "author",
    "pluginname": "FAIR1M",
    "pluginclass": "object detection",
    "time": "2021-07",
}


def official_name(name: str) -> str:
    """Return a class name as the server spells it: where ours has ``_``, it has a blank."""
    return name.replace("_", " ")


def write_fair1m(
    folder: Path,
    images: Iterable[ImageResult],
    classes: Sequence[str],
    size_of: Callable[[ImageResult], tuple[int, int]],
    suffix: str = ".tif",
) -> Written:
    """Write ``test.zip``; equal detections give equal bytes. An image without detections has a file too.

    Args:
        folder: Folder of the archive.
        images: Full images, one at a time.
        classes: Names, in label order.
        size_of: Returns width and height of a full image in pixels.
        suffix: Of the image files.
    """
    counts = {"images": 0, "detections": 0, "flat": 0}

    def files() -> Iterator[tuple[str, IO[bytes]]]:
        for result in images:
            corners = rbox_to_quad(result.boxes)
            keep = has_area(corners)
            counts["images"] += 1
            counts["detections"] += int(keep.sum())
            counts["flat"] += int((~keep).sum())
            with temporary_file() as file:
                file.write(_document(result, corners, keep, classes, size_of(result), suffix))
                yield f"{FOLDER}/{result.name}.xml", file

    path = folder / "test.zip"
    write_zip(path, files())
    return Written((path,), **counts)


def _document(
    result: ImageResult,
    corners: np.ndarray,
    keep: np.ndarray,
    classes: Sequence[str],
    size: tuple[int, int],
    suffix: str,
) -> bytes:
    root = Element("annotation")
    _fill(SubElement(root, "source"), {"filename": f"{result.name}{suffix}", "origin": "GF2/GF3"})
    _fill(SubElement(root, "research"), _RESEARCH)
    _fill(SubElement(root, "size"), {"width": str(size[0]), "height": str(size[1]), "depth": "3"})
    objects = SubElement(root, "objects")
    texts = score_texts(result.scores)
    for row in np.flatnonzero(keep):
        node = SubElement(objects, "object")
        _fill(node, {"coordinate": "pixel", "type": "rectangle", "description": "None"})
        name = official_name(classes[result.labels[row]])
        _fill(SubElement(node, "possibleresult"), {"name": name, "probability": texts[row]})
        points = SubElement(node, "points")
        for x, y in (*corners[row], corners[row][0]):
            SubElement(points, "point").text = f"{x:.2f},{y:.2f}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _fill(node: Element, texts: dict[str, str]) -> None:
    for tag, text in texts.items():
        SubElement(node, tag).text = text


def read_fair1m(archive: ZipFile, classes: Sequence[str]) -> Iterator[ResultRow]:
    """Yield the detections of an archive of xml files, file by file.

    Args:
        archive: The archive.
        classes: Names in label order, with ``_`` where the files have blanks.

    Raises:
        DataError: A file is no xml, or a detection is malformed or of an unknown class.
    """
    labels = {official_name(name): label for label, name in enumerate(classes)}
    for name in filter(is_xml, file_names(archive)):
        parsed = parse_document(archive, name)
        if isinstance(parsed, Problem):
            raise DataError(parsed.what, where=parsed.where, fix=parsed.fix)
        for place, node in enumerate(parsed[0].findall("objects/object"), start=1):
            label = labels.get((node.findtext("possibleresult/name") or "").strip())
            score = parse_numbers([(node.findtext("possibleresult/probability") or "").strip()])
            points = parse_points(node)
            if label is None or score is None or points is None or len(points) not in (8, 10):
                raise DataError(
                    f"object {place} is no detection of a known class; expected <name>, <probability> and 4 "
                    "or 5 <point>",
                    where=f"{archive.filename}/{name}",
                    fix="`rsf submission check` lists every such object; --class names classes of your own",
                )
            yield ResultRow(_stem(name), label, score[0], tuple(points[:8]))


_MAX_XML = 64 << 20  # bytes; 90 000 detections in one image, and its tree takes ten times as much memory


def check_fair1m(
    archive: ZipFile,
    names: Sequence[str],
    images: ImageNames,
    classes: Sequence[str] | None,
    report: ProblemReport,
) -> tuple[int, int]:
    """Check an archive of xml files.

    Args:
        archive: The archive.
        names: Of the files in it.
        images: Names of the test images.
        classes: Class names; ``None`` takes the 37 of FAIR1M.
        report: Receives the problems.

    Returns:
        Number of images that have a file, and of detections.
    """
    known = frozenset(official_name(name) for name in classes or FAIR1M_CLASSES)
    path = str(archive.filename)
    kept = drop_stray_files(path, names, report)
    for name in kept:
        problem = _check_place(name, images)
        if problem is not None:
            report.add(f"{path}/{name}", problem)
    _check_missing(path, names, images, report)
    documents = [name for name in kept if is_xml(name)]
    detections = sum(_check_file(archive, name, known, report) for name in documents)
    return len(documents), detections


def _check_place(name: str, images: ImageNames) -> Problem | None:
    place = PurePosixPath(name)
    if place.suffix != ".xml":
        fix = "rename it: its suffix is '.xml'" if is_xml(name) else "remove it"
        return Problem("unexpected file", f"unexpected file {name!r}", fix)
    if str(place.parent) != FOLDER:
        found = f"in the folder {str(place.parent)!r}" if "/" in name else "at the top of the archive"
        what = f"the file is {found}; expected '{FOLDER}/{place.name}'"
        return Problem("wrong folder", what, f"put all xml files into {FOLDER}/: zip -r test.zip {FOLDER}")
    return images.check(place.stem)


def _check_missing(path: str, names: Sequence[str], images: ImageNames, report: ProblemReport) -> None:
    present = {_stem(name) for name in names if is_xml(name)}
    for image in sorted((images.known or frozenset()) - present):
        what = f"the image {image!r} has no xml file"
        fix = "add one, with empty <objects> where nothing was found"
        report.add(path, Problem("missing file", what, fix))


def _check_file(archive: ZipFile, name: str, known: frozenset[str], report: ProblemReport) -> int:
    """Check one xml file; return how many detections it has."""
    where, parsed = f"{archive.filename}/{name}", parse_document(archive, name)
    if isinstance(parsed, Problem):
        report.add(parsed.where, parsed)
        return 0
    root, text = parsed
    _check_head(root, name, where, report)
    return _check_objects(root, text, where, known, report)


def parse_document(archive: ZipFile, name: str) -> tuple[Element, str] | Problem:
    """Return root and text of an xml file in an archive, or why it cannot be read.

    Args:
        archive: The archive.
        name: Of the file in it.
    """
    where, size = f"{archive.filename}/{name}", archive.getinfo(name).file_size
    if size > _MAX_XML:
        what = f"the file has {size / 2**20:.0f} MiB; no image has detections for more than {_MAX_XML >> 20}"
        fix = "keep fewer detections: a higher score threshold, or max_per_img in the test_cfg"
        return Problem("large file", what, fix, where)
    text = read_text(archive, name)
    if "<!ENTITY" in text:  # nested ones unpack to gigabytes
        what = "the xml declares entities; those of FAIR1M have none"
        return Problem("entities", what, "write it without a document type", where)
    try:
        return ElementTree.fromstring(text), text
    except ElementTree.ParseError as error:
        what = f"the file is no xml: {error}"
        return Problem("broken xml", what, "write it again", f"{where}:{error.position[0]}")


def _check_head(root: Element, name: str, where: str, report: ProblemReport) -> None:
    stem, found = _stem(name), (root.findtext("source/filename") or "").strip()
    if found.rsplit(".", 1)[0] != stem:
        what = f"<filename> is {found[:100]!r}; expected that of image {stem!r}"
        fix = "write the image's own name into <source><filename>"
        report.add(where, Problem("wrong file name", what, fix))
    sides = [(root.findtext(f"size/{side}") or "").strip()[:100] for side in ("width", "height")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,5}", side) for side in sides):
        what = f"<size> says {sides}; expected width and height of 1 to 999999 pixels"
        report.add(where, Problem("bad size", what, "write the image's width and height in pixels"))
    if root.find("objects") is None:
        what = "there is no <objects>"
        report.add(where, Problem("no objects", what, "add it, empty where nothing was found"))


_Boxes = dict[tuple[str, tuple[float, ...]], int]  # line of each class and box


def _check_objects(root: Element, text: str, where: str, known: frozenset[str], report: ProblemReport) -> int:
    """Check every detection of a file; return how many it has."""
    lines = dict(zip(root.iter("object"), _object_lines(text), strict=False))
    earlier: _Boxes = {}
    nodes = root.findall("objects/object")
    for node in nodes:
        problem = _check_object(node, lines[node], known, earlier)
        if problem is not None:
            report.add(f"{where}:{lines[node]}", problem)
    return len(nodes)


def _check_object(node: Element, line: int, known: frozenset[str], earlier: _Boxes) -> Problem | None:
    name = (node.findtext("possibleresult/name") or "").strip()
    if name not in known:
        hint = _class_hint(name[:100], known)
        what = f"unknown class {name[:100]!r}{f'; {hint}' if hint else ''}"
        return Problem("unknown class", what, "write class names as in FAIR1M's own labels, with blanks")
    bad_score = check_score((node.findtext("possibleresult/probability") or "").strip())
    if bad_score is not None:
        return Problem("bad score", bad_score, "write the detector's score, 0 to 1, into <probability>")
    points = parse_points(node)
    if points is None:
        return Problem("bad point", "a <point> is not 'x,y'", "write <point>x,y</point> in pixels")
    problem = _check_points(points)
    if problem is not None:
        return problem
    first = earlier.setdefault((name, tuple(points)), line)
    return None if first == line else repeated_box(first)


@lru_cache(maxsize=100)  # where one name is wrong, thousands are
def _class_hint(name: str, known: frozenset[str]) -> str:
    return nearest(official_name(name), sorted(known), 1)


def _check_points(points: list[float]) -> Problem | None:
    if len(points) != 10 or points[:2] != points[8:]:
        what = f"{len(points) // 2} points; expected 5, the last equal to the first"
        return Problem("wrong points", what, "repeat the first corner at the end")
    return check_range(points) or check_corners(points[:8])


def parse_points(node: Element) -> list[float] | None:
    """Return the coordinates of an object's points; ``None`` where one is not ``x,y``."""
    texts = [(point.text or "").split(",") for point in node.findall("points/point")]
    if any(len(pair) != 2 for pair in texts):
        return None
    return parse_numbers([value for pair in texts for value in pair])


def _object_lines(text: str) -> Iterator[int]:
    """Return the line of each ``<object>``, which the parser does not keep; comments hold none."""
    line, position = 1, 0
    for match in re.finditer(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<object(?=[\s>/])", text, re.DOTALL):
        if match[0] == "<object":
            line += text.count("\n", position, match.start())
            position = match.start()
            yield line


def is_xml(name: str) -> bool:
    """Return whether a file is an xml file by its suffix, in any case."""
    return name.lower().endswith(".xml")


def _stem(name: str) -> str:
    return PurePosixPath(base_name(name)).stem
