"""Pixels of rasters and images by windows: the one way in for training, preparation and prediction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.core.task import Window
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.raster_formats import (
    Palette,
    PlainImage,
    RasterFormat,
    RasterioFormat,
    Size,
    rasterio_module,
)

DECODE_LIMIT = 256 * 2**20  # bytes of a plain image that is decoded whole; larger ones go through GDAL
_MASK_ROWS = 1024  # rows of a validity mask that are read at once where it is read smaller
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class RasterReader:
    """A raster or image file, read by windows in its own dtype.

    TIFF and every other raster is read through rasterio where it is installed (extra ``geo``), so that a
    window costs the memory of a window. Without rasterio TIFF is read through tifffile. PNG, JPEG and other
    plain images are decoded whole at the first read, up to ``decode_limit``.

    Any thread may read, several at a time. A reader pickles (the file is opened again) and may be used after
    a fork. Use it as a context manager, or call :meth:`close`.

    Args:
        path: The file.
        bands: Bands to read, in this order: numbers from 1, or names as :attr:`band_names` gives them;
            ``None`` reads all but an alpha band.
        decode_limit: Largest plain image, in bytes of decoded pixels, that is decoded whole where rasterio
            could read it by windows; ``None`` decodes every plain image whole, as is done with palettes and
            turned pictures.

    Raises:
        DataError: The file is missing or no raster, or has no such band.
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[int | str] | None = None,
        *,
        decode_limit: int | None = DECODE_LIMIT,
    ) -> None:
        self.path = Path(path)
        self._requested = None if bands is None else tuple(bands)
        self._decode_limit = decode_limit
        self._open()
        self.bands = self._numbers(self._requested)

    def _open(self) -> None:
        self._format = _open_format(self.path, self._decode_limit)
        self._process = os.getpid()
        self._georeference: GeoReference | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self._format.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self._format.height

    @property
    def count(self) -> int:
        """Number of bands in the file, an alpha band included."""
        return self._format.count

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels."""
        return self._format.dtype

    @property
    def band_names(self) -> tuple[str, ...]:
        """Name of every band of the file: its description, else its colour, else an empty text."""
        return self._format.band_names

    @property
    def nodata(self) -> float | None:
        """The value of missing pixels, where the file declares one."""
        return self._format.nodata

    @property
    def alpha_band(self) -> int | None:
        """The band that holds transparency."""
        return self._format.alpha

    @property
    def palette(self) -> Palette | None:
        """RGB colour of each index where the pixels are indices; plain images come with colours instead."""
        return self._format.palette

    @property
    def windowed(self) -> bool:
        """Whether a window is read without decoding the rest of the file."""
        return self._format.windowed

    @property
    def held(self) -> int:
        """Bytes of decoded pixels that the reader keeps between reads while it is open."""
        return self._format.held_bytes()

    @property
    def georeference(self) -> GeoReference:
        """CRS, transform, ground control points; see :class:`GeoReference`."""
        if self._georeference is None:
            self._georeference = self._opened().georeference()
        return self._georeference

    def read(
        self, window: Window | None = None, *, out_size: Size | None = None, shared: bool = False
    ) -> NDArray[Any]:
        """Read a window.

        Args:
            window: In pixels; ``None`` is the whole raster. Parts beyond the raster are left out.
            out_size: Width and height to resample to: averages where that is smaller, bilinear where larger.
            shared: The result may be a view of pixels that the reader keeps, and must not be written to.

        Returns:
            ``(H, W, C)`` in the dtype of the file, bands as chosen.

        Raises:
            DataError: The pixels are broken, or a plain image does not fit into memory.
            ValueError: No part of the window is in the raster.
        """
        pixels = self._opened().read(self.bands, self._inside(window), out_size)
        return pixels.copy() if self.held and pixels.base is not None and not shared else pixels

    def valid_mask(self, window: Window | None = None, out_size: Size | None = None) -> NDArray[np.bool_]:
        """Return which pixels of a window hold data.

        A pixel is missing where the file's own mask marks it, where every band read has the nodata value,
        where a band read is not a number, and where the alpha band is 0. An alpha band that is itself read
        as data masks nothing.

        Args:
            window: As for :meth:`read`.
            out_size: Width and height to resample to, by the nearest pixel.

        Returns:
            ``(H, W)``, true where there is data.

        Raises:
            DataError: As for :meth:`read`.
            ValueError: As for :meth:`read`.
        """
        inside = self._inside(window)
        if out_size is None:
            return self._valid(inside)
        rows, columns = (
            ((np.arange(new) + 0.5) * old / new).astype(int)
            for new, old in ((out_size[1], inside.height), (out_size[0], inside.width))
        )
        valid = np.empty((len(rows), len(columns)), dtype=np.bool_)
        for start in range(0, inside.height, _MASK_ROWS):  # never the mask of a whole raster at once
            part = replace(inside, top=inside.top + start, height=min(_MASK_ROWS, inside.height - start))
            first, last = np.searchsorted(rows, (start, start + part.height))
            if first < last:
                valid[first:last] = self._valid(part)[rows[first:last] - start][:, columns]
        return valid

    def _valid(self, window: Window) -> NDArray[np.bool_]:
        opened = self._opened()
        valid = np.ones((window.height, window.width), dtype=np.bool_)
        nodata, floating = opened.nodata, np.issubdtype(opened.dtype, np.floating)
        if nodata is not None or floating:
            pixels = opened.read(self.bands, window, None)
            if floating:
                valid &= ~np.isnan(pixels).any(axis=2)
            if nodata is not None and not np.isnan(nodata):
                valid &= (pixels != nodata).any(axis=2)
        if opened.alpha is not None and opened.alpha not in self.bands:
            valid &= opened.read((opened.alpha,), window, None)[..., 0] != 0
        own = opened.read_mask(window)
        return valid if own is None else valid & own

    def read_overview(self, max_side: int) -> NDArray[Any]:
        """Read the whole raster, no side longer than ``max_side`` pixels, from overviews where it has some.

        Returns:
            ``(H, W, C)`` in the dtype of the file.

        Raises:
            DataError: As for :meth:`read`.
        """
        scale = max_side / max(self.width, self.height)
        if scale >= 1:
            return self.read()
        size = (max(1, round(self.width * scale)), max(1, round(self.height * scale)))
        return self.read(out_size=size)

    def close(self) -> None:
        """Close the file. A later read opens it again."""
        if self._process == os.getpid():
            self._format.close()
        self._process = -1

    def __enter__(self) -> RasterReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple:
        return _reader, (self.path, self._requested, self._decode_limit)

    def _opened(self) -> RasterFormat:
        """Return the open file; a child process opens its own, for handles do not survive a fork."""
        if self._process != os.getpid():
            self._open()
        return self._format

    def _inside(self, window: Window | None) -> Window:
        if window is None:
            return Window(0, 0, self.width, self.height)
        left, top = max(window.left, 0), max(window.top, 0)
        right = min(window.left + window.width, self.width)
        bottom = min(window.top + window.height, self.height)
        if left >= right or top >= bottom:
            raise ValueError(f"{window} is outside of {self.path} ({self.width} x {self.height} pixels)")
        return Window(left, top, right - left, bottom - top)

    def _numbers(self, bands: Sequence[int | str] | None) -> tuple[int, ...]:
        """Return band numbers."""
        if bands is None:
            return tuple(n for n in range(1, self.count + 1) if n != self.alpha_band) or (1,)
        return tuple(self._number(band) for band in bands)

    def _number(self, band: int | str) -> int:
        names = [name.lower() for name in self.band_names]
        if isinstance(band, int) and 1 <= band <= self.count:
            return band
        if isinstance(band, str) and names.count(band.lower()) == 1:
            return names.index(band.lower()) + 1
        known = ", ".join(f"{n} {name!r}" if name else str(n) for n, name in enumerate(self.band_names, 1))
        hint = nearest(band, self.band_names) if isinstance(band, str) else ""
        raise DataError(
            f"the raster has no band {band!r}{f' ({hint})' if hint else ''}; its bands are {known}",
            where=self.path,
            fix="choose bands by number or name: bands=(3, 2, 1)",
        )


def image_size(path: str | Path) -> tuple[int, int]:
    """Return width and height in pixels, from the head of the file.

    Raises:
        DataError: The file is missing or no image.
    """
    with RasterReader(path) as reader:
        return reader.width, reader.height


def _reader(path: Path, bands: tuple[int | str, ...] | None, decode_limit: int | None) -> RasterReader:
    return RasterReader(path, bands, decode_limit=decode_limit)


def _open_format(path: Path, decode_limit: int | None) -> RasterFormat:
    """Choose the format of a file by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise DataError(f"the image cannot be read: {error.strerror}", where=path) from error
    rasterio = rasterio_module()
    if start in _TIFF:
        if rasterio is not None:
            return RasterioFormat(path, rasterio)
        from rsfoundation.io.tiff import TiffFormat

        return TiffFormat(path)
    try:
        plain = PlainImage(path)
    except DataError:
        if rasterio is None:
            raise
        return RasterioFormat(path, rasterio)
    large = decode_limit is not None and plain.decoded_bytes > decode_limit
    return RasterioFormat(path, rasterio) if rasterio is not None and large and plain.as_stored else plain
