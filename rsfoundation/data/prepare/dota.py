"""Cutting the large images of DOTA, and of data in its layout, into patches for training."""

from collections.abc import Sequence
from pathlib import Path

from rsfoundation.data.prepare.cutting import CutReport, Options, cut_sources
from rsfoundation.data.prepare.patches import Source
from rsfoundation.detection.classes import DotaVersion
from rsfoundation.detection.cuts import DOTA_CUTS, Cut
from rsfoundation.detection.dota_files import find_split
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
        version: Takes a label folder that names this version before ``labelTxt``.
        on_error: What broken files and label lines do.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets cut the images when they load them.

    Raises:
        DataError: A source is missing or broken, two images share a name, or ``out`` holds something else.
        ConfigError: The windows make no sense.
    """
    found = [find_split(Path(folder), "", version=version) for folder in sources]
    jobs = [
        Source(image.stem, image, label, files.labelled)
        for files in found
        for image, label in zip(files.images, files.labels, strict=True)
    ]
    return cut_sources(MAKER, jobs, out, Options(cut, on_error, workers, virtual))
