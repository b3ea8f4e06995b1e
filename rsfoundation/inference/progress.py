"""The progress bar of a prediction, in megapixels and, for georeferenced scenes, square kilometres."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from rsfoundation.core.task import Window
from rsfoundation.inference.scenes import Scene


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
        self._pixels = {id(scene): scene.height * scene.width for scene in scenes}
        self._left: dict[int, float] = dict(self._pixels)
        square = sum(filter(None, (square_kilometres(scene) for scene in scenes)))
        self._bar = self._progress.add_task("predicting", total=sum(self._pixels.values()), square_km=square)

    def advance(self, scene: Scene, window: Window | None) -> None:
        """Count one window.

        Args:
            scene: Its scene.
            window: Its place; overlaps are counted once, so that the bar ends with the scene.
        """
        if window is None:
            return
        step = min(
            self._left[id(scene)], window.width * window.height * 0.64
        )  # a fifth overlaps on each side
        self._left[id(scene)] -= step
        self._progress.update(self._bar, advance=step, description=scene.name)

    def __enter__(self) -> SceneProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def square_kilometres(scene: Any) -> float | None:
    """Return the area of a scene on the ground; ``None`` where its sampling distance is not known."""
    distance = scene.georeference.ground_sampling_distance
    return None if distance is None else scene.height * scene.width * distance[0] * distance[1] / 1e6
