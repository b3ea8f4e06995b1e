"""Classes of the tiles of a scene: one for an image within the window, a map of tiles for larger ones."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from rsfoundation.core.task import Window, WindowCores
from rsfoundation.io.vectors import Features

_UNSURE = "none"  # class of a tile none of whose classes reaches the threshold


@dataclass(frozen=True)
class SceneTiles:
    """Class scores of tiles that cover a scene without overlap.

    Attributes:
        boxes: ``(N, 4)`` ``x1 y1 x2 y2`` in pixel edges of the scene.
        scores: ``(N, C)``.
        names: Of the classes.
        size: Height and width of the scene.
        threshold: Least score of a class, where tiles have any number of them; ``None`` where each has one.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float32]
    names: tuple[str, ...]
    size: tuple[int, int]
    threshold: float | None = None

    @property
    def labels(self) -> NDArray[np.int64]:
        """The best class of each tile ``(N,)``."""
        return self.scores.argmax(axis=1)

    def classes_of(self, index: int) -> list[str]:
        """Return the names of the classes of a tile, the best first."""
        order = np.argsort(-self.scores[index], kind="stable")
        if self.threshold is None:
            return [self.names[order[0]]]
        return [self.names[label] for label in order if self.scores[index, label] >= self.threshold]

    def centres(self) -> NDArray[np.float64]:
        """Return the centre ``(N, 2)`` of each tile in pixel edges."""
        return (self.boxes[:, :2] + self.boxes[:, 2:]) / 2

    def take(self, index: NDArray) -> SceneTiles:
        """Return some of the tiles, by position or by booleans ``(N,)``."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index])

    def summary(self) -> dict[str, int | float | str]:
        """Return class and score of a single tile, else the number of tiles of each class."""
        if len(self.boxes) == 1:
            found = self.classes_of(0)
            return {"class": ", ".join(found) or _UNSURE, "score": round(float(self.scores[0].max()), 4)}
        counts = Counter(name for index in range(len(self.boxes)) for name in self.classes_of(index))
        return {"tiles": len(self.boxes), **{name: counts[name] for name in self.names if counts[name]}}


class SceneTileAccumulator:
    """Collects the scores of windows; tiles are the cores of the windows.

    Args:
        height: Of the scene in pixels.
        width: Of the scene in pixels.
        names: Of the classes.
        threshold: As for :class:`SceneTiles`.
        grid: The windows of the scene; without, tiles are whole windows.
    """

    def __init__(
        self,
        height: int,
        width: int,
        names: tuple[str, ...],
        threshold: float | None,
        grid: WindowCores | None,
    ) -> None:
        self.height, self.width, self.names = height, width, names
        self.threshold, self.grid = threshold, grid
        self._windows: list[Window] = []
        self._scores: list[NDArray[np.float32]] = []

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take the scores of one window.

        Args:
            window: In scene pixels.
            sample: With ``pred_score``.
        """
        self._windows.append(window)
        self._scores.append(sample.pred_score.float().cpu().numpy())

    def result(self) -> SceneTiles:
        """Return the tiles, in the order of the windows."""
        windows = self._windows
        if self.grid is not None:
            boxes = self.grid.cores(windows)
        else:
            boxes = np.array(
                [(one.left, one.top, one.left + one.width, one.top + one.height) for one in windows], float
            ).reshape(-1, 4)
        limits = (self.width, self.height, self.width, self.height)
        scores = np.array(self._scores, np.float32).reshape(len(windows), len(self.names))
        size = (self.height, self.width)
        return SceneTiles(np.clip(boxes, 0, limits), scores, self.names, size, self.threshold)


def tile_features(tiles: SceneTiles) -> Features:
    """Return the tiles as rectangles with class and score; for several classes, their names with commas."""
    names = [", ".join(tiles.classes_of(index)) or _UNSURE for index in range(len(tiles.boxes))]
    best = tiles.scores.max(axis=1, initial=0.0)
    columns = {"class": np.array(names, dtype=object), "score": np.round(best.astype(np.float64), 6)}
    return Features(np.asarray(shapely.box(*tiles.boxes.T)), columns)


def write_tile_json(tiles: SceneTiles, path: Path) -> None:
    """Write ``{"classes": [...], "tiles": [{"box", "class", "scores"}, ...]}``; boxes in pixel edges.

    Args:
        tiles: The result.
        path: The file.
    """
    listed: list[dict[str, Any]] = [
        {
            "box": [float(value) for value in tiles.boxes[index]],
            "class": tiles.classes_of(index) if tiles.threshold is not None else tiles.classes_of(index)[0],
            "scores": [round(float(value), 6) for value in tiles.scores[index]],
        }
        for index in range(len(tiles.boxes))
    ]
    path.write_text(json.dumps({"classes": tiles.names, "tiles": listed}, indent=1) + "\n", encoding="utf-8")


def write_tile_csv(tiles: SceneTiles, path: Path) -> None:
    """Write one line per tile: box, class(es), score of every class.

    Args:
        tiles: The result.
        path: The file.
    """
    header: Sequence[str] = ("x1", "y1", "x2", "y2", "class", *tiles.names)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(header)
        for index, box in enumerate(tiles.boxes):
            scores = [f"{value:.6f}" for value in tiles.scores[index]]
            table.writerow([*box.tolist(), "|".join(tiles.classes_of(index)), *scores])
