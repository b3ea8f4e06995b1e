"""Cutting the images of FAIR1M into patches with DOTA label files."""

from collections.abc import Sequence
from pathlib import Path

from rsfoundation.data.prepare.cutting import Options, cut_sources
from rsfoundation.data.prepare.report import CutReport
from rsfoundation.data.prepare.sources import Sources
from rsfoundation.detection.cuts import FAIR1M_CUTS, Cut
from rsfoundation.detection.datasets.fair1m_xml import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.errors import DataError
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
        DataError: A source is missing or broken, or ``out`` lies in it or holds something else.
        ConfigError: The windows make no sense.
    """
    for folder in sources:
        _refuse_inside(Path(folder), Path(out))
    parts = [part for folder in sources for part in find_fair1m(Path(folder))]
    material = Sources.of(parts, name=image_names(parts).__getitem__, read=read_fair1m_xml)
    return cut_sources(MAKER, material, out, Options(cut, on_error, workers, virtual))


def _refuse_inside(source: Path, out: Path) -> None:
    """Refuse a result inside the source: folders with ``images/`` below it are read as its parts."""
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(
            f"the folder to make lies in the source {source}, where it would be read as a part of it",
            where=out,
            cure="choose a folder elsewhere",
        )
