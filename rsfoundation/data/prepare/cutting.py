"""Cutting images into a folder of patches, written or virtual; what a patch is: see :mod:`.patches`."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from rsfoundation.data.parallel import run_jobs
from rsfoundation.data.prepare.indexing import index_of_folder, index_of_parts, part_of
from rsfoundation.data.prepare.patches import BROKEN, Source, cut_image, plan_image
from rsfoundation.data.store import locked, publish, refuse_foreign, stage
from rsfoundation.data.tiling import tiles_of
from rsfoundation.detection.cuts import Cut
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.detection.patch_index import INDEX, write_index
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import Policy
from rsfoundation.structures.manifest import Manifest, read_manifest

_VERSION = 1  # raised when the same input gives other files
_LEFT_OUT = {
    "lost": "objects in no patch",
    "degenerate": "objects without area",
    "malformed": "malformed labels",
    "broken": "broken images",
}


@dataclass(frozen=True)
class CutReport:
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
        degenerate: Objects without area, in no patch either.
        malformed: Label lines left out under ``on_error='skip'``.
        broken: Images left out under ``on_error='skip'``: unreadable, or without a label file.
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
    degenerate: int = 0
    malformed: int = 0
    broken: int = 0
    reused: bool = False


@dataclass(frozen=True)
class Options:
    """How sources are cut.

    Attributes:
        cut: Windows and thresholds.
        on_error: What an unreadable image, a missing label file or a malformed label does: ``fail``
            raises, ``skip`` leaves it out and counts it.
        workers: Threads; the files do not depend on it.
        virtual: Write the index only; data sets cut the images when they load them.
    """

    cut: Cut
    on_error: Policy = "fail"
    workers: int = 2
    virtual: bool = False


def cut_sources(maker: str, sources: Sequence[Source], out: Path, options: Options) -> CutReport:
    """Cut images into a folder that appears when it is complete.

    It is left alone when the same files were cut in the same way before, and made anew when they were
    not. One image is in memory at a time; its patches are written side by side.

    Args:
        maker: Stands in the manifest; a folder of another maker is not replaced.
        sources: The images.
        out: Folder to make.
        options: How.

    Raises:
        DataError: A source is broken, two have one name, some have labels and some none, or ``out``
            holds something else.
        ConfigError: The windows make no sense.
    """
    out = Path(out)
    tiles_of(options.cut, 1, 1)  # refuses senseless windows before anything is read
    _check(sources)
    parameters = {
        "version": _VERSION,
        "cut": options.cut.record(),
        "on_error": options.on_error,
        "files": _fingerprint(sources),
        **({"virtual": True} if options.virtual else {}),
    }
    with locked(out.parent):
        refuse_foreign(out, maker)
        manifest = read_manifest(out)
        if manifest is not None and manifest.parameters == parameters:
            if not (out / INDEX).is_file():  # cut before there were indexes
                write_index(out, index_of_folder(out))
            return replace(CutReport(out, **manifest.content), reused=True)
        staging = stage(out)
        lay = _lay_out if options.virtual else _write
        total = lay(sources, staging, out, options)
        publish(staging, out, Manifest(maker, parameters, dict(total)))
    return CutReport(out, **total)


def _check(sources: Sequence[Source]) -> None:
    found: dict[str, Source] = {}
    for source in sources:
        earlier = found.setdefault(source.name, source)
        if earlier is not source:
            raise DataError(
                f"two images are called {source.name}: {earlier.image} and {source.image}",
                where=source.image.parent,
                cure="cut them into different folders",
            )
    if len({source.labelled for source in sources}) > 1:
        raise DataError(
            "some of the folders have labels and some have none",
            where=", ".join(sorted({str(source.image.parent.parent) for source in sources})),
            cure="cut labelled and unlabelled splits into different folders",
        )


def _fingerprint(sources: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for path in (path for source in sources for path in (source.image, source.label) if path is not None):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _write(sources: Sequence[Source], staging: Path, out: Path, options: Options) -> dict[str, Any]:
    """Write patches, label files and their index to ``staging``; return the figures of the report."""
    (staging / "images").mkdir()
    if any(source.labelled for source in sources):
        (staging / "annfiles").mkdir()
    with ThreadPoolExecutor(options.workers) as pool:
        work = partial(cut_image, staging, options.cut, options.on_error, pool)
        counts = run_jobs(work, sources, workers=1, title="cutting images")
    total = _total(sources, counts, out)
    if total["patches"]:
        write_index(staging, index_of_folder(staging))
    return total


def _lay_out(sources: Sequence[Source], staging: Path, out: Path, options: Options) -> dict[str, Any]:
    """Write the index of a virtual folder to ``staging``; return the figures of the report."""
    work = partial(plan_image, options.cut, options.on_error)
    plans = run_jobs(work, sources, workers=options.workers, title="laying out windows")
    total = _total(sources, [BROKEN if plan is None else plan.counts for plan in plans], out)
    write_index(staging, index_of_parts(out, [part_of(plan) for plan in plans if plan is not None]))
    return total


def _total(sources: Sequence[Source], counts: Sequence[dict[str, int]], out: Path) -> dict[str, Any]:
    """Add up the figures of all images; log them, and which files something was left out of."""
    total: Counter[str] = Counter(patches=0)
    left_out = LeftOut()
    for source, count in zip(sources, counts, strict=True):
        total.update(count)
        for key, kind in _LEFT_OUT.items():
            left_out.note(kind, [(source.label or source.image).name] * count.get(key, 0))
    logger = MMLogger.get_current_instance()
    logger.info(
        "%s: %d images, %d patches, %d labels", out, total["images"], total["patches"], total["placed"]
    )
    if not any(source.labelled for source in sources):
        logger.warning("%s: no label folder was found: the patches are those of a test split", out)
    if left_out:
        logger.warning("%s: left out %s", out, left_out.sentence())
    return dict(total)
