"""Cutting the large images of DOTA, and of data in its layout, into patches for training."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from rsfoundation.data.prepare.cutting import Options, cut_sources
from rsfoundation.data.prepare.report import CutReport
from rsfoundation.data.prepare.sources import Sources
from rsfoundation.detection.classes import DotaVersion
from rsfoundation.detection.cuts import DOTA_CUTS, Cut
from rsfoundation.detection.dota_files import find_label_folder, find_split, version_folders
from rsfoundation.structures.dota_txt import Policy

MAKER = "rsfoundation prepare dota"


def cut_dota(
    sources: Sequence[Path],
    out: Path,
    *,
    cut: Cut = DOTA_CUTS["ss"],
    version: DotaVersion | None = None,
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
) -> CutReport:
    """Cut every image of some splits into patches; see :func:`.cutting.cut_sources`.

    Args:
        sources: Split folders with ``images/`` and, unless it is a test split, ``labelTxt/``.
        out: Folder to make.
        cut: Windows and thresholds.
        version: Takes a label folder that names this version before ``labelTxt``; where none does, the log
            tells which folder is taken.
        on_error: What broken files and label lines do.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets cut the images when they load them.

    Raises:
        DataError: A source is missing or broken, two images share a name, or ``out`` holds something else.
        ConfigError: The windows make no sense.
    """
    found = [find_split(Path(folder), "", version=version) for folder in sources]
    if version is not None:
        for folder in sources:
            _tell_of_fallback(Path(folder), version)
    material = Sources.of(found, name=lambda image: image.stem)
    return cut_sources(MAKER, material, out, Options(cut, on_error, workers, virtual))


def _tell_of_fallback(folder: Path, version: DotaVersion) -> None:
    """Warn where no label folder names the version: the labels may be those of another one."""
    taken, places = find_label_folder(folder, version=version), version_folders(folder, version)
    if taken is not None and taken not in places:
        MMLogger.get_current_instance().warning(
            "%s: no label folder names version %s of DOTA (looked for %s): its labels are taken from %s",
            folder,
            version,
            ", ".join(str(place.relative_to(folder)) for place in places),
            taken.relative_to(folder),
        )
