"""FAIR1M label files, versions 1.0 and 2.0, and the folders they lie in."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from rsfoundation.detection.datasets.voc_xml import parse_xml, read_objects, read_size, read_text
from rsfoundation.detection.dota_files import SplitFiles, list_images, pair_up
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import SKIPPING, DotaLabel, DotaObject, Policy

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
            cure=f"replace it, or leave it out with {SKIPPING}",
        )
    objects, skipped = read_objects(root.findall("objects/object"), _object, path, policy)
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


def _object(node: Element) -> DotaObject:
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
