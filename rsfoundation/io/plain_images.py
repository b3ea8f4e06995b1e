"""PNG, JPEG and other plain images, decoded whole through OpenCV or Pillow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.raster_formats import (
    RasterFormat,
    RasterioFormat,
    Size,
    no_image,
    rasterio_module,
    reordered,
    require_memory,
    window_of,
    world_file,
)

_NO_IMAGE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError)


class PlainImage(RasterFormat):
    """An image that OpenCV or Pillow decodes whole, at the first read, and keeps while it is open.

    Bands are red, green and blue (palettes are expanded), or grey; alpha comes last. A JPEG is turned by its
    exif orientation.

    Args:
        path: The file.

    Raises:
        DataError: The file is no such image.
    """

    windowed = False

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._pixels: NDArray[Any] | None = None
        try:
            with _open_header(path) as header:
                self._orientation = 1
                if isinstance(header, JpegImageFile):  # reading it from other formats may decode them
                    self._orientation = int(header.getexif().get(_ORIENTATION_TAG, 1))
                self.width, self.height = header.size
                self._alpha = header.mode in ("LA", "RGBA", "PA", "La", "RGBa")
                self._grey = header.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
                wide = header.mode.startswith("I") or (isinstance(header, PngImageFile) and _is_wide(header))
        except _NO_IMAGE as error:
            raise no_image(path) from error
        if self._orientation in _TURNED:
            self.width, self.height = self.height, self.width
        self.dtype = np.dtype(np.uint16 if wide else np.uint8)
        self.count = (1 if self._grey else 3) + self._alpha
        self.alpha = self.count if self._alpha else None
        self.band_names = (("gray",) if self._grey else ("red", "green", "blue")) + ("alpha",) * self._alpha

    def held_bytes(self) -> int:
        """See :class:`RasterFormat`; decoded or not yet."""
        return self.decoded_bytes

    @property
    def decoded_bytes(self) -> int:
        """Memory that the decoded image takes."""
        return self.width * self.height * self.count * self.dtype.itemsize

    def read(self, bands: Sequence[int], window: Window, out_size: Size | None) -> NDArray[Any]:
        """See :class:`RasterFormat`."""
        with self._lock:
            if self._pixels is None:
                self._pixels = self._decode()
        return window_of(self._pixels, bands, window, out_size)

    def _decode(self) -> NDArray[Any]:
        require_memory(self._path, (self.width, self.height), self.decoded_bytes)
        try:
            content = self._path.read_bytes()
        except OSError as error:
            raise no_image(self._path) from error
        pixels = self._by_opencv(content)
        if pixels is None:
            pixels = self._by_pillow()
        if pixels is None:
            raise no_image(self._path)
        pixels = _upright(pixels, self._orientation)
        if pixels.shape != (self.height, self.width, self.count) or pixels.dtype != self.dtype:
            raise DataError(
                f"the image decodes to {pixels.dtype} {pixels.shape}; its header says {self.dtype} "
                f"{(self.height, self.width, self.count)}",
                where=self._path,
                fix="convert the image to PNG or GeoTIFF",
            )
        return pixels

    def _by_opencv(self, content: bytes) -> NDArray[Any] | None:
        flags = cv2.IMREAD_ANYDEPTH if self._grey else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
        flags = cv2.IMREAD_UNCHANGED if self._alpha else flags | cv2.IMREAD_IGNORE_ORIENTATION
        image = None
        with suppress(cv2.error):  # nothing to decode, or more pixels than it takes
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if image is None:
            return None
        image = np.atleast_3d(image)
        if self._grey:
            return image[..., :: image.shape[2] - 1] if self._alpha else image[..., :1]
        return reordered(image, (2, 1, 0, 3) if self._alpha else (2, 1, 0))

    def _by_pillow(self) -> NDArray[Any] | None:
        try:
            with _open_header(self._path) as opened:
                if opened.mode not in ("L", "LA", "RGB", "RGBA") or self.dtype != np.uint8:
                    return None
                return np.atleast_3d(np.asarray(opened))
        except _NO_IMAGE:
            return None

    def georeference(self) -> GeoReference:
        """See :class:`RasterFormat`: GDAL's where rasterio is installed, else that of a world file."""
        rasterio = rasterio_module()
        if rasterio is not None:
            with suppress(DataError):
                return RasterioFormat(self._path, rasterio).georeference()
        return world_file(self._path)

    def close(self) -> None:
        """See :class:`RasterFormat`."""
        self._pixels = None


_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_HEADERS: dict[bytes, Callable[..., Any]] = {
    b"\x89PNG": PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}


def _open_header(path: Path) -> Any:
    """Open an image with Pillow; its limit of pixels does not hold for the three common formats."""
    with path.open("rb") as file:
        start = file.read(4)
    kind = next((made for magic, made in _HEADERS.items() if start.startswith(magic)), Image.open)
    return kind(path)


def _is_wide(header: PngImageFile) -> bool:
    """Return whether a PNG has 16 bits; Pillow's mode of colours does not show it."""
    return any(";16" in str(part[3]) for part in header.tile)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip an image ``(h, w, c)`` by exif's orientation, 1 to 8."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
