"""Embeddings of images and of the cells of scenes, by the backbone of any checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import replacing
from rsfoundation.core.task import RunRequest, Window
from rsfoundation.engine.checkpointing.find import config_of_checkpoint, find_checkpoint, read_saved
from rsfoundation.engine.config import build_task
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.model_builder import inference_model
from rsfoundation.engine.probe import feature_of
from rsfoundation.engine.resolve_config import RunOptions, loading_of, resolve_config
from rsfoundation.inference.scenes import Scene, SceneInput, SceneList, open_scene
from rsfoundation.io.loading import ImageLoading

FORMATS = ("tif", "parquet")
_CELL = 256


@dataclass(frozen=True)
class EmbeddingOptions:
    """How scenes are cut and what is written.

    Attributes:
        cell: Side of a cell in pixels; an image no larger gets one embedding.
        batch_size: Cells per forward pass.
        formats: ``parquet``: one table of all cells of all scenes. ``tif``: a raster of each scene larger
            than a cell, with a pixel per cell and a band per channel.
        gsd: Metres per pixel at which the backbone sees the scene; the scene's own when not given.
    """

    cell: int = _CELL
    batch_size: int = 8
    formats: tuple[str, ...] = FORMATS
    gsd: float | None = None


@dataclass(frozen=True)
class EmbeddedScene:
    """One scene.

    Attributes:
        name: Of the scene.
        rows: Of cells.
        columns: Of cells.
        empty: Cells without data: they are not a number in rasters and not in tables.
    """

    name: str
    rows: int
    columns: int
    empty: int


class EmbeddingModel:
    """The backbone of a checkpoint of any task, with the normalisation of its data preprocessor.

    Args:
        model: A checkpoint file, or a run folder.
        config: The config; ``config.py`` next to the checkpoint when not given.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        overrides: ``key.sub=value`` strings applied to the config.

    Attributes:
        loading: Bands and value range of the config.

    Raises:
        RSFError: The checkpoint or the config is missing or broken, or the model has no backbone.
    """

    def __init__(
        self,
        model: str | Path,
        config: str | Path | None = None,
        device: str = "auto",
        overrides: Sequence[str] = (),
    ) -> None:
        self.device = use_device(device)
        self.checkpoint = find_checkpoint(model)
        cfg = config_of_checkpoint(self.checkpoint, config, overrides)
        self.cfg = resolve_config(
            cfg, RunOptions(), build_task(cfg), RunRequest("predict"), device=self.device
        ).cfg
        init_default_scope(self.cfg.get("default_scope", "mmengine"))
        network, _ = inference_model(self.cfg, read_saved(self.checkpoint), self.checkpoint)
        if not isinstance(getattr(network, "backbone", None), torch.nn.Module):
            raise ConfigError(
                f"{type(network).__name__} has no backbone of its own",
                where=f"{self.checkpoint}",
                fix="choose a checkpoint of a model with `backbone`",
            )
        self.network = network.to(self.device)
        self.loading = loading_of(self.cfg)

    def embed(self, crops: Sequence[np.ndarray]) -> np.ndarray:
        """Return the embeddings ``(N, C)`` float32 of images of one size.

        Args:
            crops: ``(H, W, bands)`` as the config's loading step returns them.

        Raises:
            ConfigError: The model takes another number of bands, such as pairs of dates.
        """
        inputs = [torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))) for crop in crops]
        preprocessor: Any = self.network.data_preprocessor
        expected = preprocessor.mean.numel() if getattr(preprocessor, "mean", None) is not None else 1
        if expected not in (1, len(inputs[0])):
            raise ConfigError(
                f"the images come with {len(inputs[0])} bands, and the model takes {expected}",
                where=self.checkpoint,
                fix="choose bands by --bands; a model of pairs embeds no single images",
            )
        samples = [BaseDataElement() for _ in inputs]  # mmseg's preprocessor writes to them
        data = preprocessor(dict(inputs=inputs, data_samples=samples), False)
        with torch.inference_mode():
            output = self.network.backbone(data["inputs"])  # type: ignore[operator]
        return feature_of(output).float().cpu().numpy()


def embed_scenes(
    model: EmbeddingModel,
    inputs: Sequence[SceneInput],
    out: Path,
    options: EmbeddingOptions = EmbeddingOptions(),
    loading: ImageLoading | None = None,
) -> tuple[list[EmbeddedScene], list[Path]]:
    """Write the embeddings of images and scenes; memory is that of one row of cells.

    Args:
        model: The backbone.
        inputs: See :func:`rsfoundation.inference.scenes.list_scenes`.
        out: The folder of the files.
        options: Cells and files.
        loading: Bands and value range; the config's when not given.

    Returns:
        What was done, and the files.

    Raises:
        RSFError: An input does not exist or cannot be read, or a format is unknown.
    """
    unknown = [kind for kind in options.formats if kind not in FORMATS]
    if unknown:
        raise ConfigError(
            f"embeddings cannot be written as '{unknown[0]}'",
            where="--format",
            fix=f"choose among {', '.join(FORMATS)}",
        )
    found = SceneList.find(inputs, 1)
    out.mkdir(parents=True, exist_ok=True)
    done: list[EmbeddedScene] = []
    files: list[Path] = []
    with ExitStack() as stack:
        table = None
        if "parquet" in options.formats:
            table = stack.enter_context(_Table(out / "embeddings.parquet"))
        for paths, name in zip(found.scenes, found.names, strict=True):
            scene = open_scene(paths, loading or model.loading, options.gsd, name)
            try:
                done.append(_embed_scene(model, scene, out, options, table, files))
            finally:
                scene.close()
    if table is not None and table.path.is_file():
        files.append(table.path)
    return done, files


def _embed_scene(
    model: EmbeddingModel,
    scene: Scene,
    out: Path,
    options: EmbeddingOptions,
    table: _Table | None,
    files: list[Path],
) -> EmbeddedScene:
    rows, columns = (math.ceil(side / options.cell) for side in scene.size)
    empty = 0
    with ExitStack() as stack:
        raster: _Raster | None = None
        if "tif" in options.formats and rows * columns > 1:
            target = out / f"{scene.name}_embeddings.tif"
            raster = stack.enter_context(_Raster(target, scene, rows, columns, options.cell))
            files.append(target)
        for row in range(rows):
            found = _embed_row(model, scene, row, columns, options)
            empty += sum(one is None for one in found)
            if raster is not None:
                raster.write(row, found)
            if table is not None:
                table.write(scene, row, found, options.cell)
    return EmbeddedScene(scene.name, rows, columns, empty)


def _embed_row(
    model: EmbeddingModel, scene: Scene, row: int, columns: int, options: EmbeddingOptions
) -> list[np.ndarray | None]:
    """Return the embedding ``(C,)`` of each cell of a row; ``None`` where a cell holds no data."""
    found: list[np.ndarray | None] = [None] * columns
    waiting: list[tuple[int, np.ndarray]] = []

    def run() -> None:
        for (column, _), one in zip(waiting, model.embed([crop for _, crop in waiting]), strict=True):
            found[column] = one
        waiting.clear()

    for column, window in enumerate(_cell_windows(scene, row, columns, options.cell)):
        if scene.valid(window).any():
            waiting.append((column, scene.crops(window)[0]))
        if len(waiting) == options.batch_size:
            run()
    if waiting:
        run()
    return found


def _cell_windows(scene: Scene, row: int, columns: int, cell: int) -> Iterator[Window]:
    """Yield the pixels that the embedding of each cell is made of.

    Cells at the right and lower border are moved inside, so that all see the same number of pixels.
    """
    height, width = (min(cell, side) for side in scene.size)
    top = min(row * cell, scene.height - height)
    for column in range(columns):
        yield Window(min(column * cell, scene.width - width), top, width, height)


class _Raster:
    """A GeoTIFF with a pixel per cell, which appears whole."""

    def __init__(self, path: Path, scene: Scene, rows: int, columns: int, cell: int) -> None:
        self.path, self.scene, self.rows, self.columns, self.cell = path, scene, rows, columns, cell
        self._stack = ExitStack()
        self._raster: Any = None
        self._waiting: list[int] = []

    def __enter__(self) -> _Raster:
        self._aside = self._stack.enter_context(replacing(self.path))
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._raster is not None:
            self._raster.close()
        elif error is None:
            error = DataError("the scene holds no data", where=self.scene.paths[0])
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, traceback)

    def write(self, row: int, found: Sequence[np.ndarray | None]) -> None:
        """Write one row of cells; rows without data wait until the number of channels is known."""
        known = [one for one in found if one is not None]
        if self._raster is None and known:
            self._open(len(known[0]))
            for earlier in self._waiting:
                self._put(earlier, [None] * self.columns)
        if self._raster is None:
            self._waiting.append(row)
        else:
            self._put(row, found)

    def _put(self, row: int, found: Sequence[np.ndarray | None]) -> None:
        import rasterio

        values = np.full((self._raster.count, 1, self.columns), np.nan, np.float32)
        for column, one in enumerate(found):
            if one is not None:
                values[:, 0, column] = one
        self._raster.write(values, window=rasterio.windows.Window(0, row, self.columns, 1))

    def _open(self, channels: int) -> None:
        try:
            import rasterio
        except ImportError as error:
            raise ConfigError(
                "GeoTIFFs are written through rasterio, which is not installed",
                where="--format tif",
                fix="pip install 'rsfoundation[geo]', or -f parquet",
            ) from error
        reference = self.scene.georeference.scaled(self.cell, self.cell)
        place = {} if reference.transform is None else dict(transform=rasterio.Affine(*reference.transform))
        self._raster = rasterio.open(
            self._aside, "w", driver="GTiff", width=self.columns, height=self.rows, count=channels,
            dtype="float32", nodata=float("nan"), crs=reference.crs, interleave="pixel", compress="deflate",
            BIGTIFF="IF_SAFER", **place,
        )  # fmt: skip


class _Table:
    """A Parquet file with a line per cell: scene, row, column, place, embedding."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "Parquet is written through pyarrow, which is not installed",
                where="--format parquet",
                fix="pip install 'rsfoundation[geo]', or -f tif",
            ) from error
        self.path = path
        self._stack = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> _Table:
        self._aside = self._stack.enter_context(replacing(self.path))
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if self._writer is not None:
            self._writer.close()
        elif error is None:
            error = DataError("no image holds data", where=self.path)
            self._stack.__exit__(type(error), error, None)
            raise error
        self._stack.__exit__(kind, error, traceback)

    def write(self, scene: Scene, row: int, found: Sequence[np.ndarray | None], cell: int) -> None:
        """Write one row of cells of a scene.

        Args:
            scene: The scene.
            row: Of cells.
            found: The embeddings; cells without one are left out.
            cell: Side of a cell in pixels.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        kept = [(column, one) for column, one in enumerate(found) if one is not None]
        if not kept:
            return
        reference = scene.georeference
        boxes = [(column * cell, row * cell, min((column + 1) * cell, scene.width),
                  min((row + 1) * cell, scene.height)) for column, _ in kept]  # fmt: skip
        bounds = np.full((len(kept), 4), np.nan)
        if reference.transform is not None:
            corners = np.array([[(x1, y1), (x2, y1), (x2, y2), (x1, y2)] for x1, y1, x2, y2 in boxes], float)
            placed = reference.pixel_edges_to_crs(corners.reshape(-1, 2)).reshape(-1, 4, 2)
            bounds = np.concatenate([placed.min(1), placed.max(1)], axis=1)
        columns: dict[str, Any] = dict(
            scene=[scene.name] * len(kept),
            path=[str(scene.paths[0])] * len(kept),
            row=np.full(len(kept), row),
            column=np.array([column for column, _ in kept]),
            crs=pa.array([reference.crs] * len(kept), pa.string()),
            **{name: bounds[:, index] for index, name in enumerate(("xmin", "ymin", "xmax", "ymax"))},
            embedding=pa.FixedSizeListArray.from_arrays(
                pa.array(np.concatenate([one for _, one in kept])), len(kept[0][1])
            ),
        )
        rows = pa.table(columns)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._aside, rows.schema)
        self._writer.write_table(rows)
