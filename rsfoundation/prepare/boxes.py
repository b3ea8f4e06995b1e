"""Data sets of oriented boxes that are trained on as distributed: unpacked, laid out, and read once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    refuse_own_sources,
    staging_folder,
)
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.datasets.oriented.sar_ships import HRSIDDataset, SSDDDataset
from rsfoundation.prepare.instances import convert_instances
from rsfoundation.prepare.labels import KINDS
from rsfoundation.prepare.layouts import LAYOUTS
from rsfoundation.prepare.maps import remove_unpacked, unpacked_source
from rsfoundation.registry import DATASETS

MAKER = "rsfoundation prepare boxes"
_LAYOUTS = {"ssdd": SSDDDataset.LAYOUTS, "hrsid": HRSIDDataset.LAYOUTS}
_NWPU_IMAGES, _NWPU_FILE = "positive image set", "annotations.json"
_OTHER_ARCHIVES = (".rar", ".7z", ".z01", ".001")
_NAMES = ("train", "val", "test")
_DEPTH = 3  # folders that an archive, or a download, may put around the data set
BOX_KINDS: Mapping[str, str] = {
    "dior": "DIOR-R: JPEGImages-*, Annotations and ImageSets/Main",
    "hrsc": "HRSC2016: FullDataSet and ImageSets",
    "ssdd": "SSDD in any of its layouts: COCO json, DOTA text or xml",
    "hrsid": "HRSID: JPEGImages and annotations/{train,test}2017.json",
    "nwpu-vhr10": "NWPU VHR-10: positive image set and ground truth (as annotations.json), or COCO json",
}


@dataclass(frozen=True)
class PreparedBoxes:
    """The folder that was made.

    Attributes:
        out: The folder.
        report: Images and objects of all splits, and everything that was left out or repaired.
        images: Images of each split.
        objects: Objects of each split.
        reused: Whether the folder was there already, made in the same way.
    """

    out: Path
    report: DatasetReport
    images: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    reused: bool = False


def prepare_boxes(kind: str, source: Path, out: Path, *, on_error: Policy = "fail") -> PreparedBoxes:
    """Lay out a data set of oriented boxes as its configs read it, after every label has been read.

    Archives are unpacked into ``out``; of a folder, ``out`` has links.

    Args:
        kind: One of :data:`BOX_KINDS`.
        source: The data set as distributed: a folder, an archive, or a folder of archives.
        out: Folder to make.
        on_error: ``fail`` stops at broken labels and missing images; ``skip`` counts them: the data set
            leaves them out when it is read with the same policy.

    Raises:
        ConfigError: There is no such data set.
        DataError: The source is missing, broken or of another layout; ``out`` holds something else.
    """
    check_choice("kind", kind, BOX_KINDS, "prepare_boxes")
    source, out = Path(source), Path(out)
    parameters = dict(kind=kind, source=str(source.resolve()), on_error=on_error)
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        done = read_manifest(out)
        if done is not None and done.parameters == parameters:
            content = done.content
            report = DatasetReport.from_json(content["report"])
            return PreparedBoxes(out, report, content["images"], content["objects"], reused=True)
        folder = unpacked_source(source, out)
        root, splits = _find(kind, folder)
        refuse_own_sources(out, [root / "any"])
        with staging_folder(out) as staging:
            made = _read(kind, root, out, staging, splits, on_error)
            for entry in sorted(root.iterdir()):
                if not entry.name.startswith("."):
                    _place(entry, staging / entry.name, move=folder != source)
            content = dict(report=made.report.to_json(), images=made.images, objects=made.objects)
            publish(staging, out, Manifest(MAKER, parameters, content))
        remove_unpacked(out)
    return made


def _find(kind: str, folder: Path) -> tuple[Path, list[str]]:
    """Return the folder that holds the data set, and its splits.

    Raises:
        DataError: No folder has its layout.
    """
    level = [folder]
    for _ in range(_DEPTH):
        for place in level:
            splits = _splits(kind, place)
            if splits:
                return place, splits
        level = [path for place in level for path in sorted(place.iterdir()) if path.is_dir()]
    packed = [path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in _OTHER_ARCHIVES]
    if packed:
        what = f"{packed[0]} is an archive that has to be unpacked by its own program"
        raise DataError(what, where=folder, fix="7z x FILE, the first part of several; then give the folder")
    raise DataError(
        f"no split found; expected {BOX_KINDS[kind]}", where=folder, fix="see data/README.md for the layouts"
    )


def _splits(kind: str, root: Path) -> list[str]:
    """Return the splits that a folder has labels of."""
    if kind in _LAYOUTS:
        found: dict[Path, str] = {}
        for name in _NAMES:
            places = (layout.at(root, name) for layout in _LAYOUTS[kind])
            labels = next((one for one, images in places if one.exists() and images.is_dir()), None)
            if labels is not None:
                found.setdefault(labels, name)
        return sorted(found.values(), key=_NAMES.index)
    if kind == "nwpu-vhr10":
        return ["all"] if (root / _NWPU_IMAGES).is_dir() else list(LAYOUTS["coco"](root))
    return list(LAYOUTS[kind](root))


def _read(
    kind: str, root: Path, out: Path, staging: Path, splits: Sequence[str], on_error: Policy
) -> PreparedBoxes:
    """Read every label; those of NWPU VHR-10's text files become a COCO json."""
    made = PreparedBoxes(out, DatasetReport())
    if splits == ["all"] and kind == "nwpu-vhr10":
        report = convert_instances("nwpu", root, staging / _NWPU_FILE, on_error=on_error).report
        made.report.merge(report)
        made.images["all"], made.objects["all"] = report.images, report.objects or 0
        return made
    for split in splits:
        if kind in _LAYOUTS:
            settings: dict[str, Any] = dict(type=f"rsfoundation.{KINDS[kind]}", data_root=str(root))
            settings |= dict(split=split, min_side=0.0, test_mode=True)
        elif kind == "nwpu-vhr10":
            settings = LAYOUTS["coco"](root)[split]
        else:
            settings = LAYOUTS[kind](root)[split] | dict(min_side=0.0)
        report = DATASETS.build(dict(settings, on_error=on_error)).report
        made.report.merge(report)
        made.images[split], made.objects[split] = report.images, report.objects or 0
    return made


def _place(entry: Path, target: Path, *, move: bool) -> None:
    """Move a part of an unpacked archive to its place, or link that of a folder."""
    if move:
        entry.rename(target)
        return
    try:
        target.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    except OSError:  # a file system, or a user of Windows, without links
        (shutil.copytree if entry.is_dir() else shutil.copy2)(entry, target)
