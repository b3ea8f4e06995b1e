"""Reading windows of an image that may be too large to want more than one of it in memory."""

from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.data.tiling import Tile
from rsfoundation.detection.loading import read_image
from rsfoundation.errors import DataError

_TIFF = (".tif", ".tiff")


class Pixels(Protocol):
    """An open image."""

    width: int
    height: int

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        """Return the part of a window that lies in the image, BGR ``(h, w, 3)``; any thread may ask."""
        ...


def open_pixels(path: Path) -> Pixels:
    """Open an image: TIFF by windows where rasterio is installed (extra ``geo``), others decoded whole.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    if path.suffix.lower() in _TIFF and find_spec("rasterio") is not None:
        return _RasterWindows(path)
    return _Decoded(path)


class _Decoded:
    def __init__(self, path: Path) -> None:
        self._image = read_image(path)
        self.height, self.width = self._image.shape[:2]

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        return self._image[tile.y : tile.y + tile.size, tile.x : tile.x + tile.size]


class _RasterWindows:
    """A raster of one or at least three bands (the first three are red, green, blue), 8 or 16 bit."""

    def __init__(self, path: Path) -> None:
        import rasterio

        try:
            self._raster: Any = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise DataError(f"image cannot be read: {error}", where=path) from error
        kind, meaning = self._raster.dtypes[0], self._raster.colorinterp[0].name
        if kind not in ("uint8", "uint16") or meaning == "palette":
            raise DataError(
                f"pixels are {kind}, meant as {meaning}; expected colours in 8 or 16 bit",
                where=path,
                cure="convert the image",
            )
        self.width, self.height = int(self._raster.width), int(self._raster.height)
        self._bands = [1, 2, 3] if self._raster.count >= 3 else [1]
        self._path, self._lock = path, Lock()  # GDAL's handles serve one thread at a time

    def read(self, tile: Tile) -> NDArray[np.uint8]:
        import rasterio

        size = min(tile.size, self.width - tile.x), min(tile.size, self.height - tile.y)
        window = rasterio.windows.Window(tile.x, tile.y, *size)
        try:
            with self._lock:
                bands = self._raster.read(self._bands, window=window)
        except rasterio.errors.RasterioIOError as error:
            raise DataError(f"image cannot be decoded at {window}: {error}", where=self._path) from error
        if bands.dtype == np.uint16:
            bands = (bands >> 8).astype(np.uint8)  # as OpenCV does, to a grey level
        blue_green_red = bands[::-1] if len(self._bands) == 3 else [bands[0]] * 3
        return np.asarray(cv2.merge(list(blue_green_red)), dtype=np.uint8)
