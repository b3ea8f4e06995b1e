"""Cutting images into a folder of patches, written or virtual; what a patch is: see :mod:`.patches`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    refuse_own_sources,
    stage,
)
from rsfoundation.core.parallel import run_jobs
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.datasets.oriented.annotations import LabelTable
from rsfoundation.datasets.oriented.patch_index import INDEX, PatchIndex, Witnesses, relative, write_index
from rsfoundation.datasets.oriented.reading import read_labels
from rsfoundation.geometry.tiling import TilingSettings
from rsfoundation.geometry.windows import tiles_of
from rsfoundation.io.dota import find_split, read_dota_txt
from rsfoundation.io.rasters import image_size
from rsfoundation.prepare.patches import BROKEN, Plan, plan_image, tile_image
from rsfoundation.prepare.sources import Source, Sources

_LEFT_OUT = {
    "lost": "objects in no patch",
    "outside": "objects beyond their image",
    "degenerate": "objects without area",
    "malformed": "malformed labels",
    "broken": "images that cannot be read or have no label file",
}
_ORPHANS = "label files without an image"


@dataclass(frozen=True)
class TilingReport:
    """What was cut.

    Attributes:
        out: Folder with ``images`` and, where the source is labelled, ``annfiles``; with ``index.npz``
            alone for a virtual one.
        images: Images cut.
        patches: Patches written, or laid out.
        empty_patches: Those without an object.
        objects: Objects in the source.
        placed: Labels written; an object may lie in several patches.
        cut: Those of them that a border cuts (difficulty 2).
        lost: Objects in no patch: no window holds enough of them.
        outside: Objects wholly beyond their image, in no patch either.
        degenerate: Objects without area, in no patch either.
        malformed: Label lines left out under ``on_error='skip'``.
        broken: Images left out under ``on_error='skip'``: unreadable, or without a label file.
        orphans: Label files without an image.
        reused: The folder was there already, made of the same files in the same way.
    """

    out: Path
    images: int = 0
    patches: int = 0
    empty_patches: int = 0
    objects: int = 0
    placed: int = 0
    cut: int = 0
    lost: int = 0
    outside: int = 0
    degenerate: int = 0
    malformed: int = 0
    broken: int = 0
    orphans: int = 0
    reused: bool = False


def add_up(sources: Sources, counts: Sequence[Mapping[str, int]], out: Path) -> dict[str, Any]:
    """Add up the figures of all images; log them, and which files something was left out of.

    Args:
        sources: What was cut.
        counts: What each image adds to the figures of :class:`TilingReport`.
        out: What the log calls the folder.

    Returns:
        The figures of the report.

    Raises:
        DataError: Every image was left out.
    """
    total = Counter({"orphans": len(sources.orphans)})
    left_out = DatasetReport()
    left_out.note(_ORPHANS, [path.name for path in sources.orphans])
    for source, count in zip(sources.images, counts, strict=True):
        total.update(count)
        for key, kind in _LEFT_OUT.items():
            file = source.image if key == "broken" else source.label or source.image
            left_out.note(kind, [file.name] * count.get(key, 0))
    if not total["images"]:
        raise DataError(
            f"no image is left to cut: left out {left_out.describe()}",
            where=out,
            fix="mend the files; --on-error fail (on_error='fail' in Python) says what the first one has",
        )
    _log(sources, total, left_out, out)
    return dict(total)


def _log(sources: Sources, total: Mapping[str, int], left_out: DatasetReport, out: Path) -> None:
    logger = MMLogger.get_current_instance()
    logger.info(
        "%s: %d images, %d patches, %d labels", out, total["images"], total["patches"], total["placed"]
    )
    if not sources.labelled:
        logger.warning("%s: no label folder was found: the patches are those of a test split", out)
    if left_out:
        logger.warning("%s: left out %s", out, left_out.describe())


def index_of_folder(folder: Path) -> PatchIndex:
    """Read ``images/`` and ``annfiles/`` (or ``labelTxt/``) of a folder into an index.

    Raises:
        DataError: A label is malformed or missing, or belongs to no image.
    """
    files = find_split(folder, "")
    odd = [image for image, label in zip(files.images, files.labels, strict=True) if label is None]
    if files.labelled and (odd or files.orphans):
        raise DataError(
            f"{len(odd)} images without a label file, {len(files.orphans)} label files without an image",
            where=[*odd, *files.orphans][0],
            fix="add or remove files until images and labels pair up",
        )
    scan = read_labels(zip(files.images, files.labels, strict=True), read_dota_txt, "fail", DatasetReport())
    labels = [label for label in files.labels if label is not None]
    return PatchIndex(
        names=tuple(picture.name for picture in scan.pictures),
        images=tuple(f"images/{image.name}" for image in files.images),
        labels=tuple(f"{label.parent.name}/{label.name}" for label in labels),
        sizes=np.array([p.size or image_size(Path(p.path)) for p in scan.pictures], dtype=np.int32).reshape(
            -1, 2
        ),
        windows=np.zeros((0, 3), dtype=np.int32),
        table=scan.table,
        witnesses=Witnesses.of(folder, labels),
    )


@dataclass(frozen=True)
class Part:
    """The patches of one image as a virtual folder has them.

    Attributes:
        source: The image.
        names: Of its patches.
        windows: ``x y side`` of each ``(P, 3)``.
        table: Their objects.
    """

    source: Source
    names: list[str]
    windows: NDArray[np.int32]
    table: LabelTable


def part_of(plan: Plan) -> Part:
    """Turn a plan into columns, which take far less memory."""
    windows = np.array([(tile.x, tile.y, tile.size) for tile in plan.tiles], dtype=np.int32)
    return Part(plan.source, plan.names, windows, plan.table)


def index_of_parts(folder: Path, parts: Sequence[Part]) -> PatchIndex:
    """Make the index of a virtual folder of one part or more, in the order that patch files would have."""
    names = [name for part in parts for name in part.names]
    order = np.array(sorted(range(len(names)), key=lambda row: f"{names[row]}.png"))
    owners = np.repeat(np.arange(len(parts)), [len(part.names) for part in parts])[order]
    images = [relative(part.source.image, folder) for part in parts]
    labels = [part.source.label for part in parts if part.source.label is not None]
    label_names = [relative(label, folder) for label in labels]
    windows = np.concatenate([part.windows for part in parts])[order]
    return PatchIndex(
        names=tuple(names[row] for row in order),
        images=tuple(images[owner] for owner in owners),
        labels=tuple(label_names[owner] for owner in owners) if labels else (),
        sizes=windows[:, [2, 2]],
        windows=windows,
        table=LabelTable.joined([part.table for part in parts]).take(order),
        witnesses=Witnesses.of(folder, labels, [part.source.image for part in parts]),
    )


_VERSION = 2  # raised when the same input gives other files


@dataclass(frozen=True)
class Options:
    """How sources are cut.

    Attributes:
        cut: Windows and thresholds.
        on_error: What an unreadable image, a missing label file or a malformed label does: ``fail``
            raises, ``skip`` leaves it out and counts it.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets cut the images when they load them. Images are decoded
            under ``skip`` alone, to know which are broken.
    """

    cut: TilingSettings
    on_error: Policy = "fail"
    workers: int = 2
    virtual: bool = False


def cut_sources(maker: str, sources: Sources, out: Path, options: Options) -> TilingReport:
    """TilingSettings images into a folder that appears when it is complete.

    It is left alone when the same files were cut in the same way before, and made anew when they were
    not. One image is in memory at a time; its patches are written side by side.

    Args:
        maker: Stands in the manifest; a folder of another maker is not replaced.
        sources: The images.
        out: Folder to make.
        options: How.

    Raises:
        DataError: A source is broken, or all are under ``skip``; two have one name, some have labels and
            some none; ``out`` holds a source or something else, or cannot be written.
        ConfigError: The windows make no sense.
    """
    out = Path(out)
    tiles_of(options.cut, 1, 1)  # refuses senseless windows before anything is read
    sources.check()
    refuse_own_sources(out, (source.image for source in sources.images))
    parameters = {
        "version": _VERSION,
        "cut": options.cut.record(),
        "on_error": options.on_error,
        "files": sources.fingerprint(),
        **({"virtual": True} if options.virtual else {}),
    }
    with locked(out.parent):
        refuse_foreign(out, maker)
        manifest = read_manifest(out)
        if manifest is not None and manifest.parameters == parameters:
            if not (out / INDEX).is_file():  # cut before there were indexes
                write_index(out, index_of_folder(out))
            return replace(TilingReport(out, **manifest.content), reused=True)
        with stage(out) as staging:
            lay = _lay_out if options.virtual else _write
            total = lay(sources, staging, out, options)
            publish(staging, out, Manifest(maker, parameters, total))
    return TilingReport(out, **total)


def _write(sources: Sources, staging: Path, out: Path, options: Options) -> dict[str, Any]:
    """Write patches, label files and their index to ``staging``; return the figures of the report."""
    (staging / "images").mkdir()
    if sources.labelled:
        (staging / "annfiles").mkdir()
    with ThreadPoolExecutor(options.workers) as pool:
        work = partial(tile_image, staging, options.cut, options.on_error, pool)
        counts = run_jobs(work, sources.images, workers=1, title="cutting images")
    total = add_up(sources, counts, out)
    write_index(staging, index_of_folder(staging))
    return total


def _lay_out(sources: Sources, staging: Path, out: Path, options: Options) -> dict[str, Any]:
    """Write the index of a virtual folder to ``staging``; return the figures of the report."""
    work = partial(plan_image, options.cut, options.on_error)
    workers = 1 if options.on_error == "skip" else options.workers  # images are decoded: one at a time
    plans = run_jobs(work, sources.images, workers=workers, title="laying out windows")
    total = add_up(sources, [BROKEN if plan is None else plan.counts for plan in plans], out)
    write_index(staging, index_of_parts(out, [part_of(plan) for plan in plans if plan is not None]))
    return total
