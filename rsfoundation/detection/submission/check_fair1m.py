"""Rules of FAIR1M's server: layout of the archive and heads of the xml files."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from rsfoundation.detection.classes import FAIR1M_CLASSES
from rsfoundation.detection.submission.archive import read_text
from rsfoundation.detection.submission.check_fair1m_objects import check_objects
from rsfoundation.detection.submission.fair1m import FOLDER, official_name
from rsfoundation.detection.submission.faults import Faults, Finding
from rsfoundation.detection.submission.image_names import ImageNames
from rsfoundation.detection.submission.layout import base_name, set_aside

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
        cure = "rename it: its suffix is '.xml'" if _is_xml(name) else "take it out"
        return Finding("unexpected file", f"unexpected file {name!r}", cure)
    if str(place.parent) != FOLDER:
        found = f"in the folder {str(place.parent)!r}" if "/" in name else "at the top of the archive"
        what = f"the file lies {found}; expected '{FOLDER}/{place.name}'"
        return Finding("wrong folder", what, f"put all xml files into {FOLDER}/: zip -r test.zip {FOLDER}")
    return images.fault(place.stem)


def _check_missing(path: str, names: Sequence[str], images: ImageNames, faults: Faults) -> None:
    there = {_stem(name) for name in names if _is_xml(name)}
    for image in sorted((images.known or frozenset()) - there):
        what = f"the image {image!r} has no xml file"
        cure = "add one, with empty <objects> where nothing was found"
        faults.add(path, Finding("missing file", what, cure))


def _check_file(archive: ZipFile, name: str, known: frozenset[str], faults: Faults) -> int:
    """Check one xml file; return how many detections it has."""
    where, size = f"{archive.filename}/{name}", archive.getinfo(name).file_size
    if size > _LARGEST:
        what = f"the file has {size / 2**20:.0f} MiB; no image has detections for more than {_LARGEST >> 20}"
        cure = "keep fewer detections: a higher score threshold, or max_per_img in the test_cfg"
        faults.add(where, Finding("large file", what, cure))
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
        cure = "write the image's own name into <source><filename>"
        faults.add(where, Finding("wrong file name", what, cure))
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
