"""Predicting whole scenes: windows, merge, files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Draws, SceneResult, Window
from rsfoundation.geometry.windows import window_grid
from rsfoundation.inference.model import WindowModel
from rsfoundation.io.images import read_rgb, write_rgb
from rsfoundation.visualization import side_by_side

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Scene:
    """One image or, for two dates, several of equal size.

    Attributes:
        paths: The files.
        images: RGB ``uint8`` arrays ``(H, W, 3)``, one per file.
    """

    paths: tuple[Path, ...]
    images: tuple[np.ndarray, ...]

    @property
    def name(self) -> str:
        """Name of the scene: the stem of its first file."""
        return self.paths[0].stem

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images[0].shape[:2]
        return height, width

    def crops(self, window: Window) -> list[np.ndarray]:
        """Return the BGR crop of every image, contiguous, as loading steps of mm pipelines leave it."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        return [cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2BGR) for image in self.images]


def open_scene(paths: tuple[Path, ...]) -> Scene:
    """Open the file(s) of one scene.

    Raises:
        DataError: A file is unreadable, or the files differ in size.
    """
    images = tuple(read_rgb(path) for path in paths)
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(
            f"the images of one scene differ in size: {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}",
            where=" and ".join(str(path) for path in paths),
            fix="bring both dates onto one pixel grid first",
        )
    return Scene(paths, images)


def list_scenes(inputs: list[Path], images_per_scene: int) -> list[tuple[Path, ...]]:
    """Group input files into scenes.

    Args:
        inputs: Files, or folders whose images are taken in name order. For two images per scene: pairs of
            files, or two folders whose images pair by name.
        images_per_scene: How many images make one scene.

    Raises:
        DataError: An input does not exist, holds no image, or the images do not pair up.
    """
    for path in inputs:
        if not path.exists():
            raise DataError("the input does not exist", where=path)
    if images_per_scene == 1:
        return [(file,) for path in inputs for file in _images_in(path)]
    if all(path.is_dir() for path in inputs) and len(inputs) == images_per_scene:
        return _pair_folders(inputs)
    if len(inputs) % images_per_scene or any(path.is_dir() for path in inputs):
        raise DataError(
            f"this model needs {images_per_scene} images per scene, got {len(inputs)} inputs",
            fix="give pairs (BEFORE.png AFTER.png ...) or two folders whose images have equal names",
        )
    return [tuple(inputs[i : i + images_per_scene]) for i in range(0, len(inputs), images_per_scene)]


def _images_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError("the folder holds no image", where=path, fix=f"known suffixes: {', '.join(SUFFIXES)}")
    return files


def _pair_folders(folders: list[Path]) -> list[tuple[Path, ...]]:
    by_name = [{file.name: file for file in _images_in(folder)} for folder in folders]
    every = {name for names in by_name for name in names}
    odd = sorted(name for name in every if any(name not in names for names in by_name))
    if odd:
        raise DataError(
            f"{len(odd)} images have no partner of the same name, first: {odd[0]}", where=folders[0]
        )
    return [tuple(names[name] for names in by_name) for name in by_name[0]]


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
    unknown = [suffix for suffix in options.formats if suffix not in model.scenes.writers]
    if unknown:
        raise ConfigError(
            f"{model.task.name} results cannot be written as '{unknown[0]}'",
            where="--format",
            fix=f"choose among {', '.join(model.scenes.writers)}",
        )
    scenes = list_scenes(inputs, model.scenes.images_per_scene)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        return [_predict_one(model, open_scene(paths), out, options, progress) for paths in scenes]


def predict_scene(
    model: WindowModel, scene: Scene, options: PredictOptions, progress: Progress | None = None
) -> SceneResult:
    """Predict one scene window by window and merge in scene pixels."""
    height, width = scene.size
    windows = _grid(model, scene, options)
    accumulator = model.scenes.accumulator(height, width, model.classes, options.score_threshold)
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
    for suffix in options.formats or tuple(model.scenes.writers):
        file = out / f"{scene.name}.{suffix}"
        model.scenes.writers[suffix](result, file)
        files.append(file)
    if options.picture:
        files += _draw(model, scene, result, out)
    count = len(_grid(model, scene, options))
    return ScenePrediction(scene.name, count, result.summary(), tuple(files), time.monotonic() - started)


def _grid(model: WindowModel, scene: Scene, options: PredictOptions) -> list[Window]:
    """TilingSettings the scene as the options say, else as the model's config says."""
    declared = model.cfg.get("predict", {})
    size = options.window or declared.get("window", 1024)
    overlap = options.overlap if options.overlap is not None else declared.get("overlap", size // 5)
    return window_grid(*scene.size, size, overlap)


def _draw(model: WindowModel, scene: Scene, result: SceneResult, out: Path) -> list[Path]:
    """Draw the overlay and, where ground truth lies beside the scene, both side by side."""
    images = list(scene.images)
    drawn = model.scenes.draw_result(images, result, model.classes)
    overlay = out / f"{scene.name}_overlay.png"
    write_rgb(overlay, drawn)
    truth = model.scenes.find_truth(scene.paths, model.classes)
    if truth is None:
        return [overlay]
    compared = model.scenes.draw_scene_comparison(images, truth, result, model.classes)
    if compared is None and isinstance(model.task, Draws):
        expected = model.task.draw_truth(images, truth, model.classes)
        compared = side_by_side([("ground truth", expected), ("prediction", drawn)])
    if compared is None:
        return [overlay]
    comparison = out / f"{scene.name}_comparison.png"
    write_rgb(comparison, compared)
    return [overlay, comparison]
