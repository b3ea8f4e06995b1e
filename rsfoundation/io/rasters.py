"""Reading images, whole or by windows, as BGR ``uint8``."""

import os
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from rsfoundation.core.errors import DataError
from rsfoundation.io.images import decode_image

PADDING = (104, 116, 124)  # BGR; the value of DOTA's and mmrotate's tools
_TIFF = (".tif", ".tiff")
_ORIENTATION, _ON_ITS_SIDE = 0x0112, 5  # exif tag, and the least value that swaps width and height


class Pixels(Protocol):
    """An open image."""

    width: int
    height: int
    held: int  # bytes of memory that it holds while it is open

    def read(self, x: int, y: int, side: int) -> NDArray[np.uint8]:
        """Return the part of a square that lies in the image, BGR ``(h, w, 3)``; any thread may ask."""
        ...


def open_pixels(path: Path) -> Pixels:
    """Open an image: TIFF by windows where rasterio is installed (extra ``geo``), others decoded whole.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    if path.suffix.lower() in _TIFF and find_spec("rasterio") is not None:
        return _RasterWindows(path)
    return _Decoded(path)


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return a whole image, BGR ``(H, W, 3)``, by what :func:`open_pixels` opens it with.

    Raises:
        DataError: The file is missing or cannot be decoded.
    """
    pixels = open_pixels(path)
    return pixels.read(0, 0, max(pixels.width, pixels.height))


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels, from the head of the file where that tells.

    Raises:
        DataError: The file is missing or no image.
    """
    try:
        with Image.open(path) as opened:
            width, height = opened.size
            turned = opened.format == "JPEG" and opened.getexif().get(_ORIENTATION, 1) >= _ON_ITS_SIDE
            return (height, width) if turned else (width, height)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        pixels = open_pixels(path)
        return pixels.width, pixels.height


def read_window(pixels: Pixels, x: int, y: int, side: int) -> NDArray[np.uint8]:
    """Return a square window ``(side, side, 3)``; what lies beyond the image is padded."""
    part = pixels.read(x, y, side)
    if part.shape[:2] == (side, side):
        return part
    patch = np.empty((side, side, 3), dtype=np.uint8)
    patch[...] = PADDING
    patch[: part.shape[0], : part.shape[1]] = part
    return patch


class OpenImages:
    """Images kept open between windows, the latest used first, within a limit of memory.

    Every process has its own: nothing is kept across a fork, and pickling leaves an empty one.

    Args:
        megabytes: Decoded pixels kept; the image in use is kept whatever its size.
    """

    def __init__(self, megabytes: float) -> None:
        self.megabytes = megabytes
        self._kept: OrderedDict[str, Pixels] = OrderedDict()
        self._process = os.getpid()

    def __reduce__(self) -> tuple:
        return OpenImages, (self.megabytes,)

    def open(self, path: str) -> Pixels:
        """Return an open image, opening it if need be.

        Raises:
            DataError: The file is missing or cannot be decoded.
        """
        if self._process != os.getpid():
            self._kept, self._process = OrderedDict(), os.getpid()
        if path not in self._kept:
            self._kept[path] = open_pixels(Path(path))
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and sum(p.held for p in self._kept.values()) > self.megabytes * 2**20:
            self._kept.popitem(last=False)
        return self._kept[path]


class _Decoded:
    def __init__(self, path: Path) -> None:
        self._image = decode_image(path)
        self.height, self.width = self._image.shape[:2]
        self.held = self._image.nbytes

    def read(self, x: int, y: int, side: int) -> NDArray[np.uint8]:
        return self._image[y : y + side, x : x + side]


class _RasterWindows:
    """A raster of one or at least three bands (the first three are red, green, blue), 8 or 16 bit."""

    held = 0

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
                fix="convert the image",
            )
        self.width, self.height = int(self._raster.width), int(self._raster.height)
        self._bands = [1, 2, 3] if self._raster.count >= 3 else [1]
        self._path, self._lock = path, Lock()  # GDAL's handles serve one thread at a time

    def read(self, x: int, y: int, side: int) -> NDArray[np.uint8]:
        import rasterio

        window = rasterio.windows.Window(x, y, min(side, self.width - x), min(side, self.height - y))
        try:
            with self._lock:
                bands = self._raster.read(self._bands, window=window)
        except rasterio.errors.RasterioIOError as error:
            raise DataError(f"image cannot be decoded at {window}: {error}", where=self._path) from error
        if bands.dtype == np.uint16:
            bands = (bands >> 8).astype(np.uint8)  # as OpenCV does, to a grey level
        blue_green_red = bands[::-1] if len(self._bands) == 3 else [bands[0]] * 3
        return np.asarray(cv2.merge(list(blue_green_red)), dtype=np.uint8)
