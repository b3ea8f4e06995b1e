"""Cutting the images of FAIR1M into patches with DOTA label files."""

from collections.abc import Sequence
from pathlib import Path

from rsfoundation.data.prepare.cutting import CutReport, Options, cut_sources
from rsfoundation.data.prepare.patches import Source
from rsfoundation.detection.cuts import FAIR1M_CUTS, Cut
from rsfoundation.detection.datasets.fair1m_xml import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.structures.dota_txt import Policy

MAKER = "rsfoundation prepare fair1m"


def cut_fair1m(
    sources: Sequence[Path],
    out: Path,
    *,
    cut: Cut = FAIR1M_CUTS["ms"],
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
) -> CutReport:
    """Cut every image of some folders into patches; see :func:`.cutting.cut_sources`.

    Patches are called after their image (``17.tif``: ``17__1024__0___0.png``), so that results go back to
    it; where two parts have an image of one name, the part stands before it: ``part1_17__1024__0___0.png``.

    Args:
        sources: ``train`` (with ``part1`` and ``part2``, or one of these), ``validation`` or ``test``.
        out: Folder to make.
        cut: Windows and thresholds.
        on_error: What broken files and objects do.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets cut the images when they load them.

    Raises:
        DataError: A source is missing or broken, or ``out`` holds something else.
        ConfigError: The windows make no sense.
    """
    parts = [part for folder in sources for part in find_fair1m(Path(folder))]
    names = image_names(parts)
    jobs = [
        Source(names[image], image, label, files.labelled, read_fair1m_xml)
        for files in parts
        for image, label in zip(files.images, files.labels, strict=True)
    ]
    return cut_sources(MAKER, jobs, out, Options(cut, on_error, workers, virtual))
