"""The interface of raster formats, the format of all rasters that GDAL opens, and that of plain images.

:class:`rsfoundation.io.rasters.RasterReader` chooses among :class:`RasterioFormat`,
:class:`~rsfoundation.io.tiff.TiffFormat` and :class:`PlainImage`.
"""

from __future__ import annotations

import os
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from types import ModuleType
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
from rsfoundation.io.georeference import Affine, GeoReference, pixel_size_in_metres

Size = tuple[int, int]  # width and height
Palette = tuple[tuple[int, int, int], ...]
INSTALL_RASTERIO = "install rasterio, which reads it by windows: pip install 'rsfoundation[geo]'"
COLOUR_NAMES = ("red", "green", "blue", "alpha", "nir", "gray")  # colours that name a band
_OPENCV_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32, np.float64)
_GDAL_CACHE_MB = "64"  # two rows of tiles of 20 000 pixels; GDAL takes 5 % of the memory, in every worker


class RasterFormat(ABC):
    """An open raster. Bands count from 1, as in GDAL; any thread may read.

    Attributes:
        width: In pixels.
        height: In pixels.
        count: Bands in the file, an alpha band included.
        dtype: Of the pixels, in native byte order.
        band_names: One per band: its description, else its colour, else an empty text.
        nodata: The value that marks missing pixels.
        alpha: The band that holds transparency.
        palette: RGB colour of each index, where the one band holds indices.
        windowed: Whether a window is read without decoding the rest of the file.
    """

    width: int
    height: int
    count: int
    dtype: np.dtype
    band_names: tuple[str, ...]
    nodata: float | None = None
    alpha: int | None = None
    palette: Palette | None = None
    windowed: bool = True

    @abstractmethod
    def read(self, bands: Sequence[int], window: Window, out_size: Size | None) -> NDArray[Any]:
        """Return bands of a window inside the raster, ``(h, w, len(bands))``; maybe a view of kept pixels.

        Args:
            bands: Numbers from 1.
            window: Inside the raster.
            out_size: Width and height to resample to.

        Raises:
            DataError: The pixels are broken.
        """

    def read_mask(self, window: Window) -> NDArray[np.bool_] | None:
        """Return the file's own mask of valid pixels ``(h, w)``; an alpha band is none. ``None`` without."""
        return None

    @abstractmethod
    def georeference(self) -> GeoReference:
        """Read the georeference."""

    def held_bytes(self) -> int:
        """Return the size of the decoded pixels that are kept while the file is open."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def rasterio_module() -> ModuleType | None:
    """Return rasterio, or ``None`` where it is not installed."""
    os.environ.setdefault("GDAL_CACHEMAX", _GDAL_CACHE_MB)
    try:
        import rasterio
    except ImportError:
        return None
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


class RasterioFormat(RasterFormat):
    """A raster that GDAL opens.

    Handles of GDAL serve one thread at a time: reads at the same time have one each.

    Args:
        path: The file.
        rasterio: The module.

    Raises:
        DataError: GDAL does not open the file, or it holds several rasters.
    """

    def __init__(self, path: Path, rasterio: ModuleType) -> None:
        self._path, self._rasterio = path, rasterio
        self._idle: list[Any] = []
        self._lock = Lock()
        with self._handle() as raster:
            if not raster.count:
                raise DataError(
                    f"the file holds {len(raster.subdatasets)} rasters and none of its own; expected one",
                    where=path,
                    fix="convert the one to use: gdal_translate SUBDATASET out.tif",
                )
            self._describe(raster)

    def _describe(self, raster: Any) -> None:
        self.width, self.height, self.count = int(raster.width), int(raster.height), int(raster.count)
        self.dtype = np.result_type(*(np.dtype(name) for name in raster.dtypes))
        colours = [colour.name for colour in raster.colorinterp]
        self.alpha = alpha_band(colours)
        self.band_names = tuple(
            description or (colour if colour in COLOUR_NAMES else "")
            for description, colour in zip(raster.descriptions, colours, strict=True)
        )
        self.nodata = next((value for value in raster.nodatavals if value is not None), None)
        white_is_zero = raster.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"  # GDAL adds a palette
        if colours[0] == "palette" and self.count == 1 and not white_is_zero:
            table = raster.colormap(1)
            self.palette = tuple(table.get(index, (0, 0, 0))[:3] for index in range(max(table) + 1))
        kinds, flags = self._rasterio.enums.MaskFlags, raster.mask_flag_enums[0]
        self._has_mask = kinds.per_dataset in flags and kinds.alpha not in flags

    def read(self, bands: Sequence[int], window: Window, out_size: Size | None) -> NDArray[Any]:
        """See :class:`RasterFormat`."""
        options: dict[str, Any] = {"indexes": list(bands)}
        if out_size is not None:
            smaller = out_size[0] < window.width or out_size[1] < window.height
            known = self._rasterio.enums.Resampling
            options["resampling"] = known.average if smaller else known.bilinear
            options["out_shape"] = (len(bands), out_size[1], out_size[0])
        found = self._read("read", window, options).astype(self.dtype, copy=False)
        return _interleaved(found)

    def read_mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See :class:`RasterFormat`."""
        return self._read("read_masks", window, {"indexes": 1}) > 0 if self._has_mask else None

    def _read(self, method: str, window: Window, options: dict[str, Any]) -> NDArray[Any]:
        part = self._rasterio.windows.Window(window.left, window.top, window.width, window.height)
        try:
            with self._handle() as raster:
                return getattr(raster, method)(window=part, **options)
        except self._rasterio.errors.RasterioError as error:
            raise not_decoded(self._path, window, error.__cause__ or error) from error

    @contextmanager
    def _handle(self) -> Iterator[Any]:
        """Lend a handle that no other thread uses."""
        with self._lock:
            handle = self._idle.pop() if self._idle else None
        if handle is None:
            try:
                handle = self._rasterio.open(self._path)
            except self._rasterio.errors.RasterioError as error:
                raise no_image(self._path) from error
        try:
            yield handle
        finally:
            with self._lock:
                self._idle.append(handle)

    def georeference(self) -> GeoReference:
        """See :class:`RasterFormat`."""
        with self._handle() as raster:
            return _georeference_of(raster)

    def close(self) -> None:
        """See :class:`RasterFormat`."""
        with self._lock:
            for handle in self._idle:
                handle.close()
            self._idle.clear()


def _georeference_of(raster: Any) -> GeoReference:
    """Return the georeference of an open rasterio data set."""
    points, points_crs = raster.gcps
    crs = raster.crs or points_crs
    a, b, c, d, e, f = tuple(raster.transform)[:6]
    transform: Affine | None = None if raster.transform.is_identity else (a, b, c, d, e, f)
    name, distance = None, None
    if crs:
        code = crs.to_epsg()
        name = f"EPSG:{code}" if code else crs.to_wkt()
    if crs and transform is not None:
        metres = crs.linear_units_factor[1] if crs.is_projected else None
        distance = pixel_size_in_metres(
            transform, (raster.width, raster.height), metres_per_unit=metres, degrees=crs.is_geographic
        )
    return GeoReference(name, transform, distance, len(points), raster.rpcs is not None)


def alpha_band(colours: Sequence[str]) -> int | None:
    """Return the band that holds transparency. One of the first three of four bands and more never does.

    Args:
        colours: Colour interpretation of each band, by the tags of the file.
    """
    marked = [band for band, colour in enumerate(colours, 1) if colour == "alpha"]
    return next((band for band in marked if band > 3 or band == len(colours)), None)


def world_file(path: Path) -> GeoReference:
    """Return the transform of the world file next to an image (``.pgw``, ``.pngw``, ``.wld``).

    A world file gives the centre of the first pixel, and names no CRS; without one there is no transform.
    """
    suffix = path.suffix
    short = f"{suffix[:2]}{suffix[-1]}w" if len(suffix) > 2 else f"{suffix}w"
    for file in (path.with_suffix(short), path.with_suffix(f"{suffix}w"), path.with_suffix(".wld")):
        with suppress(OSError, ValueError):
            a, d, b, e, x, y = (float(line) for line in file.read_text().split()[:6])
            return GeoReference(transform=(a, b, x - (a + b) / 2, d, e, y - (d + e) / 2))
    return GeoReference()


def window_of(
    pixels: NDArray[Any], bands: Sequence[int], window: Window, out_size: Size | None
) -> NDArray[Any]:
    """Return bands of a window of decoded pixels, a view of them where it can be one.

    Args:
        pixels: ``(height, width, count)``.
        bands: Numbers from 1.
        window: Inside the raster.
        out_size: Width and height to resample to.
    """
    rows = slice(window.top, window.top + window.height)
    part = pixels[rows, window.left : window.left + window.width]
    in_order = tuple(bands) == tuple(range(1, pixels.shape[2] + 1))
    chosen = part if in_order else reordered(part, [band - 1 for band in bands])
    return chosen if out_size is None else resized(chosen, out_size)


def reordered(pixels: NDArray[Any], order: Sequence[int]) -> NDArray[Any]:
    """Return channels in another order, as a copy. OpenCV copies them many times faster than numpy.

    Args:
        pixels: ``(h, w, c)``.
        order: Channels, from 0.
    """
    known = {(2, 1, 0): cv2.COLOR_RGB2BGR, (2, 1, 0, 3): cv2.COLOR_RGBA2BGRA}.get(tuple(order))
    if (
        known is not None
        and len(order) == pixels.shape[2]
        and pixels.dtype in (np.uint8, np.uint16, np.float32)
    ):
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), known))
    if list(order) == list(range(pixels.shape[2])):
        return pixels.copy()
    return _interleaved(np.stack([pixels[..., channel] for channel in order]))


def _interleaved(planes: NDArray[Any]) -> NDArray[Any]:
    """Turn ``(c, h, w)`` into ``(h, w, c)``."""
    if len(planes) == 1:
        return planes[0][..., None]
    if planes.dtype in _OPENCV_TYPES and len(planes) <= 512:  # OpenCV's most channels
        return np.asarray(cv2.merge(list(planes)))
    return np.ascontiguousarray(np.moveaxis(planes, 0, 2))


def resized(pixels: NDArray[Any], out_size: Size, nearest: bool = False) -> NDArray[Any]:
    """Resample ``(h, w, c)``: averages of areas where it gets smaller, bilinear where it gets larger.

    Args:
        pixels: Of any dtype.
        out_size: Width and height.
        nearest: Take the nearest pixel instead.
    """
    smaller = out_size[0] < pixels.shape[1] or out_size[1] < pixels.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    how = cv2.INTER_NEAREST if nearest else how
    exact = pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64)
    work = pixels if exact else pixels.astype(np.float64)
    planes = [cv2.resize(work[..., band], out_size, interpolation=how) for band in range(work.shape[2])]
    out = np.stack(planes, axis=-1)
    return out if exact else np.rint(out).astype(pixels.dtype)


def require_memory(path: Path, size: Size, needed: int) -> None:
    """Refuse to decode an image that does not fit into the memory that is free.

    Args:
        path: The image.
        size: Width and height in pixels.
        needed: Bytes of its decoded pixels.

    Raises:
        DataError: It does not fit.
    """
    free = _free_memory()
    if free is not None and 2 * needed > free:  # decoders hold the pixels twice for a moment
        raise DataError(
            f"the image is {size[0]} x {size[1]} pixels, {needed / 1e9:.1f} GB decoded, and "
            f"{free / 1e9:.1f} GB of memory are free",
            where=path,
            fix=f"{INSTALL_RASTERIO}; or convert it to a tiled TIFF or cut it into tiles",
        )


def _free_memory() -> int | None:
    """Return bytes of memory that this process can still take, as found in this half of a second."""
    return _free_memory_now(int(2 * time.monotonic()))


@lru_cache(maxsize=1)
def _free_memory_now(tick: int) -> int | None:
    """Ask the system, and the control group where there is one; many small images ask in turn."""
    limits = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        limits.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(limits, default=None)


def no_image(path: Path) -> DataError:
    """Describe a file that no decoder takes."""
    if not path.is_file():
        return DataError("the image cannot be read: there is no such file", where=path)
    return DataError(
        f"no readable image: it cannot be decoded ({path.stat().st_size} bytes)",
        where=path,
        fix="replace the file, or convert it to PNG or GeoTIFF",
    )


def not_decoded(path: Path, window: Window, cause: object) -> DataError:
    """Describe a window whose pixels are broken.

    Args:
        path: The image.
        window: The window.
        cause: The decoder's error.
    """
    return DataError(
        f"no readable image: {window} cannot be decoded ({path.stat().st_size} bytes): {cause}",
        where=path,
        fix="replace the file",
    )


_NO_IMAGE = (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError)


class PlainImage(RasterFormat):
    """An image that is decoded whole, at the first read, and kept while it is open.

    Bands are red, green and blue (palettes are expanded), or grey; alpha comes last. A JPEG is turned by its
    exif orientation. OpenCV decodes it, Pillow what OpenCV refuses; where rasterio is installed, GDAL decodes
    the usual PNG of 8 bit: its wheels inflate faster.

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
                self._indexed = header.mode in ("P", "PA")
                self._grey = header.mode in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
                wide = header.mode.startswith("I") or (isinstance(header, PngImageFile) and _is_wide(header))
                self._for_gdal = isinstance(header, PngImageFile) and _is_usual_png(header)
        except _NO_IMAGE as error:
            raise no_image(path) from error
        if self._orientation in _TURNED:
            self.width, self.height = self.height, self.width
        self.dtype = np.dtype(np.uint16 if wide else np.uint8)
        self.count = (1 if self._grey else 3) + self._alpha
        self.alpha = self.count if self._alpha else None
        self.band_names = (("gray",) if self._grey else ("red", "green", "blue")) + ("alpha",) * self._alpha

    @property
    def as_stored(self) -> bool:
        """Whether pixels are those of the file: neither turned nor a palette's colours."""
        return self._orientation == 1 and not self._indexed

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
        pixels = self._by_gdal() if self._for_gdal and _has_all_chunks(content) else None
        if pixels is None:
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

    def _by_gdal(self) -> NDArray[Any] | None:
        rasterio = rasterio_module()
        if rasterio is None:
            return None
        with (
            suppress(rasterio.errors.RasterioError),  # OpenCV tries as well
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),  # else each file's folder is listed
            rasterio.open(self._path, driver="PNG") as raster,
        ):
            pixels = np.empty((self.height, self.width, self.count), np.uint8)
            raster.read(out=pixels.transpose(2, 0, 1))  # GDAL decodes such an array in place
            return pixels
        return None

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
_PIXELS_FOR_GDAL = range(160**2, 2**25)  # opening takes longer below; above, a third copy takes memory
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
_PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADERS: dict[bytes, Callable[..., Any]] = {
    _PNG_START[:4]: PngImageFile,
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


def _is_usual_png(header: PngImageFile) -> bool:
    """Return whether GDAL decodes a PNG as OpenCV does, and faster: 8 bit, no palette."""
    plain = header.mode in ("L", "RGB", "RGBA") and all(part[3] == header.mode for part in header.tile)
    special = header.info.get("interlace") or "transparency" in header.info
    return plain and not special and header.width * header.height in _PIXELS_FOR_GDAL


def _has_all_chunks(content: bytes) -> bool:
    """Return whether the chunks of a PNG follow each other to its end: GDAL fills up cut files with zeros."""
    place = len(_PNG_START)
    while place + 8 <= len(content):
        if content[place + 4 : place + 8] == b"IEND":
            return True
        place += 12 + int.from_bytes(content[place : place + 4], "big")  # length, name and checksum
    return False


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip an image ``(h, w, c)`` by exif's orientation, 1 to 8."""
    if orientation in _TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
