"""One scene while it is predicted: which windows are still missing, and where their predictions go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import (
    Accumulator,
    MergeOptions,
    PredictsMaps,
    PredictsScenes,
    SceneResult,
    Window,
)
from rsfoundation.inference.area import Area
from rsfoundation.inference.grid import SceneGrid
from rsfoundation.inference.journal import Journal
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.scenes import Scene
from rsfoundation.inference.window_merge import QUANTA, WindowMerge
from rsfoundation.io.cog import CogOptions, write_cog
from rsfoundation.io.tile_rows import TILE, TileRows

NODATA = 255  # label of pixels without a result
_MOST_CLASSES = 255


@dataclass(frozen=True)
class RunSettings:
    """What the runs of one prediction share.

    Attributes:
        score_threshold: Predictions below it are dropped.
        class_agnostic: Suppress overlapping detections of different classes too.
        with_probabilities: Keep class probabilities of maps.
        workers: Threads that compress.
    """

    score_threshold: float = 0.3
    class_agnostic: bool = False
    with_probabilities: bool = False
    workers: int = 2


class SceneRun(ABC):
    """The prediction of one scene by one model.

    Args:
        scene: The scene.
        model: The model.
        grid: Its windows.
        journal: Where finished parts are kept.
        settings: Of the prediction.
        area: Where results are wanted; the whole scene when not given.
    """

    def __init__(
        self,
        scene: Scene,
        model: WindowModel,
        grid: SceneGrid,
        journal: Journal,
        settings: RunSettings,
        area: Area | None = None,
    ) -> None:
        self.scene, self.model, self.grid = scene, model, grid
        self.journal, self.settings, self.area = journal, settings, area

    @property
    @abstractmethod
    def is_resumable(self) -> bool:
        """Whether finished parts are kept on disk, so that other processes may do others."""

    @abstractmethod
    def plan(self, top: int, bottom: int) -> range:
        """Choose what is still to be done in the scene rows ``[top, bottom)``; return its window rows.

        Args:
            top: First scene row.
            bottom: Scene row after the last.
        """

    @abstractmethod
    def wants(self, window: Window) -> bool:
        """Say whether a window of the planned rows is needed."""

    @abstractmethod
    def add(self, window: Window, sample: BaseDataElement | None, valid: NDArray[np.bool_] | None) -> None:
        """Take the prediction of one window, ``None`` where the window holds no data.

        Args:
            window: In scene pixels.
            sample: In window pixels.
            valid: Pixels of the window that hold data; all when not given.
        """

    @abstractmethod
    def end(self) -> None:
        """Complete the planned rows: all their windows were added."""

    @abstractmethod
    def is_complete(self) -> bool:
        """Say whether nothing of the scene is missing."""

    @abstractmethod
    def result(self) -> SceneResult:
        """Return the prediction of the whole scene."""


class ObjectRun(SceneRun):
    """Predictions that are small: they are kept per window row and merged at the end."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_memory: list[tuple[Window, BaseDataElement]] = []
        self._planned: range | None = None
        self._row: int | None = None
        self._packed: dict[int, Mapping[str, NDArray]] = {}
        self._places = {left: index for index, left in enumerate(self.grid.lefts)}
        self._lines = {top: index for index, top in enumerate(self.grid.tops)}

    @property
    def is_resumable(self) -> bool:
        """Whether finished parts are kept on disk."""
        return type(self.model.scenes).unpack_prediction is not PredictsScenes.unpack_prediction

    def plan(self, top: int, bottom: int) -> range:
        """Choose the window rows that start in ``[top, bottom)`` and are not on disk."""
        rows = [index for index, start in enumerate(self.grid.tops) if top <= start < bottom]
        missing = [row for row in rows if not (self.is_resumable and self.journal.row_file(row).is_file())]
        self._planned = range(missing[0], missing[-1] + 1) if missing else range(0)
        return self._planned

    def wants(self, window: Window) -> bool:
        """Windows near the area are needed too: their objects may suppress some inside."""
        return self.area is None or self.area.needs(window, self.grid, is_map=False)

    def add(self, window: Window, sample: BaseDataElement | None, valid: NDArray[np.bool_] | None) -> None:
        """Take the prediction of one window."""
        row = self._lines[window.top]
        if self._planned is None or row not in self._planned:
            return
        self._move_to(row)
        if sample is None:
            return
        if not self.is_resumable:
            self._in_memory.append((window, sample))
            return
        packed = self.model.scenes.pack_prediction(sample, self.settings.score_threshold)
        self._packed[self._places[window.left]] = packed or {}

    def end(self) -> None:
        """Complete the planned rows."""
        if self._planned:
            self._move_to(self._planned.stop)
        self._row = None

    def _move_to(self, row: int) -> None:
        """Write the row before; rows in between had no window."""
        if self._planned is None or self._row == row:
            return
        first = self._planned.start if self._row is None else self._row
        if self.is_resumable:
            for done in range(first, row):
                self.journal.save_row(done, self._packed if done == self._row else {})
        self._packed, self._row = {}, row

    def is_complete(self) -> bool:
        """Say whether nothing is missing."""
        if not self.is_resumable:
            return True
        return all(self.journal.row_file(row).is_file() for row in range(len(self.grid.tops)))

    def result(self) -> SceneResult:
        """Merge what was kept."""
        options = MergeOptions(self.settings.class_agnostic, self.grid)
        accumulator: Accumulator = self.model.scenes.accumulator(
            self.scene.height, self.scene.width, self.model.classes, self.settings.score_threshold, options
        )
        for window, sample in self._in_memory:
            accumulator.add(window, sample)
        if self.is_resumable:
            for row in range(len(self.grid.tops)):
                windows = self.grid.row(row)
                for column, packed in self.journal.load_row(row).items():
                    accumulator.add(windows[column], self.model.scenes.unpack_prediction(packed))
        result = accumulator.result()
        return result if self.area is None else _inside(result, self.area)


def _inside(result: Any, area: Area) -> Any:
    """Keep the objects whose centres are inside the area; results without positions stay whole."""
    if not hasattr(result, "centres"):
        return result
    return result.take(area.contains(result.centres()))


class MapRun(SceneRun):
    """Maps: rows go to disk as soon as no later window can touch them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        task = self.model.scenes
        if not isinstance(task, PredictsMaps):
            raise TypeError(f"{type(task).__name__} predicts no maps")
        self.task = task
        classes = len(self.model.classes.names)
        if classes > _MOST_CLASSES:
            raise ConfigError(
                f"a class map of 8 bits has room for {_MOST_CLASSES} classes, the model has {classes}",
                where=self.model.checkpoint,
                fix="predict fewer classes",
            )
        folder, workers = self.journal.folder, self.settings.workers
        self.rows = TileRows(folder, self.scene.height, self.scene.width, workers=workers, name="classes")
        self.shares = TileRows(
            folder, self.scene.height, self.scene.width, classes, workers=workers, name="probabilities"
        )
        self._merge: WindowMerge | None = None
        self._sink: _TileSink | None = None
        self._window_rows = range(0)
        self._lines = {top: index for index, top in enumerate(self.grid.tops)}

    @property
    def is_resumable(self) -> bool:
        """Whether finished parts are kept on disk."""
        return True

    def plan(self, top: int, bottom: int) -> range:
        """Choose the tile rows that start in ``[top, bottom)`` and are not on disk."""
        units = [unit for unit in range(self.rows.count) if top <= unit * TILE < bottom]
        missing = [unit for unit in units if not self.rows.is_done(unit)]
        if not missing or self._is_assembled():
            self._window_rows, self._merge = range(0), None
            return self._window_rows
        first, last = self.rows.rows_of(missing[0])[0], self.rows.rows_of(missing[-1])[1]
        self._window_rows = self.grid.rows_touching(first, last)
        tops = self.grid.used_tops()
        start = tops[self._window_rows.start]
        shares = self.shares if self.settings.with_probabilities else None
        self._sink = _TileSink(self.rows, shares, start, first, last, self.area)
        self._merge = WindowMerge(
            self.scene.height,
            self.scene.width,
            len(self.model.classes.names),
            sink=self._sink,
            tops=tops,
            start=start,
            nodata=NODATA,
            with_probabilities=self.settings.with_probabilities,
        )
        return self._window_rows

    def wants(self, window: Window) -> bool:
        """Windows that touch the area are needed."""
        return self.area is None or self.area.needs(window, self.grid, is_map=True)

    def add(self, window: Window, sample: BaseDataElement | None, valid: NDArray[np.bool_] | None) -> None:
        """Take the prediction of one window."""
        if self._merge is None or self._lines[window.top] not in self._window_rows or sample is None:
            return
        part = self.grid.used_part(window)
        rows = slice(part.top - window.top, part.top - window.top + part.height)
        columns = slice(part.left - window.left, part.left - window.left + part.width)
        scores = self.task.class_scores(sample)
        self._merge.add(
            part,
            scores.values[:, rows, columns],
            None if valid is None else valid[rows, columns],
            are_logits=scores.are_logits,
        )

    def end(self) -> None:
        """Complete the planned rows."""
        if self._merge is not None and self._sink is not None:
            self._merge.finish()
            self._sink.finish()
        self._merge = self._sink = None

    def is_complete(self) -> bool:
        """Say whether nothing is missing."""
        return self._is_assembled() or all(self.rows.is_done(unit) for unit in range(self.rows.count))

    def _is_assembled(self) -> bool:
        """Say whether the tile rows went into the final file, or are on the way."""
        return self._layout.is_file() or self._assembled.is_file()

    @property
    def _layout(self) -> Path:
        return self.journal.folder / "classes_layout.json"

    @property
    def _assembled(self) -> Path:
        return self.journal.folder / "classes.tif"

    def assemble(self) -> Path:
        """Make the class map a COG in the journal's folder; the tile rows go into it."""
        if not self._assembled.is_file():
            classes = self.model.classes
            tags = tuple((f"CLASS_{index}", name) for index, name in enumerate(classes.names))
            options = CogOptions(self.scene.georeference, "mode", NODATA, classes.palette, ("class",), tags)
            write_cog(self.rows, self._assembled, options)
        return self._assembled

    def assemble_probabilities(self, target: Path) -> None:
        """Make the probabilities a COG; nothing is done where a killed run has done it.

        Args:
            target: The file.
        """
        started = (self.journal.folder / "probabilities_layout.json").is_file()
        if started or self.shares.is_done(0):
            names = self.model.classes.names
            options = CogOptions(self.scene.georeference, "average", 255, band_names=names, scale=1 / QUANTA)
            write_cog(self.shares, target, options)

    def result(self) -> SceneResult:
        """Return the map: its rows are read from the tile rows, or from the file that they went into."""
        labels = _RasterRows(self.assemble()) if self._is_assembled() else self.rows
        return self.task.map_result(labels, self.model.classes)


class _RasterRows:
    """The rows of a finished class map, read by slices."""

    def __init__(self, path: Path) -> None:
        import rasterio

        self.path = path
        with rasterio.open(path) as raster:
            self.shape = (raster.height, raster.width)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        import rasterio

        first, last, _ = rows.indices(self.shape[0])
        with rasterio.open(self.path) as raster:
            return raster.read(1, window=((first, last), (0, self.shape[1])))


class _TileSink:
    """Collects rows of a merge and writes tile rows; rows outside of ``[first, last)`` are incomplete and go.

    Args:
        rows: Where classes go.
        shares: Where probabilities go.
        start: Scene row of the first row that comes.
        first: First row wanted, that of a tile row.
        last: Row after the last one wanted.
        area: Pixels outside of it become no data.
    """

    def __init__(
        self, rows: TileRows, shares: TileRows | None, start: int, first: int, last: int, area: Area | None
    ) -> None:
        self.rows, self.shares, self.area = rows, shares, area
        self._next, self._first, self._last = start, first, last
        self._unit = first // TILE
        self._labels: list[NDArray[np.uint8]] = []
        self._probabilities: list[NDArray[np.uint8]] = []

    def write(self, labels: NDArray[np.uint8], probabilities: NDArray[np.uint8] | None) -> None:
        """Take the next rows."""
        wanted = slice(max(0, self._first - self._next), max(0, self._last - self._next))
        self._next += len(labels)
        if len(labels[wanted]) == 0:
            return
        self._labels.append(labels[wanted].copy())
        if probabilities is not None:
            self._probabilities.append(probabilities[wanted].copy())
        self._flush()

    def finish(self) -> None:
        """Fill the rows that no window reached and write the last tile row."""
        missing = self._last - max(self._next, self._first)
        if missing > 0:
            self.write(*self._nothing(missing))
        if self._next < self._last:
            raise RuntimeError(f"rows end at {self._next}, expected {self._last}")

    def _nothing(self, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        self._next = max(self._next, self._first)
        labels = np.full((rows, self.rows.width), NODATA, dtype=np.uint8)
        if self.shares is None:
            return labels, None
        return labels, np.full((rows, self.rows.width, self.shares.bands), 255, dtype=np.uint8)

    def _flush(self) -> None:
        while True:
            top, bottom = self.rows.rows_of(self._unit)
            held = sum(len(part) for part in self._labels)
            if top >= self._last or held < bottom - top:
                return
            labels = _take_rows(self._labels, bottom - top)
            outside = None if self.area is None else ~self.area.mask(top, bottom, self.rows.width)
            if outside is not None:
                labels[outside] = NODATA
            if self.shares is not None:
                shares = _take_rows(self._probabilities, bottom - top)
                shares[labels == NODATA] = 255
                self.shares.write(self._unit, shares)
            self.rows.write(self._unit, labels)
            self._unit += 1


def _take_rows(parts: list[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """Take the first rows out of a list of blocks."""
    everything = np.concatenate(parts)
    parts[:] = [everything[count:]] if len(everything) > count else []
    return everything[:count]


def make_run(
    scene: Scene,
    model: WindowModel,
    grid: SceneGrid,
    folder: Path,
    identity: Mapping[str, Any],
    settings: RunSettings,
    area: Area | None,
) -> SceneRun:
    """Return the run that suits a model's task.

    Args:
        scene: The scene.
        model: The model.
        grid: Its windows.
        folder: Of the unfinished work.
        identity: Everything that the numbers depend on.
        settings: Of the prediction.
        area: Where results are wanted.
    """
    kind = MapRun if isinstance(model.scenes, PredictsMaps) else ObjectRun
    return kind(scene, model, grid, Journal(folder, identity), settings, area)
