"""Scenes: which files are predicted, and their pixels window by window at the model's sampling distance."""

from __future__ import annotations

import glob
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import MMLogger
from numpy.typing import NDArray
from PIL import Image

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.task import Window
from rsfoundation.inference.journal import file_identity
from rsfoundation.io.georeference import GeoReference, grid_offset
from rsfoundation.io.loading import ImageLoading, LoadedImage, PixelRange

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".vrt", ".jp2")
_REMOTE = re.compile(r"^(https?|s3|gs|az|ftp)://|^/vsi")
_STRIP_BYTES = 64 * 2**20  # of source pixels that are resampled at once
_EVEN_PIXELS = 0.02  # share by which widths of pixels in degrees may differ where --gsd is given
_SAME_GRID = 0.01  # pixels; dates that differ by less are on one grid
SceneInput = str | Path


@dataclass(frozen=True)
class Scene:
    """One raster or, for two dates, several on one pixel grid, at the resolution of the prediction.

    Attributes:
        paths: The files.
        images: The open files, whose windows come as the config's loading returns them.
        height: Height in pixels of the prediction.
        width: Width in pixels of the prediction.
        step: Source pixels per pixel of the prediction, along columns and rows; 1 without ``--gsd``.
        label: Name of the scene in file names.
    """

    paths: tuple[Path, ...]
    images: tuple[LoadedImage, ...]
    height: int
    width: int
    step: tuple[float, float] = (1.0, 1.0)
    label: str = ""

    @property
    def name(self) -> str:
        """Name of the scene: the stem of its first file, unless scenes of one run share it."""
        return self.label or self.paths[0].stem

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the prediction."""
        return self.height, self.width

    @property
    def georeference(self) -> GeoReference:
        """Where the pixels of the prediction are."""
        reference = self.images[-1].reader.georeference
        return reference if self.step == (1.0, 1.0) else reference.scaled(*self.step)

    @property
    def is_referenced(self) -> bool:
        """Whether the scene has a CRS and a transform."""
        return self.georeference.is_referenced

    def crops(self, window: Window) -> list[NDArray[Any]]:
        """Return the crop ``(H, W, C)`` of every image, contiguous, as loading steps leave it."""
        if self.step == (1.0, 1.0):
            return [image.read(window) for image in self.images]
        return [image.loading.convert(self._resampled(image, window)) for image in self.images]

    def valid(self, window: Window) -> NDArray[np.bool_]:
        """Return which pixels ``(H, W)`` of a window hold data in every image."""
        if self.step == (1.0, 1.0):
            masks = [image.reader.valid_mask(window) for image in self.images]
        else:
            source, size = self._source_window(window, 0), (window.width, window.height)
            masks = [image.reader.valid_mask(source, size) for image in self.images]
        return np.logical_and.reduce(masks)

    def overview(self, max_side: int) -> list[NDArray[Any]]:
        """Return every image with no side longer than ``max_side`` pixels, as the model takes it."""
        return [image.loading.convert(image.reader.read_overview(max_side)) for image in self.images]

    def close(self) -> None:
        """Close the files."""
        for image in self.images:
            image.close()

    def _source_window(self, window: Window, margin: int) -> Window:
        """Return the source pixels that a window covers, and ``margin`` more on each side."""
        reader, (across, down) = self.images[0].reader, self.step
        left = max(0, math.floor(window.left * across) - margin)
        top = max(0, math.floor(window.top * down) - margin)
        right = min(reader.width, math.ceil((window.left + window.width) * across) + margin)
        bottom = min(reader.height, math.ceil((window.top + window.height) * down) + margin)
        return Window(left, top, max(1, right - left), max(1, bottom - top))

    def _resampled(self, image: LoadedImage, window: Window) -> NDArray[Any]:
        """Return a window resampled with a triangle filter as wide as the larger of both pixels.

        The filter sees the pixels beyond the window, so that neighbouring windows agree; pixels without data
        have no weight.
        """
        across, down = self.step
        reader = image.reader
        margin = math.ceil(max(1.0, across, down)) + 1
        row_bytes = window.width * across * down * len(reader.bands) * reader.dtype.itemsize
        rows = max(1, min(window.height, int(_STRIP_BYTES / max(row_bytes, 1))))
        strips = []
        for top in range(window.top, window.top + window.height, rows):
            part = Window(window.left, top, window.width, min(rows, window.top + window.height - top))
            source = self._source_window(part, margin)
            pixels, valid = reader.read(source), reader.valid_mask(source)
            box = (
                part.left * across - source.left,
                part.top * down - source.top,
                min((part.left + part.width) * across - source.left, source.width),
                min((part.top + part.height) * down - source.top, source.height),
            )
            strips.append(_resize(pixels, valid, (part.width, part.height), box))
        resampled = np.concatenate(strips)
        if reader.dtype.kind == "f":
            return resampled.astype(reader.dtype)
        limits = np.iinfo(reader.dtype)
        return np.clip(np.rint(resampled), limits.min, limits.max).astype(reader.dtype)


def _resize(
    pixels: NDArray[Any],
    valid: NDArray[np.bool_],
    size: tuple[int, int],
    box: tuple[float, float, float, float],
) -> NDArray[np.float32]:
    def one(plane: NDArray[Any]) -> NDArray[np.float32]:
        picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
        return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box))

    planes = [pixels[..., band] for band in range(pixels.shape[2])]
    if valid.all():
        return np.stack([one(plane) for plane in planes], axis=2)
    weight = one(valid)
    known = [one(np.where(valid, plane, 0)) for plane in planes]
    return np.stack(
        [np.divide(part, weight, out=np.zeros_like(part), where=weight > 1e-6) for part in known], axis=2
    )


def open_scene(
    paths: Sequence[Path],
    loading: ImageLoading | None = None,
    gsd: float | None = None,
    label: str = "",
    stretch: str | None = None,
) -> Scene:
    """Open the file(s) of one scene.

    Args:
        paths: The files, the older date first.
        loading: Bands and value range; the first three bands of 8 bit when not given.
        gsd: Metres per pixel at which the model is to see the scene; its own when not given.
        label: Name of the scene; the stem of its first file when not given.
        stretch: Value range found from the whole scene: ``minmax``, or percentiles such as ``2,98``.

    Raises:
        DataError: A file is unreadable, or the files differ in size, CRS or position.
        ConfigError: ``gsd`` is given and the scene's own is not known, or differs within the scene.
    """
    loading = loading or ImageLoading()
    if stretch is not None:
        loading = replace(loading, pixel_range=scene_range(paths, loading, stretch))
    images = tuple(loading.open(path) for path in paths)
    _require_one_grid(images)
    reader = images[0].reader
    if reader.georeference.gcps and reader.georeference.transform is None:
        MMLogger.get_current_instance().warning(
            "%s has %d ground control points and no transform: results are in pixels; warp it first: "
            "gdalwarp -t_srs %s %s WARPED.tif",
            paths[0], reader.georeference.gcps, _short(reader.georeference.crs or "EPSG:n"), paths[0],
        )  # fmt: skip
    height, width = reader.height, reader.width
    step = (1.0, 1.0)
    if gsd is not None:
        own = reader.georeference.ground_sampling_distance
        if own is None:
            raise ConfigError(
                "the scene's ground sampling distance is not known, so that it cannot be resampled to "
                f"{gsd:g} m per pixel",
                where=paths[0],
                fix="give the scene a CRS and a transform, or leave --gsd out",
            )
        _require_even_pixels(reader.georeference, (width, height), paths[0])
        target = [max(1, round(side * size / gsd)) for side, size in zip((width, height), own, strict=True)]
        step = (width / target[0], height / target[1])
        width, height = target
    return Scene(tuple(Path(path) for path in paths), images, height, width, step, label)


def _require_even_pixels(reference: GeoReference, size: tuple[int, int], path: Path) -> None:
    """Check that a pixel in degrees has about the same size in metres all over the scene."""
    if reference.crs is None or reference.transform is None:
        return
    from pyproj import CRS

    if not CRS.from_user_input(reference.crs).is_geographic:
        return
    corners = [(0, 0), (size[0], 0), (0, size[1]), size]
    latitudes = np.radians(reference.pixel_edges_to_crs(corners)[:, 1])
    widths = np.cos(np.clip(latitudes, -np.pi / 2, np.pi / 2))
    if widths.min() < (1 - _EVEN_PIXELS) * widths.max():
        raise ConfigError(
            f"the scene is in degrees ({_short(reference.crs)}), and its pixels are up to "
            f"{100 * (1 - widths.min() / widths.max()):.0f} % narrower in one place than in another: there "
            "is no one ground sampling distance in metres",
            where=path,
            fix="warp it to a projected CRS first (gdalwarp -t_srs EPSG:n SCENE WARPED.tif), or omit --gsd",
        )


_RANGE_SIDE = 1024  # of the overview that percentiles are taken from


def scene_range(paths: Sequence[Path], loading: ImageLoading, stretch: str) -> PixelRange:
    """Return the value range of each band over all dates of a scene, the same for every window of it.

    Args:
        paths: The files.
        loading: Which bands.
        stretch: ``minmax``, or two percentiles such as ``2,98``.

    Raises:
        ConfigError: The text is neither.
        DataError: The scene holds no data.
    """
    try:
        limits = (0.0, 100.0) if stretch == "minmax" else tuple(float(part) for part in stretch.split(","))
        low, high = limits
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 100:
        raise ConfigError(
            f"the stretch '{stretch}' is neither minmax nor two percentiles",
            where="--stretch",
            fix="--stretch minmax, or --stretch 2,98",
        )
    samples = []
    anything = replace(loading, pixel_range=PixelRange((0.0,), (1.0,)))  # values are not converted here
    for path in paths:
        with anything.open(path) as image:
            reader = image.reader
            pixels = reader.read_overview(_RANGE_SIDE)
            samples.append(pixels[reader.valid_mask(out_size=(pixels.shape[1], pixels.shape[0]))])
    values = np.concatenate(samples).astype(np.float64)
    if not len(values):
        raise DataError("the scene holds no data", where=paths[0])
    floor, ceiling = np.percentile(values, (low, high), axis=0)
    ceiling = np.where(ceiling > floor, ceiling, floor + 1)
    return PixelRange(tuple(floor.tolist()), tuple(ceiling.tolist()))


def _require_one_grid(images: Sequence[LoadedImage]) -> None:
    """Check that all dates have the same pixels on the ground."""
    first = images[0].reader
    where = " and ".join(str(image.reader.path) for image in images)
    for other in (image.reader for image in images[1:]):
        if (first.height, first.width) != (other.height, other.width):
            raise DataError(
                "the images of one scene differ in size: "
                f"{first.width}x{first.height} and {other.width}x{other.height}",
                where=where,
                fix="bring both dates onto one pixel grid first (gdalwarp -te ... -tr ...)",
            )
        one, two = first.georeference, other.georeference
        if one.crs is not None and two.crs is not None and one.crs != two.crs:
            raise DataError(
                f"the dates are in different CRS: {_short(one.crs)} and {_short(two.crs)}",
                where=where,
                fix=f"warp one onto the grid of the other: gdalwarp -t_srs {_short(one.crs)} ...",
            )
        offset = grid_offset(one, two, first.width, first.height)
        off = 0.0 if offset is None else float(np.abs(offset).max())
        if offset is not None and off > _SAME_GRID:
            raise DataError(
                f"the dates are not at the same place: up to {off:.6g} pixels apart"
                + _in_metres(one, offset),
                where=where,
                fix="warp the second date onto the grid of the first (gdalwarp -te ... -tr ...)",
            )


def _in_metres(reference: GeoReference, offset: NDArray[np.float64]) -> str:
    distance = reference.ground_sampling_distance
    if distance is None:
        return ""
    return f" ({np.linalg.norm(offset * distance, axis=1).max():.6g} m)"


def _short(crs: str) -> str:
    return crs if len(crs) <= 40 else crs[:37] + "..."


@dataclass(frozen=True)
class SceneList:
    """The scenes of one run.

    Attributes:
        scenes: File(s) of each scene.
        names: Name of each scene, all different.
    """

    scenes: tuple[tuple[Path, ...], ...]
    names: tuple[str, ...] = field(default=())

    @classmethod
    def find(cls, inputs: Sequence[SceneInput], images_per_scene: int) -> SceneList:
        """List the scenes of some inputs, see :func:`list_scenes`; scenes with equal stems get longer names.

        Args:
            inputs: Files, folders, patterns or lists.
            images_per_scene: How many images make one scene.

        Raises:
            DataError: As :func:`list_scenes`.
        """
        scenes = tuple(list_scenes(inputs, images_per_scene))
        return cls(scenes, tuple(_unique_names(scenes)))


def list_scenes(inputs: Sequence[SceneInput], images_per_scene: int) -> list[tuple[Path, ...]]:
    """Group input files into scenes.

    Args:
        inputs: Files, folders whose images are taken in name order, patterns (``*.tif``), lists (a ``.txt``
            file with one path a line, or one pair), or addresses (``https://``, ``s3://``, ``/vsi...``) that
            GDAL opens. For two images per scene: pairs of files, or two folders whose images pair by name.
        images_per_scene: How many images make one scene.

    Raises:
        DataError: An input does not exist, holds no image, or the images do not pair up.
    """
    paths: list[Path] = []
    for entry in inputs:
        paths += _expand(entry)
    if images_per_scene == 1:
        return [(file,) for path in paths for file in _images_in(path)]
    if len(paths) == images_per_scene and all(path.is_dir() for path in paths):
        return _pair_folders(paths)
    if len(paths) % images_per_scene or any(path.is_dir() for path in paths):
        raise DataError(
            f"this model needs {images_per_scene} images per scene, got {len(paths)} inputs",
            fix="give pairs (BEFORE.png AFTER.png ...) or two folders whose images have equal names",
        )
    return [tuple(paths[i : i + images_per_scene]) for i in range(0, len(paths), images_per_scene)]


def _expand(entry: SceneInput) -> list[Path]:
    """Turn one input into files and folders that exist."""
    text = str(entry)
    if _REMOTE.match(text):
        return [_remote_file(text)]
    path = Path(text)
    if path.suffix.lower() == ".txt" and path.is_file():
        words = [word for line in path.read_text(encoding="utf-8").splitlines() for word in _words(line)]
        if not words:
            raise DataError("the list names no image", where=path, fix="write one path a line")
        return [
            found for word in words for found in _expand(word if _REMOTE.match(word) else path.parent / word)
        ]
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 (also absolute patterns)
        if not found:
            raise DataError("no file has a name like this", where=text)
        return [Path(name) for name in found]
    raise DataError("the input does not exist", where=path)


def _words(line: str) -> list[str]:
    """Split a line of a list: one path, or several between tabs or commas."""
    line = line.split("#", 1)[0] if line.lstrip().startswith("#") else line
    return [word.strip() for word in re.split(r"[\t,]", line) if word.strip()]


_ADDRESSES: dict[Path, tuple[str, str]] = {}  # VRT -> its address, and a digest of its content


def scene_identity(path: Path) -> tuple[str | int, ...]:
    """Return what tells whether a file of a scene is the same one as in an earlier call.

    Of an address that is the address, with a digest of the raster's header and of some of its pixels.

    Args:
        path: As :func:`list_scenes` returns it.

    Raises:
        OSError: There is no such file.
    """
    return _ADDRESSES.get(path) or file_identity(path)


def _remote_file(address: str) -> Path:
    """Return a small VRT of an address which GDAL opens."""
    import atexit
    import shutil
    import tempfile

    try:
        import rasterio
        from rasterio.shutil import copy
    except ImportError as error:
        raise DataError(
            "addresses are read through GDAL, and rasterio is not installed",
            where=address,
            fix="pip install 'rsfoundation[geo]'",
        ) from error
    folder = Path(tempfile.mkdtemp(prefix="rsf-remote-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    target = folder / f"{Path(address).stem}.vrt"
    try:
        with rasterio.open(address) as raster:
            copy(raster, target, driver="VRT")
            digest = hashlib.sha256(target.read_bytes())
            for column, row in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0)):
                left, top = int(column * (raster.width - 1)), int(row * (raster.height - 1))
                digest.update(raster.read(window=((top, top + 1), (left, left + 1))).tobytes())
    except rasterio.errors.RasterioError as error:
        raise DataError(
            f"the raster cannot be opened: {error}", where=address, fix=f"try it alone: gdalinfo {address}"
        ) from error
    os.utime(target, (0, 0))  # files of results carry the time of their scene: the same one in every call
    _ADDRESSES[target] = (address, digest.hexdigest())
    return target


def _images_in(path: Path) -> list[Path]:
    if not path.is_dir():
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


def _unique_names(scenes: Sequence[tuple[Path, ...]]) -> list[str]:
    """Name scenes by their stems; those that share one also by folder, then by suffix, then by number."""
    ways = (
        lambda path: path.stem,
        lambda path: f"{path.absolute().parent.name}_{path.stem}",
        lambda path: f"{path.absolute().parent.name}_{path.stem}_{path.suffix[1:]}",
    )
    names = [""] * len(scenes)
    open_ = list(range(len(scenes)))
    for way in ways:
        proposed = {index: way(scenes[index][0]) for index in open_}
        counts = Counter(proposed.values())
        for index in open_:
            if counts[proposed[index]] == 1 and proposed[index] not in names:
                names[index] = proposed[index]
        open_ = [index for index in open_ if not names[index]]
    for index in open_:
        names[index] = f"{scenes[index][0].stem}_{index + 1}"
    return names
