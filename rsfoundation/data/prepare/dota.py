"""Cutting the large images of DOTA, and of data in its layout, into patches for training.

What a patch is: see :mod:`.patches`.
"""

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
from rsfoundation.data.prepare.patches import Source, cut_image
from rsfoundation.data.store import locked, publish, refuse_foreign, stage
from rsfoundation.data.tiling import tiles_of
from rsfoundation.detection.cuts import DOTA_CUTS, Cut
from rsfoundation.detection.dota_files import find_split
from rsfoundation.errors import DataError
from rsfoundation.structures.dota_txt import Policy
from rsfoundation.structures.manifest import Manifest, read_manifest

MAKER = "rsfoundation prepare dota"
_VERSION = 1  # raised when the same input gives other files


@dataclass(frozen=True)
class CutReport:
    """What was cut.

    Attributes:
        out: Folder with ``images`` and, where the source is labelled, ``annfiles``.
        images: Images cut.
        patches: Patches written.
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


def cut_dota(
    sources: Sequence[Path],
    out: Path,
    *,
    cut: Cut = DOTA_CUTS["ss"],
    on_error: Policy = "fail",
    workers: int = 2,
) -> CutReport:
    """Cut every image of some splits into patches.

    The folder appears when it is complete. It is left alone when the same files were cut in the same way
    before, and made anew when they were not. One image is in memory at a time; its patches are written
    side by side.

    Args:
        sources: Split folders with ``images/`` and, unless it is a test split, ``labelTxt/``.
        out: Folder to make.
        cut: Windows and thresholds.
        on_error: What an unreadable image, a missing label file or a malformed line does: ``fail``
            raises, ``skip`` leaves it out and counts it.
        workers: Threads; the files do not depend on it.

    Raises:
        DataError: A source is missing or broken, two images share a name, or ``out`` holds something else.
        ConfigError: The windows make no sense.
    """
    out = Path(out)
    tiles_of(cut, 1, 1)  # refuses senseless windows before anything is read
    jobs = _list_sources([Path(source) for source in sources])
    parameters = {
        "version": _VERSION,
        "cut": cut.record(),
        "on_error": on_error,
        "files": _fingerprint(jobs),
    }
    with locked(out.parent):
        refuse_foreign(out, MAKER)
        manifest = read_manifest(out)
        if manifest is not None and manifest.parameters == parameters:
            return replace(CutReport(out, **manifest.content), reused=True)
        counts = _cut_all(jobs, out, cut, on_error, workers, parameters)
    report = CutReport(out, **counts)
    _log(report)
    return report


def _list_sources(sources: Sequence[Path]) -> list[Source]:
    found: dict[str, Source] = {}
    for folder in sources:
        files = find_split(folder, "")
        for image, label in zip(files.images, files.labels, strict=True):
            if image.stem in found:
                raise DataError(
                    f"two images are called {image.stem}: {found[image.stem].image} and {image}",
                    where=folder,
                    cure="cut them into different folders",
                )
            found[image.stem] = Source(image, label, files.labelled)
    if len({source.labelled for source in found.values()}) > 1:
        raise DataError(
            "some of the folders have labels and some have none",
            where=", ".join(map(str, sources)),
            cure="cut labelled and unlabelled splits into different folders",
        )
    return list(found.values())


def _fingerprint(jobs: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for path in (path for job in jobs for path in (job.image, job.label) if path is not None):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _cut_all(
    jobs: Sequence[Source], out: Path, cut: Cut, on_error: Policy, workers: int, parameters: dict
) -> dict[str, Any]:
    staging = stage(out)
    (staging / "images").mkdir()
    if any(job.labelled for job in jobs):
        (staging / "annfiles").mkdir()
    total: Counter[str] = Counter()
    with ThreadPoolExecutor(workers) as pool:
        work = partial(cut_image, staging, cut, on_error, pool)
        for counts in run_jobs(work, jobs, workers=1, title="cutting images"):
            total.update(counts)
    publish(staging, out, Manifest(MAKER, parameters, dict(total)))
    return dict(total)


def _log(report: CutReport) -> None:
    left_out = {
        "objects in no patch": report.lost,
        "objects without area": report.degenerate,
        "malformed lines": report.malformed,
        "broken images": report.broken,
    }
    told = ", ".join(f"{count} {what}" for what, count in left_out.items() if count) or "nothing"
    made = f"cut {report.images} images into {report.patches} patches with {report.placed} labels"
    MMLogger.get_current_instance().info(f"{made}; left out: {told}")
