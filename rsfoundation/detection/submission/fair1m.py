"""FAIR1M submissions: a zip with ``test/<image>.xml``, one file for every test image."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from rsfoundation.detection.evaluation.records import ImageRecord
from rsfoundation.detection.submission.deflated import DeflatedFile, write_zip
from rsfoundation.detection.submission.dota import Written, solid
from rsfoundation.structures.boxes import rbox_to_quad

FOLDER = "test"
RESEARCH = {  # the server wants the fields and reads nothing out of them
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
    images: Iterable[ImageRecord],
    classes: Sequence[str],
    size_of: Callable[[ImageRecord], tuple[int, int]],
    suffix: str = ".tif",
) -> Written:
    """Write ``test.zip``; equal detections give equal bytes. An image without detections has a file too.

    Args:
        folder: Where the archive goes.
        images: Full images, one at a time.
        classes: Names, in label order.
        size_of: Returns width and height of a full image in pixels.
        suffix: Of the image files.
    """
    counts = {"images": 0, "detections": 0, "flat": 0}

    def files() -> Iterator[DeflatedFile]:
        for record in images:
            corners = rbox_to_quad(record.boxes)
            keep = solid(corners)
            counts["images"] += 1
            counts["detections"] += int(keep.sum())
            counts["flat"] += int((~keep).sum())
            with DeflatedFile(f"{FOLDER}/{record.name}.xml") as file:
                file.write(_document(record, corners, keep, classes, size_of(record), suffix))
                yield file

    path = folder / "test.zip"
    write_zip(path, files())
    return Written((path,), **counts)


def _document(
    record: ImageRecord,
    corners: np.ndarray,
    keep: np.ndarray,
    classes: Sequence[str],
    size: tuple[int, int],
    suffix: str,
) -> bytes:
    from rsfoundation.detection.submission.digits import score_texts  # loads numba

    root = Element("annotation")
    _fill(SubElement(root, "source"), {"filename": f"{record.name}{suffix}", "origin": "GF2/GF3"})
    _fill(SubElement(root, "research"), RESEARCH)
    _fill(SubElement(root, "size"), {"width": str(size[0]), "height": str(size[1]), "depth": "3"})
    objects = SubElement(root, "objects")
    texts = score_texts(record.scores).astype(str).tolist()
    for place in np.flatnonzero(keep):
        node = SubElement(objects, "object")
        _fill(node, {"coordinate": "pixel", "type": "rectangle", "description": "None"})
        name = official_name(classes[record.labels[place]])
        _fill(SubElement(node, "possibleresult"), {"name": name, "probability": texts[place]})
        points = SubElement(node, "points")
        for x, y in (*corners[place], corners[place][0]):
            SubElement(points, "point").text = f"{x:.2f},{y:.2f}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _fill(node: Element, texts: dict[str, str]) -> None:
    for tag, text in texts.items():
        SubElement(node, tag).text = text
