"""Predicting whole scenes: windows, merge, files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rsfoundation.engine.images import write_rgb
from rsfoundation.errors import ConfigError
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.scene import Scene, list_scenes, open_scene
from rsfoundation.inference.windows import window_grid
from rsfoundation.task import SceneResult, Window
from rsfoundation.visualization import side_by_side


@dataclass(frozen=True)
class PredictOptions:
    """How scenes are cut and what is kept.

    Attributes:
        window: Side of a window in pixels. Not given: the config's ``predict.window``, else 1024.
        overlap: Pixels that neighbouring windows share at least. Not given: the config's
            ``predict.overlap``, else a fifth of the window.
        batch_size: Windows per forward pass.
        score_threshold: Predictions below it are dropped, where the task has scores.
        formats: File suffixes to write; all that the task knows when empty.
        picture: Whether to draw an overlay.
    """

    window: int | None = None
    overlap: int | None = None
    batch_size: int = 1
    score_threshold: float = 0.3
    formats: tuple[str, ...] = ()
    picture: bool = True


@dataclass(frozen=True)
class ScenePrediction:
    """One predicted scene.

    Attributes:
        name: Name of the scene.
        windows: How many windows it took.
        summary: Figures of the result, such as objects per class.
        files: What was written.
        seconds: Wall time.
    """

    name: str
    windows: int
    summary: dict[str, int | float | str]
    files: tuple[Path, ...]
    seconds: float


def predict(
    model: WindowModel, inputs: list[Path], out: Path, options: PredictOptions = PredictOptions()
) -> list[ScenePrediction]:
    """Predict every scene and write the results into ``out``.

    Files are ``<scene>.<suffix>`` for each format of the task, ``<scene>_overlay.png`` and, where truth
    lies beside the scene, ``<scene>_comparison.png``.

    Raises:
        RSFError: An input is unreadable or an option does not fit.
    """
    unknown = [suffix for suffix in options.formats if suffix not in model.task.writers]
    if unknown:
        raise ConfigError(
            f"{model.task.name} results cannot be written as '{unknown[0]}'",
            where="--format",
            cure=f"choose among {', '.join(model.task.writers)}",
        )
    scenes = list_scenes(inputs, model.task.images_per_scene)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        return [_predict_one(model, open_scene(paths), out, options, progress) for paths in scenes]


def predict_scene(
    model: WindowModel, scene: Scene, options: PredictOptions, progress: Progress | None = None
) -> SceneResult:
    """Predict one scene window by window and merge in scene pixels."""
    height, width = scene.size
    windows = _grid(model, scene, options)
    accumulator = model.task.accumulator(height, width, model.classes, options.score_threshold)
    bar = progress.add_task(scene.name, total=len(windows)) if progress else None
    for start in range(0, len(windows), options.batch_size):
        batch = windows[start : start + options.batch_size]
        for window, sample in zip(
            batch, model.predict([scene.crops(window) for window in batch]), strict=True
        ):
            accumulator.add(window, sample)
        if progress and bar is not None:
            progress.advance(bar, len(batch))
    return accumulator.result()


def _predict_one(
    model: WindowModel, scene: Scene, out: Path, options: PredictOptions, progress: Progress
) -> ScenePrediction:
    started = time.monotonic()
    result = predict_scene(model, scene, options, progress)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix in options.formats or tuple(model.task.writers):
        file = out / f"{scene.name}.{suffix}"
        model.task.writers[suffix](result, file)
        files.append(file)
    if options.picture:
        files += _draw(model, scene, result, out)
    count = len(_grid(model, scene, options))
    return ScenePrediction(scene.name, count, result.summary(), tuple(files), time.monotonic() - started)


def _grid(model: WindowModel, scene: Scene, options: PredictOptions) -> list[Window]:
    """Cut the scene as the options say, else as the model's config says."""
    declared = model.cfg.get("predict", {})
    size = options.window or declared.get("window", 1024)
    overlap = options.overlap if options.overlap is not None else declared.get("overlap", size // 5)
    return window_grid(*scene.size, size, overlap)


def _draw(model: WindowModel, scene: Scene, result: SceneResult, out: Path) -> list[Path]:
    """Draw the overlay and, where ground truth lies beside the scene, both side by side."""
    images = list(scene.images)
    drawn = model.task.draw_result(images, result, model.classes)
    overlay = out / f"{scene.name}_overlay.png"
    write_rgb(overlay, drawn)
    truth = model.task.find_truth(scene.paths, model.classes)
    if truth is None:
        return [overlay]
    compared = model.task.draw_scene_comparison(images, truth, result, model.classes)
    if compared is None:
        expected = model.task.draw_truth(images, truth, model.classes)
        compared = side_by_side([("ground truth", expected), ("prediction", drawn)])
    comparison = out / f"{scene.name}_comparison.png"
    write_rgb(comparison, compared)
    return [overlay, comparison]
