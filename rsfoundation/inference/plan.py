"""What a prediction would do: windows, reading, memory and time of each scene, without predicting it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsfoundation.core.task import Window
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, scene_area, scene_grid
from rsfoundation.inference.products import is_map
from rsfoundation.inference.scenes import Scene, SceneInput, SceneList, open_scene
from rsfoundation.io.loading import ImageLoading

_BYTES_PER_OBJECT = 400  # of a detection from window to file


@dataclass(frozen=True)
class ScenePlan:
    """What the prediction of a scene would take.

    Attributes:
        name: Name of the scene.
        width: In pixels of the prediction.
        height: In pixels of the prediction.
        crs: Its CRS.
        gsd: Metres per pixel of the prediction.
        windows: How many windows there are.
        read_bytes: Bytes of decoded pixels that are read, overlaps included.
        memory_bytes: Memory above that of the loaded model.
        seconds: Time of the model alone, from one window that was timed.
    """

    name: str
    width: int
    height: int
    crs: str | None
    gsd: float | None
    windows: int
    read_bytes: int
    memory_bytes: int
    seconds: float


def plan_scenes(
    models: Sequence[WindowModel],
    inputs: Sequence[SceneInput],
    options: PredictOptions = PredictOptions(),  # noqa: B008 (frozen)
    loading: ImageLoading | None = None,
) -> list[ScenePlan]:
    """Return what :func:`rsfoundation.inference.predict.predict_scenes` would do; nothing is written.

    Args:
        models: As there.
        inputs: As there.
        options: As there.
        loading: As there.

    Raises:
        RSFError: An input cannot be opened, or an option does not fit.
    """
    found = SceneList.find(inputs, max(model.scenes.images_per_scene for model in models))
    plans, speed = [], 0.0
    for paths, name in zip(found.scenes, found.names, strict=True):
        scene = open_scene(paths, loading or models[0].loading, options.gsd, name)
        speed = speed or _seconds_per_pixel(models, scene, options)
        plans.append(_plan(models, scene, options, speed))
        scene.close()
    return plans


def _plan(models: Sequence[WindowModel], scene: Scene, options: PredictOptions, speed: float) -> ScenePlan:
    grid = scene_grid(models[0], scene, options)
    area = scene_area(scene, options)
    windows = [
        window
        for row in range(len(grid.tops))
        for window in grid.row(row)
        if area is None or any(area.needs(window, grid, is_map(model)) for model in models)
    ]
    pixels = sum(window.width * window.height for window in windows)
    across, down = scene.step
    per_pixel = sum(len(image.reader.bands) * image.reader.dtype.itemsize for image in scene.images)
    window = grid.row(0)[0]
    held = (2 * options.batch_size + options.workers + 1) * window.width * window.height * per_pixel * 2
    for model in models:
        classes = len(model.classes.names)
        if is_map(model):
            shared = max(grid.overlap, 1) * scene.width * 4 * classes
            held += shared + 3 * window.width * window.height * 4 * classes + 3 * 1024 * scene.width
        else:
            held += pixels // 2500 * _BYTES_PER_OBJECT  # an object in 50 x 50 pixels
    distance = scene.georeference.ground_sampling_distance
    return ScenePlan(
        scene.name,
        scene.width,
        scene.height,
        scene.georeference.crs,
        None if distance is None else float(np.mean(distance)),
        len(windows),
        int(pixels * across * down * per_pixel),
        int(held),
        speed * pixels,
    )


def _seconds_per_pixel(models: Sequence[WindowModel], scene: Scene, options: PredictOptions) -> float:
    """Time one window in the middle of a scene, after one to warm up."""
    grid = scene_grid(models[0], scene, options)
    row = grid.row(len(grid.tops) // 2)
    window: Window = row[len(row) // 2]
    crops = scene.crops(window)
    for _ in range(2):
        started = time.monotonic()
        for model in models:
            model.predict([crops[-model.scenes.images_per_scene :]] * options.batch_size)
        taken = time.monotonic() - started
    return taken / (options.batch_size * window.width * window.height)
