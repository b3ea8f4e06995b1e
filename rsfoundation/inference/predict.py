"""Predicting whole scenes: windows through the model, merged on the fly, files out."""

from __future__ import annotations

import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from rsfoundation.core.errors import ConfigError, DataError, RSFError
from rsfoundation.core.task import SceneResult, Window
from rsfoundation.inference.area import Area, read_area
from rsfoundation.inference.grid import SceneGrid
from rsfoundation.inference.journal import file_identity
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.products import (
    ProductOptions,
    check_formats,
    formats_for,
    known_formats,
    write_products,
)
from rsfoundation.inference.ranks import Ranks
from rsfoundation.inference.scene_run import RunSettings, SceneRun, make_run
from rsfoundation.inference.scenes import (
    Scene,
    SceneInput,
    SceneList,
    list_scenes,
    open_scene,
    scene_identity,
)
from rsfoundation.inference.stream import WindowJob, WindowResult, WindowStream
from rsfoundation.io.loading import ImageLoading

__all__ = [
    "PredictOptions",
    "ScenePrediction",
    "list_scenes",
    "open_scene",
    "predict",
    "predict_scene",
    "predict_scenes",
]


class _Area(ProgressColumn):
    """Megapixels done and to do, and square kilometres where they are known."""

    def render(self, task: Task) -> Text:
        done, total = task.completed / 1e6, (task.total or 0) / 1e6
        text = f"{done:.1f}/{total:.1f} Mpx"
        square = task.fields.get("square_km", 0.0)
        if square and total:
            text += f" ({square * done / total:.2f}/{square:.2f} km²)"
        return Text(text)


class SceneProgress:
    """A bar over all scenes.

    Args:
        scenes: What is predicted.
        show: Whether this process shows a bar.
    """

    def __init__(self, scenes: Sequence[Scene], show: bool = True) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), _Area(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not show, transient=True)
        self._left: dict[int, float] = {id(scene): scene.height * scene.width for scene in scenes}
        square = sum(filter(None, map(_square_kilometres, scenes)))
        self._bar = self._progress.add_task("predicting", total=sum(self._left.values()), square_km=square)

    def advance(self, scene: Scene, window: Window | None) -> None:
        """Count one window.

        Args:
            scene: Its scene.
            window: Its place; overlaps are counted once, so that the bar ends with the scene.
        """
        if window is None:
            return
        share = window.width * window.height * 0.64  # a fifth overlaps on each side
        step = min(self._left[id(scene)], share)
        self._left[id(scene)] -= step
        self._progress.update(self._bar, advance=step, description=scene.name)

    def __enter__(self) -> SceneProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def _square_kilometres(scene: Scene) -> float | None:
    """Return the area of a scene on the ground; ``None`` where its sampling distance is not known."""
    distance = scene.georeference.ground_sampling_distance
    return None if distance is None else scene.height * scene.width * distance[0] * distance[1] / 1e6


@dataclass(frozen=True)
class PredictOptions:
    """How scenes are cut and what is kept.

    Attributes:
        window: Side of a window in pixels. Not given: the config's ``predict.window``, else 1024.
        overlap: Pixels that neighbouring windows share at least. Not given: the config's
            ``predict.overlap``, else a fifth of the window.
        batch_size: Windows per forward pass.
        score_threshold: Predictions below it are dropped, where the task has scores.
        formats: Kinds of file to write. Empty: GeoPackage (and the class map) for georeferenced scenes, all
            that the task knows for others.
        picture: Whether to draw an overlay.
        gsd: Metres per pixel at which the model sees the scene; the scene's own when not given.
        aoi: Area of interest: a vector file, or ``xmin,ymin,xmax,ymax`` in the CRS of the scene.
        stretch: Value range found from each whole scene: ``minmax``, or percentiles such as ``2,98``.
        class_agnostic: Suppress overlapping detections of different classes too; the model's own rule
            (``class_agnostic`` of its NMS) when not given.
        simplify: Largest distance in pixels by which outlines of polygons of a map may move.
        min_area: Polygons of a map with less pixels are left out.
        workers: Threads that read and compress.
        resume: Continue what a killed run has left in the output folder.
    """

    window: int | None = None
    overlap: int | None = None
    batch_size: int = 1
    score_threshold: float = 0.3
    formats: tuple[str, ...] = ()
    picture: bool = True
    gsd: float | None = None
    aoi: str | None = None
    stretch: str | None = None
    class_agnostic: bool | None = None
    simplify: float = 0.0
    min_area: float = 0.0
    workers: int = 2
    resume: bool = True

    @property
    def products(self) -> ProductOptions:
        """What is written."""
        return ProductOptions(self.formats, self.picture, self.simplify, self.min_area)


@dataclass(frozen=True)
class ScenePrediction:
    """One predicted scene.

    Attributes:
        name: Name of the scene.
        windows: How many windows it took.
        summary: The few numbers of the result, such as objects per class.
        files: What was written.
        seconds: Wall time.
        empty_windows: How many of the windows held no data and were skipped.
        areas_m2: Area of each class that occurs, for georeferenced maps.
        error: Why there is no result.
    """

    name: str
    windows: int
    summary: dict[str, int | float | str]
    files: tuple[Path, ...]
    seconds: float
    empty_windows: int = 0
    areas_m2: dict[str, float] = field(default_factory=dict)
    error: RSFError | None = None


def predict(
    model: WindowModel,
    inputs: Sequence[SceneInput],
    out: Path,
    options: PredictOptions = PredictOptions(),
    loading: ImageLoading | None = None,
) -> list[ScenePrediction]:
    """Predict every scene and write the results into ``out``.

    A scene that cannot be predicted does not stop the others: its ``error`` says why.

    Args:
        model: The model.
        inputs: See :func:`rsfoundation.inference.scenes.list_scenes`.
        out: The folder of the results.
        options: How scenes are cut and what is written.
        loading: Bands and value range; the config's when not given.

    Returns:
        One entry per scene, in the order of the inputs.

    Raises:
        RSFError: An option does not fit, an input does not exist, or no scene at all could be predicted.
    """
    done = predict_scenes([model], inputs, out, options, loading=loading)
    errors = [scene.error for scene in done if scene.error is not None]
    if errors and len(errors) == len(done):
        raise errors[0]
    return done


def predict_scene(
    model: WindowModel, scene: Scene, options: PredictOptions = PredictOptions()
) -> SceneResult:
    """Predict one scene and return the result, merged in scene pixels; nothing is written.

    Args:
        model: The model.
        scene: The scene.
        options: How it is cut.

    Raises:
        RSFError: A window cannot be read or predicted.
    """
    with tempfile.TemporaryDirectory(prefix="rsf-scene-") as folder:
        run = _make_run(model, scene, Path(folder) / "work", options, with_probabilities=False)
        run.journal.open()
        job = _SceneJob(scene.name, [run])
        _Prediction([model], [job], options).run(Ranks(), progress=None)
        if job.error is not None:
            raise job.error
        result = run.result()
        return result.in_memory() if hasattr(result, "in_memory") else result


@dataclass
class _SceneJob:
    """One scene of a prediction and what is known of it."""

    name: str
    runs: list[SceneRun]
    out: Path | None = None
    error: RSFError | None = None
    windows: int = 0
    empty: int = 0
    started: float = field(default_factory=time.monotonic)
    result: ScenePrediction | None = None

    @property
    def scene(self) -> Scene:
        return self.runs[0].scene


def predict_scenes(
    models: Sequence[WindowModel],
    inputs: Sequence[SceneInput],
    out: Path,
    options: PredictOptions = PredictOptions(),
    *,
    loading: ImageLoading | None = None,
    ranks: Ranks | None = None,
) -> list[ScenePrediction]:
    """Predict every scene with one model, or with several that see every window together.

    Scenes that fail are reported in their ``error`` and do not stop the others. With several ranks each does
    a part of the scenes' rows; the first one writes the results.

    Args:
        models: Where there are several, each has its folder below ``out``.
        inputs: See :func:`rsfoundation.inference.scenes.list_scenes`.
        out: The folder of the results, or for one scene and one format the file itself (``map.gpkg``).
        options: How scenes are cut and what is written.
        loading: Bands and value range; the config's when not given.
        ranks: The processes that share the work.

    Returns:
        One entry per scene, in the order of the inputs.

    Raises:
        RSFError: An option does not fit, or an input does not exist.
    """
    ranks = ranks or Ranks()
    found = SceneList.find(inputs, max(model.scenes.images_per_scene for model in models))
    options, out, file = _one_file(models, found, out, options)
    for model in models:
        check_formats(model, options.formats)
    if len(models) > 1:  # all see the windows of the first one
        size, overlap = _window_and_overlap(models[0], options)
        options = replace(options, window=size, overlap=overlap)
    jobs = [
        _prepare(models, paths, name, out, options, loading, ranks)
        for paths, name in zip(found.scenes, found.names, strict=True)
    ]
    ranks.wait()
    prediction = _Prediction(models, jobs, options, replace(options.products, file=file))
    with SceneProgress([job.scene for job in jobs if job.runs], show=ranks.is_first) as progress:
        prediction.run(ranks, progress)
    return ranks.from_first([job.result or _failed(job) for job in jobs])


def _one_file(
    models: Sequence[WindowModel], found: SceneList, out: Path, options: PredictOptions
) -> tuple[PredictOptions, Path, Path | None]:
    """Understand ``-o map.gpkg``: the kind of file is its suffix, and nothing else is written."""
    kind = out.suffix[1:].lower()
    if not kind or out.is_dir() or kind not in known_formats(models[0]):
        return options, out, None
    if len(found.scenes) > 1 or len(models) > 1:
        raise ConfigError(
            f"{len(found.scenes)} scenes cannot go into one file",
            where=out,
            fix=f"name a folder: -o {out.with_suffix('')} -f {kind}",
        )
    return replace(options, formats=(kind,), picture=False), out.parent, out


def _prepare(
    models: Sequence[WindowModel],
    paths: tuple[Path, ...],
    name: str,
    out: Path,
    options: PredictOptions,
    loading: ImageLoading | None,
    ranks: Ranks,
) -> _SceneJob:
    """Open a scene; what is wrong with it is kept for the report."""
    job = _SceneJob(name, [], out)
    try:
        scene = open_scene(paths, loading or models[0].loading, options.gsd, name, options.stretch)
        for index, model in enumerate(models):
            _check_bands(model, scene)
            kinds = formats_for(model, scene, options.formats)
            folder = out / f".{name}.partial" / str(index)
            run = _make_run(model, scene, folder, options, with_probabilities="probabilities" in kinds)
            if ranks.is_first:
                run.journal.open(keep=options.resume)
            job.runs.append(run)
    except RSFError as error:
        job.error, job.runs = error, []
    return job


def _check_bands(model: WindowModel, scene: Scene) -> None:
    """Refuse a file of another number of bands than the model normalises, before the others are predicted."""
    mean = getattr(getattr(model.network, "data_preprocessor", None), "mean", None)
    expected = 1 if mean is None else mean.numel()
    for path, image in zip(scene.paths, scene.images, strict=True):
        bands = len(image.reader.bands)
        if image.loading.bands == "all" and expected not in (1, bands, bands * len(scene.images)):
            raise DataError(
                f"the image has {bands} bands, and the model's mean and std have {expected}",
                where=path,
                fix=f"choose {expected} of its bands with --bands, or predict images of {expected} bands",
            )


def _window_and_overlap(model: WindowModel, options: PredictOptions) -> tuple[int, int]:
    """Return side and overlap of windows, as the options say, else as the model's config says."""
    declared = model.cfg.get("predict", {})
    size = options.window or declared.get("window", 1024)
    return size, options.overlap if options.overlap is not None else declared.get("overlap", size // 5)


def scene_grid(model: WindowModel, scene: Scene, options: PredictOptions) -> SceneGrid:
    """Return the windows of a scene, as the options say, else as the model's config says.

    Args:
        model: The model.
        scene: The scene.
        options: Of the prediction.

    Raises:
        ConfigError: The overlap leaves no step.
    """
    return SceneGrid.cover(scene.height, scene.width, *_window_and_overlap(model, options))


def scene_area(scene: Scene, options: PredictOptions) -> Area | None:
    """Return the area of interest in a scene; ``None`` where the whole scene is wanted.

    Args:
        scene: The scene.
        options: Of the prediction.

    Raises:
        RSFError: It cannot be read, has no place in the scene, or is outside of it.
    """
    if options.aoi is None:
        return None
    return read_area(options.aoi, scene.georeference, scene.size, scene.paths[0])


def _make_run(
    model: WindowModel, scene: Scene, folder: Path, options: PredictOptions, *, with_probabilities: bool
) -> SceneRun:
    grid = scene_grid(model, scene, options)
    agnostic = options.class_agnostic if options.class_agnostic is not None else model.class_agnostic
    settings = RunSettings(options.score_threshold, agnostic, with_probabilities, options.workers)
    area = scene_area(scene, options)
    identity: dict[str, Any] = {
        "scene": [scene_identity(path) for path in scene.paths],
        "step": scene.step,
        "loading": [asdict(image.loading) for image in scene.images],
        "model": file_identity(model.checkpoint),
        "config": str(model.cfg.to_dict() if hasattr(model.cfg, "to_dict") else model.cfg),
        "tta": model.tta,
        "grid": (grid.size, grid.overlap),
        "batch_size": options.batch_size,
        "settings": asdict(replace(settings, workers=0)),
        "aoi": area.shape.wkt if area else None,
    }
    return make_run(scene, model, grid, folder, identity, settings, area)


_MERGE_QUEUE = 2  # predicted windows that wait for the merge, on a GPU


class _Prediction:
    """The stream of windows of all scenes, and what becomes of them.

    Predictions are merged in order. On a GPU that happens while the model sees the next windows. On a CPU it
    happens between them: the model's parallel regions would wait for the core that a merge takes.
    """

    def __init__(
        self,
        models: Sequence[WindowModel],
        jobs: Sequence[_SceneJob],
        options: PredictOptions,
        products: ProductOptions | None = None,
    ) -> None:
        self.models, self.jobs, self.options, self.products = models, jobs, options, products
        self._merging: deque[Future[None]] = deque()

    def run(self, ranks: Ranks, progress: SceneProgress | None) -> None:
        """Predict this rank's share, then write the results where they are complete."""
        alone = ranks.count == 1
        waiting = 0 if all(model.device == "cpu" for model in self.models) else _MERGE_QUEUE
        stream = WindowStream(
            self.models,
            self.options.batch_size,
            self.options.workers,
            is_wanted=lambda job: job.error is None,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="merge") as pool:
            for done in stream.run(self._jobs(ranks, finish=alone)):
                job = done.job.owner
                if progress is not None:
                    progress.advance(job.scene, done.job.window)
                job.windows += 1
                job.empty += int(done.is_empty)
                if job.error is None and done.error is not None:
                    job.error = done.error
                if job.error is None:
                    self._merging.append(pool.submit(self._merge, done))
                    self._wait_for_merges(waiting)
        if not alone:
            ranks.share_errors(self.jobs)
            if ranks.is_first:
                for job in self.jobs:
                    self._finish(job)

    def _wait_for_merges(self, most: int) -> None:
        """Wait until no more than ``most`` windows are left to merge."""
        while len(self._merging) > most:
            self._merging.popleft().result()

    def _merge(self, done: WindowResult) -> None:
        """Hand a predicted window to the runs of its scene, unless that has failed in between."""
        job = done.job.owner
        for index, run in enumerate(job.runs):
            if job.error is None:
                sample = done.samples[index] if done.samples else None
                self._add(job, run, done.job.window, sample, done.valid)

    def _add(self, job: _SceneJob, run: SceneRun, window: Any, sample: Any, valid: np.ndarray | None) -> None:
        try:
            run.add(window, sample, valid)
        except RSFError as error:
            job.error = error
        except OSError as error:
            job.error = _write_error(error, job)
        except FloatingPointError as error:
            job.error = DataError(
                f"the window at column {window.left}, row {window.top} cannot be merged: {error}",
                where=job.scene.paths[0],
            )

    def _jobs(self, ranks: Ranks, *, finish: bool) -> Iterator[WindowJob]:
        """Yield the windows of this rank's share of every scene, with marks where a share ends."""
        for job, top, bottom in ranks.shares(self.jobs):
            job.started = time.monotonic()
            rows = [run.plan(top, bottom) for run in job.runs]
            needed = [row for part in rows for row in part]
            for row in range(min(needed), max(needed) + 1) if needed else ():
                for window in job.runs[0].grid.row(row):
                    if any(run.wants(window) for run in job.runs):
                        yield WindowJob(job, job.scene, window)
            yield WindowJob(job, mark=lambda job=job: self._end(job, finish))  # type: ignore[misc]

    def _end(self, job: _SceneJob, finish: bool) -> None:
        """Complete a share; alone, write the results of the scene."""
        self._wait_for_merges(0)
        if job.error is None:
            try:
                for run in job.runs:
                    run.end()
            except (OSError, RSFError) as error:
                job.error = error if isinstance(error, RSFError) else _write_error(error, job)
        if finish:
            self._finish(job)

    def _finish(self, job: _SceneJob) -> None:
        """Merge and write a scene whose windows are all done."""
        if job.error is not None or not job.runs or self.products is None or job.out is None:
            job.result = None if self.products is None else _failed(job)
            return
        files: list[Path] = []
        summary: dict[str, int | float | str] = {}
        areas: dict[str, float] = {}
        try:
            for run in job.runs:
                if not run.is_complete():
                    raise DataError(
                        "parts of the scene are missing", where=job.scene.paths[0], fix="run it again"
                    )
                result = run.result()
                found = result.summary()
                label = f"{run.model.task.name}: " if len(job.runs) > 1 else ""
                summary.update({f"{label}{key}": value for key, value in found.items()})
                if hasattr(result, "areas_m2"):
                    areas.update(result.areas_m2(job.scene.georeference))
                folder = job.out / run.model.label if len(job.runs) > 1 else job.out
                files += write_products(run, result, folder, self.products)
                run.journal.close()
            (job.out / f".{job.name}.partial").rmdir()
        except (OSError, RSFError) as error:
            job.error = error if isinstance(error, RSFError) else _write_error(error, job)
            job.result = _failed(job)
            return
        finally:
            job.scene.close()
        seconds = time.monotonic() - job.started
        job.result = ScenePrediction(job.name, job.windows, summary, tuple(files), seconds, job.empty, areas)


def _failed(job: _SceneJob) -> ScenePrediction:
    seconds = time.monotonic() - job.started
    error = job.error or DataError("the scene was not predicted", where=job.name)
    return ScenePrediction(job.name, job.windows, {}, (), seconds, job.empty, error=error)


def _write_error(error: OSError, job: _SceneJob) -> RSFError:
    return DataError(
        f"the results cannot be written: {(error.strerror or str(error)).lower()}",
        where=error.filename or job.out,
        fix="free some space or choose another folder (-o); a second call continues where this one stopped",
    )
