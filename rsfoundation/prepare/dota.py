"""Tiling DOTA and FAIR1M into patches with DOTA label files."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import MMLogger

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import Policy
from rsfoundation.datasets.oriented.classes import DotaVersion
from rsfoundation.geometry.tiling import DOTA_TILINGS, FAIR1M_TILINGS, TilingSettings
from rsfoundation.io.dota import find_label_folder, find_split, version_folders
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.xml_labels import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.prepare.sources import Sources
from rsfoundation.prepare.tiling import TilingOptions, TilingResult, tile_sources

DOTA_MAKER = "rsfoundation prepare dota"


def tile_dota(
    sources: Sequence[Path],
    out: Path,
    *,
    tiling: TilingSettings = DOTA_TILINGS["ss"],
    version: DotaVersion | None = None,
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
    loading: ImageLoading | None = None,
) -> TilingResult:
    """Tile every image of some splits into patches; see :func:`~.tiling.tile_sources`.

    Args:
        sources: Split folders with ``images/`` and, unless it is a test split, ``labelTxt/``.
        out: Folder to make.
        tiling: Windows and thresholds.
        version: Takes a label folder that names this version before ``labelTxt``; where none does, the log
            names the folder that is taken.
        on_error: ``fail`` stops where files or label lines are broken; ``skip`` leaves them out.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets read the windows when they load them.
        loading: Bands and value range of the patches; colours of 8 bit when not given.

    Raises:
        DataError: A source is missing or broken, two images share a name, or ``out`` holds something else.
        ConfigError: The settings make no windows.
    """
    found = [find_split(Path(folder), "", version=version) for folder in sources]
    if version is not None:
        for folder in sources:
            _warn_of_fallback(Path(folder), version)
    material = Sources.of(found, name=lambda image: image.stem)
    return tile_sources(
        DOTA_MAKER,
        material,
        out,
        TilingOptions(tiling, on_error, workers, virtual, loading or ImageLoading()),
    )


def _warn_of_fallback(folder: Path, version: DotaVersion) -> None:
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


FAIR1M_MAKER = "rsfoundation prepare fair1m"


def tile_fair1m(
    sources: Sequence[Path],
    out: Path,
    *,
    tiling: TilingSettings = FAIR1M_TILINGS["ms"],
    on_error: Policy = "fail",
    workers: int = 2,
    virtual: bool = False,
    loading: ImageLoading | None = None,
) -> TilingResult:
    """Tile every image of some folders into patches; see :func:`~.tiling.tile_sources`.

    Patches have the name of their image (``17.tif``: ``17__1024__0___0.png``), so that results can be mapped
    back; where two parts have an image of one name, that of the part precedes it:
    ``part1_17__1024__0___0.png``.

    Args:
        sources: ``train`` (with ``part1`` and ``part2``, or one of these), ``validation`` or ``test``.
        out: Folder to make.
        tiling: Windows and thresholds.
        on_error: ``fail`` stops where files or objects are broken; ``skip`` leaves them out.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets read the windows when they load them.
        loading: Bands and value range of the patches; colours of 8 bit when not given.

    Raises:
        DataError: A source is missing or broken, or ``out`` is in it or holds something else.
        ConfigError: The settings make no windows.
    """
    for folder in sources:
        _refuse_inside(Path(folder), Path(out))
    parts = [part for folder in sources for part in find_fair1m(Path(folder))]
    material = Sources.of(parts, name=image_names(parts).__getitem__, read=read_fair1m_xml)
    return tile_sources(
        FAIR1M_MAKER,
        material,
        out,
        TilingOptions(tiling, on_error, workers, virtual, loading or ImageLoading()),
    )


def _refuse_inside(source: Path, out: Path) -> None:
    """Refuse a result inside the source: folders with ``images/`` below it are read as its parts."""
    if out.resolve().is_relative_to(source.resolve()):
        raise DataError(
            f"the folder to make is in the source {source}, where it would be read as a part of it",
            where=out,
            fix="choose a folder elsewhere",
        )
