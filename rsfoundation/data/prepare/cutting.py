"""Cutting images into a folder of patches, written or virtual; what a patch is: see :mod:`.patches`."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rsfoundation.data.parallel import run_jobs
from rsfoundation.data.prepare.indexing import index_of_folder, index_of_parts, part_of
from rsfoundation.data.prepare.patches import BROKEN, cut_image, plan_image
from rsfoundation.data.prepare.report import CutReport, add_up
from rsfoundation.data.prepare.sources import Sources
from rsfoundation.data.store import locked, publish, refuse_foreign, refuse_own_sources, stage
from rsfoundation.data.tiling import tiles_of
from rsfoundation.detection.cuts import Cut
from rsfoundation.detection.patch_index import INDEX, write_index
from rsfoundation.structures.dota_txt import Policy
from rsfoundation.structures.manifest import Manifest, read_manifest

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

    cut: Cut
    on_error: Policy = "fail"
    workers: int = 2
    virtual: bool = False


def cut_sources(maker: str, sources: Sources, out: Path, options: Options) -> CutReport:
    """Cut images into a folder that appears when it is complete.

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
            return replace(CutReport(out, **manifest.content), reused=True)
        with stage(out) as staging:
            lay = _lay_out if options.virtual else _write
            total = lay(sources, staging, out, options)
            publish(staging, out, Manifest(maker, parameters, total))
    return CutReport(out, **total)


def _write(sources: Sources, staging: Path, out: Path, options: Options) -> dict[str, Any]:
    """Write patches, label files and their index to ``staging``; return the figures of the report."""
    (staging / "images").mkdir()
    if sources.labelled:
        (staging / "annfiles").mkdir()
    with ThreadPoolExecutor(options.workers) as pool:
        work = partial(cut_image, staging, options.cut, options.on_error, pool)
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
