"""Training pairs from two dates of an area and the polygons of what changed between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from mmengine.logging import MMLogger
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import (
    Manifest,
    locked,
    publish,
    read_manifest,
    refuse_foreign,
    refuse_own_sources,
    staging_folder,
)
from rsfoundation.core.parallel import with_progress
from rsfoundation.core.task import Window
from rsfoundation.datasets.pair_check import compare_dates
from rsfoundation.geometry.windows import window_grid
from rsfoundation.io.label_maps import IGNORED, write_indexed_png
from rsfoundation.io.rasters import RasterReader
from rsfoundation.io.vectors import read_polygons

CHANGE_MAKER = "rsfoundation prepare change"
_VERSION = 1
_SMALLEST = 32  # pixels; the stride of the coarsest maps of a backbone
_COLOURS = ((0, 0, 0), (255, 255, 255), *((0, 0, 0),) * 253, (128, 128, 128))  # 255 is ignored


@dataclass(frozen=True)
class ChangePairsResult:
    """What was made.

    Attributes:
        out: The folder.
        train: Pairs to train on.
        val: Pairs to validate on.
        changed_pairs: Pairs with at least one changed pixel, of both splits.
        changed_pixels: Changed pixels.
        pixels: Pixels with a label, changed or not.
        polygons: Polygons that touch the area.
        polygons_outside: Polygons that do not.
        pairs_without_data: Windows in which one date has no data at all; they are left out.
        reused: Whether the same folder was there already.
    """

    out: Path
    train: int = 0
    val: int = 0
    changed_pairs: int = 0
    changed_pixels: int = 0
    pixels: int = 0
    polygons: int = 0
    polygons_outside: int = 0
    pairs_without_data: int = 0
    reused: bool = False

    def counts(self) -> dict[str, int | str]:
        """Return the counts for a table."""
        counts = {key.replace("_", " "): value for key, value in self._numbers().items()}
        share = f"{self.changed_pixels / self.pixels:.2%}" if self.pixels else "0 %"
        return {
            **counts,
            "share of changed pixels": share,
            **({"already there": "yes"} if self.reused else {}),
        }

    def _numbers(self) -> dict[str, int]:
        return {key: value for key, value in asdict(self).items() if key not in ("out", "reused")}


def make_change_pairs(
    before: Path,
    after: Path,
    polygons: Path,
    out: Path,
    *,
    window: int = 256,
    val: float = 0.2,
    seed: int = 0,
) -> ChangePairsResult:
    """Write ``{train,val}/{A,B,label}``: windows of both dates as GeoTIFFs in their own bands and values.

    Labels are 1 where the centre of a pixel is in a polygon, 0 elsewhere, and 255 (ignored) where a date has
    no data. Windows do not overlap; those at the right and lower border are moved inside, and pixels that the
    window before them has already are ignored, so that no labelled pixel is in both splits. Each split gets
    its share of the windows with change and of those without. One window is in memory at a time.

    Args:
        before: First date, any raster with CRS and transform.
        after: Second date, on the same pixel grid.
        polygons: Vector file of what changed, in any CRS.
        out: Folder to make; made before in the same way, it is left as it is.
        window: Side of the windows in pixels.
        val: Share of the windows to validate on.
        seed: Another seed draws other windows for validation.

    Raises:
        DataError: A file is broken, the dates do not match, no polygon touches them, or ``out`` holds
            something else.
        ConfigError: The window or the share is impossible.
    """
    before, after, polygons, out = Path(before), Path(after), Path(polygons), Path(out)
    _check_options(window, val)
    refuse_own_sources(out, (before, after, polygons))
    if not polygons.exists():  # rasters name themselves
        raise DataError(
            "the file of polygons does not exist",
            where=polygons,
            fix="give a file that OGR reads: GeoPackage, GeoJSON; the order is BEFORE AFTER POLYGONS",
        )
    with RasterReader(before) as first, RasterReader(after) as second:
        _check_pair(first, second, window)
        parameters = {
            "version": _VERSION,
            "window": window,
            "val": val,
            "seed": seed,
            "files": {
                str(path): [path.stat().st_size, path.stat().st_mtime_ns]
                for path in (before, after, polygons)
            },
        }
        with locked(out.parent):
            refuse_foreign(out, CHANGE_MAKER)
            manifest = read_manifest(out)
            if manifest is not None and manifest.parameters == parameters:
                return ChangePairsResult(out, **manifest.content, reused=True)
            with staging_folder(out) as staging:
                cutter = _Cutter(first, second, read_polygons(polygons, first.georeference), window)
                cutter.refuse_elsewhere(polygons)
                content: dict[str, Any] = cutter.write(staging, val, seed)
                publish(staging, out, Manifest(CHANGE_MAKER, parameters, content))
    result = ChangePairsResult(out, **content)
    _warn(result)
    return result


def _check_options(window: int, val: float) -> None:
    if window < _SMALLEST or window % _SMALLEST:
        raise ConfigError(
            f"windows of {window} px", where="window", fix=f"choose a multiple of {_SMALLEST}, such as 256"
        )
    if not 0 <= val < 1:
        raise ConfigError(f"the share of validation is {val}", where="val", fix="choose 0 to 0.9")


def _check_pair(first: RasterReader, second: RasterReader, window: int) -> None:
    """Check that polygons have a place in the pair, and that the dates match."""
    for reader in (first, second):
        if not reader.georeference.is_referenced:
            raise DataError(
                "the image has no coordinate system or no transform: polygons have no place in it",
                where=reader.path,
                fix="georeference the image, or draw the labels as images and use them with ChangePairs",
            )
    mismatch = compare_dates(first, second)
    if mismatch is not None:
        raise mismatch[1]
    if min(first.width, first.height) < window:
        raise DataError(
            f"the images of {first.width}x{first.height} px are smaller than a window of {window} px",
            where=first.path,
            fix="choose a smaller window: --window",
        )


class _Cutter:
    """Cuts one pair into windows.

    Args:
        first: First date.
        second: Second date, on the same grid.
        shapes: Polygons ``(N,)`` in pixel edges of the pair.
        window: Side in pixels.
    """

    def __init__(
        self, first: RasterReader, second: RasterReader, shapes: NDArray[np.object_], window: int
    ) -> None:
        self.dates = {"A": first, "B": second}
        self.width, self.height = first.width, first.height
        touching = shapely.intersects(shapes, shapely.box(0, 0, self.width, self.height))
        self.shapes, self.outside = shapes[touching], shapes[~touching]
        self._tree = shapely.STRtree(self.shapes)
        self.window = window

    def refuse_elsewhere(self, polygons: Path) -> None:
        """Check that a polygon touches the pair.

        Raises:
            DataError: None does.
        """
        if len(self.shapes):
            return
        left, top, right, bottom = shapely.total_bounds(self.outside)
        raise DataError(
            f"none of the {len(self.outside)} polygons touches the images: they cover columns {left:.0f} to "
            f"{right:.0f} and rows {top:.0f} to {bottom:.0f} of a raster of {self.width}x{self.height} px",
            where=polygons,
            fix="check the CRS of the polygons; a file without one is taken to have that of the images",
        )

    def write(self, folder: Path, val: float, seed: int) -> dict[str, int]:
        """Write all pairs and return the counts.

        Args:
            folder: An empty folder.
            val: Share of the windows to validate on.
            seed: Of the draw.
        """
        for split in ("train", "val") if val else ("train",):
            for kind in (*self.dates, "label"):
                (folder / split / kind).mkdir(parents=True)
        windows = window_grid(self.height, self.width, self.window, overlap=0)
        counts = dict.fromkeys(ChangePairsResult(folder)._numbers(), 0)
        counts |= {"polygons": len(self.shapes), "polygons_outside": len(self.outside)}
        held_out = self._draw(windows, val, seed)
        for window in with_progress(windows, total=len(windows), title="cutting pairs"):
            label = self._label(window)
            if label is None:
                counts["pairs_without_data"] += 1
                continue
            split = "val" if window in held_out else "train"
            name = f"{self.dates['A'].path.stem}__{window.left}__{window.top}"
            for kind, reader in self.dates.items():
                _write_window(reader, window, folder / split / kind / f"{name}.tif")
            write_indexed_png(label, _COLOURS, folder / split / "label" / f"{name}.png")
            counts[split] += 1
            counts["changed_pairs"] += bool((label == 1).any())
            counts["changed_pixels"] += int((label == 1).sum())
            counts["pixels"] += int((label != IGNORED).sum())
        return counts

    def _touching(self, window: Window) -> NDArray[np.object_]:
        box = shapely.box(window.left, window.top, window.left + self.window, window.top + self.window)
        return self.shapes[np.sort(self._tree.query(box, predicate="intersects"))]

    def _draw(self, windows: Sequence[Window], val: float, seed: int) -> set[Window]:
        """Return the windows to validate on: a share of those that polygons touch, and of the others."""
        random = np.random.default_rng(seed)
        held_out: set[Window] = set()
        changed = [bool(len(self._touching(window))) for window in windows]
        for kind in (True, False):
            group = [window for window, one in zip(windows, changed, strict=True) if one is kind]
            count = round(val * len(group))
            if kind and val and len(group) > 1:
                count = min(max(count, 1), len(group) - 1)  # both splits see change
            held_out |= {group[place] for place in random.permutation(len(group))[:count]}
        return held_out

    def _label(self, window: Window) -> NDArray[np.uint8] | None:
        """Return the label of a window, ``None`` where it has no data in one of the dates."""
        from rasterio import Affine
        from rasterio.features import rasterize

        side = self.window
        label = np.zeros((side, side), dtype=np.uint8)
        shapes = [shape for shape in self._touching(window) if shape.area]
        if shapes:
            offset = Affine(1, 0, window.left, 0, 1, window.top)
            rasterize(shapes, out=label, transform=offset, default_value=1)
        for reader in self.dates.values():
            valid = reader.valid_mask(window)
            if not valid.any():
                return None
            label[~valid] = IGNORED
        label[: -window.top % side] = IGNORED  # rows and columns that the window before has
        label[:, : -window.left % side] = IGNORED
        return label


def _write_window(reader: RasterReader, window: Window, path: Path) -> None:
    """Write a window as a GeoTIFF with the bands, the values and the place of its raster."""
    import rasterio

    pixels = np.moveaxis(reader.read(window), 2, 0)
    reference = reader.georeference.shifted(window.left, window.top)
    options: dict[str, Any] = dict(
        driver="GTiff",
        width=window.width,
        height=window.height,
        count=len(pixels),
        dtype=pixels.dtype,
        compress="deflate",
        crs=reference.crs,
        transform=rasterio.Affine(*(reference.transform or ())),
        nodata=reader.nodata,
    )
    if len(pixels) >= 3 and pixels.dtype == np.uint8:
        options["photometric"] = "rgb"
    with rasterio.open(path, "w", **options) as made:
        made.write(pixels)
        made.descriptions = [reader.band_names[band - 1] or None for band in reader.bands]


def _warn(result: ChangePairsResult) -> None:
    logger = MMLogger.get_current_instance()
    if result.polygons_outside:
        logger.warning("%d polygons do not touch the images", result.polygons_outside)
    if result.pairs_without_data:
        logger.warning("%d windows without data in one of the dates are left out", result.pairs_without_data)
    if not result.changed_pixels:
        logger.warning("no pixel changed: polygons are smaller than a pixel, or have no data below them")
