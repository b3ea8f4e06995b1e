"""Making sets of toy scenes on disk."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.core.files import Manifest, locked, publish, read_manifest, refuse_foreign, staging_folder
from rsfoundation.core.parallel import run_jobs
from rsfoundation.prepare.toy.scene import Scene
from rsfoundation.prepare.toy.writers import WRITERS, Record

MAKER = "rsfoundation toy scenes"
VERSION = 4  # raised when the same parameters give other files; older sets are then made anew
TASKS = tuple(WRITERS)
DEFAULT_COUNTS: Mapping[str, int] = {"train": 160, "val": 40, "test": 8}
LARGE = "large"


@dataclass(frozen=True)
class ToyReport:
    """What lies on disk now.

    Attributes:
        root: Folder of all tasks.
        folders: Folder of each task asked for.
        scenes: Number of scenes per split.
        objects: Per task and split, labelled objects or pixels per class.
        reused: Tasks whose scenes were there already.
    """

    root: Path
    folders: dict[str, Path]
    scenes: dict[str, int]
    objects: dict[str, dict[str, dict[str, int]]]
    reused: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    split: str
    number: int
    width: int
    height: int


def make_toy_scenes(
    root: Path,
    *,
    size: int = 256,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    large: int = 1,
    large_size: tuple[int, int] = (1280, 960),
    seed: int = 0,
    tasks: Sequence[str] = TASKS,
    workers: int = 2,
) -> ToyReport:
    """Draw scenes and write them in the layout of each task: ``<root>/<task>/...``.

    A scene depends on the seed, its split, its number and its size only. A complete set with the same
    parameters is used again; one with others is replaced; a half-made one is made anew.

    Args:
        root: Folder of the task folders.
        size: Side of the square scenes in pixels.
        counts: Scenes per split.
        large: Scenes of ``large_size`` in the additional split ``large``, for prediction by windows.
        large_size: Width and height of those.
        seed: Any whole number from 0.
        tasks: Which of ``detection``, ``segmentation``, ``instance``, ``change`` to write.
        workers: Threads; the files do not depend on it.

    Raises:
        DataError: A task is unknown, a number makes no sense, or a task folder holds something else.
    """
    _check(size, counts, large, large_size, seed, tasks)
    all_counts = {**counts, LARGE: large} if large else dict(counts)
    parameters = dict(version=VERSION, size=size, counts=all_counts, large_size=list(large_size), seed=seed)
    jobs = [
        _Job(split, number, *(large_size if split == LARGE else (size, size)))
        for split, count in all_counts.items()
        for number in range(1, count + 1)
    ]
    folders = {task: Path(root) / task for task in tasks}
    with locked(Path(root)):
        reused = tuple(task for task in tasks if _is_complete(folders[task], parameters))
        missing = {task: folder for task, folder in folders.items() if task not in reused}
        if missing:
            _make(missing, jobs, parameters, workers)
        manifests = {task: read_manifest(folder) for task, folder in folders.items()}
    objects = {task: manifest.content for task, manifest in manifests.items() if manifest is not None}
    return ToyReport(Path(root), folders, all_counts, objects, reused)


def _check(
    size: int,
    counts: Mapping[str, int],
    large: int,
    large_size: tuple[int, int],
    seed: int,
    tasks: Sequence[str],
) -> None:
    for task in tasks:
        if task not in WRITERS:
            fix = nearest(task, TASKS) or f"one of: {', '.join(TASKS)}"
            raise DataError(f"there are no toy scenes for a task called {task!r}", fix=fix)
    for name, value, least in (("size", size, 64), ("large_size", min(large_size), 64), ("seed", seed, 0)):
        if value < least:
            raise DataError(f"{name} is {value}", where=name, fix=f"choose at least {least}")
    for name, value in {**counts, LARGE: large}.items():
        if value < 0 or not name.isidentifier():
            raise DataError(f"{value} scenes for split {name!r}", where="counts", fix="name=0 or more")


def _is_complete(folder: Path, parameters: dict[str, Any]) -> bool:
    refuse_foreign(folder, MAKER)
    manifest = read_manifest(folder)
    return manifest is not None and manifest.parameters == parameters


def _make(folders: dict[str, Path], jobs: Sequence[_Job], parameters: dict[str, Any], workers: int) -> None:
    MMLogger.get_current_instance().info(f"drawing {len(jobs)} toy scenes for {', '.join(folders)}")
    with ExitStack() as stack:
        staged = {task: stack.enter_context(staging_folder(folder)) for task, folder in folders.items()}
        draw = partial(_draw, parameters["seed"], staged)
        records = run_jobs(draw, jobs, workers=workers, title="drawing toy scenes")
        for task, folder in folders.items():
            mine = [(job.split, made[task]) for job, made in zip(jobs, records, strict=True)]
            publish(staged[task], folder, Manifest(MAKER, parameters, _finish(task, staged[task], mine)))


def _draw(seed: int, folders: dict[str, Path], job: _Job) -> dict[str, Record]:
    """Draw one scene once and write it for every task."""
    scene = Scene((seed, job.split, job.number), job.width, job.height)
    dates = max(WRITERS[task].dates for task in folders)
    images = tuple(scene.image(date) for date in range(dates))
    return {
        task: WRITERS[task].write(folder, job.split, job.number, scene, images)
        for task, folder in folders.items()
    }


def _finish(task: str, folder: Path, records: list[tuple[str, Record]]) -> dict[str, dict[str, int]]:
    """Write what a split has once; return the counts per split."""
    content = {}
    for split in dict.fromkeys(split for split, _ in records):
        mine = [record for name, record in records if name == split]
        finish = WRITERS[task].finish
        if finish is not None:
            finish(folder, split, mine)
        content[split] = dict(sum((Counter(record.counts) for record in mine), Counter()))
    return content
