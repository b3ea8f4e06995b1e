"""TIFF through tifffile, by strips or tiles, for installations without rasterio."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io.georeference import Affine, GeoReference, pixel_size_in_metres
from rsfoundation.io.raster_formats import (
    INSTALL_RASTERIO,
    RasterFormat,
    Size,
    alpha_band,
    no_image,
    not_decoded,
    require_memory,
    resized,
    window_of,
    world_file,
)

_GDAL_METADATA, _GDAL_NODATA, _RPC = 42112, 42113, 50844  # tags
_MASK_PAGE = 4  # bit of NewSubfileType
_SEPARATE = 2  # planar configuration: one plane per band
_RGB, _PALETTE, _YCBCR = 2, 3, 6  # photometric interpretations
_BY_PILLOW = (tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.ZSTD)  # tifffile needs imagecodecs for them
_ALPHAS = (1, 2)  # extra samples: associated and unassociated alpha
# GeoTIFF keys' values, OGC 19-008r4
_PROJECTED, _GEOGRAPHIC, _USER_DEFINED, _PIXEL_IS_POINT = 1, 2, 32767, 2
_CODE_KEYS = {_PROJECTED: "ProjectedCSTypeGeoKey", _GEOGRAPHIC: "GeographicTypeGeoKey"}
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 12 / 39.37}  # metre, foot, US survey foot
_CHUNK = 16 * 2**20  # bytes that are decoded at once of a window that is read smaller


class TiffFormat(RasterFormat):
    """A TIFF; see :class:`~rsfoundation.io.raster_formats.RasterFormat`.

    LZW and ZSTD, which tifffile lacks, are decompressed by Pillow. Files that neither reads by windows (JPEG)
    are decoded whole by Pillow where they have colours of 8 bit.

    Args:
        path: The file.

    Raises:
        DataError: The file is no TIFF, or of a kind that only rasterio reads.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._decoded: NDArray[Any] | None = None
        self._compressions: dict[int, int] = {}  # of pages whose segments Pillow decompresses
        try:
            self._file = tifffile.TiffFile(path)
            self._page: Any = self._file.pages[0]
            self._describe(self._page)
        except DataError:
            raise
        except Exception as error:  # tifffile raises struct.error, KeyError and others for broken files
            raise no_image(path) from error
        try:
            self._read_page(self._page, (1,), Window(0, 0, 1, 1))
        except DataError as error:
            self._decoded, self.windowed = self._decode_by_pillow(error), False

    def _describe(self, page: Any) -> None:
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self.count = int(page.samplesperpixel)
        if page.dtype is None or not self.width or not self.height:
            raise DataError(
                f"pixels of {page.bitspersample} bit cannot be read", where=self._path, fix=INSTALL_RASTERIO
            )
        self.dtype = np.dtype(page.dtype).newbyteorder("=")
        colours = _colours(page)
        self.alpha = alpha_band(colours)
        described = _descriptions(page)
        self.band_names = tuple(described.get(index) or colour for index, colour in enumerate(colours))
        tag = page.tags.get(_GDAL_NODATA)
        if tag is not None:
            with suppress(ValueError):
                self.nodata = float(str(tag.value).strip("\0 "))
        if page.photometric == _PALETTE and page.colormap is not None:
            self.palette = tuple((int(r) >> 8, int(g) >> 8, int(b) >> 8) for r, g, b in page.colormap.T)

    def held_bytes(self) -> int:
        """See :class:`RasterFormat`."""
        return 0 if self._decoded is None else self._decoded.nbytes

    def read(self, bands: Sequence[int], window: Window, out_size: Size | None) -> NDArray[Any]:
        """See :class:`RasterFormat`."""
        if self._decoded is not None:
            return window_of(self._decoded, bands, window, out_size)
        if out_size is None:
            return self._read_page(self._page, bands, window)
        step = max(1, min(window.width // (2 * out_size[0]), window.height // (2 * out_size[1])))
        segment = self._page.tilelength if self._page.is_tiled else self._page.rowsperstrip
        rows = _CHUNK // (window.width * len(bands) * self.dtype.itemsize)
        rows = max(1, rows // segment) * segment  # no strip or tile is decoded twice
        parts = [
            self._read_page(self._page, bands, part)[-start % step :: step, ::step].copy()
            for start, part in _rows_of(window, rows)
        ]
        return resized(np.concatenate(parts), out_size)

    def read_mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See :class:`RasterFormat`: of a ``.msk`` file, or of a page of the file."""
        outside = self._path.with_name(f"{self._path.name}.msk")
        if outside.is_file():
            mask = TiffFormat(outside)
            found = mask.read((1,), window, None)
            mask.close()
            return found[..., 0] != 0
        pages: list[Any] = self._file.pages[1:]
        for page in pages:
            same = (page.imagewidth, page.imagelength) == (self.width, self.height)
            if page.subfiletype & _MASK_PAGE and same:
                return self._read_page(page, (1,), window)[..., 0] != 0
        return None

    def _read_page(self, page: Any, bands: Sequence[int], window: Window) -> NDArray[Any]:
        """Decode the strips or tiles that a window touches."""
        out = np.zeros((window.height, window.width, len(bands)), page.dtype)
        separate = page.planarconfig == _SEPARATE and page.samplesperpixel > 1
        planes = sorted({band - 1 for band in bands}) if separate else [0]
        chosen = [index for plane in planes for index in _segments(page, plane, window)]
        try:
            offsets, sizes = ([table[i] for i in chosen] for table in (page.dataoffsets, page.databytecounts))
            with self._lock:
                encoded = list(page.parent.filehandle.read_segments(offsets, sizes, chosen, sort=False))
            for data, index in encoded:
                pixels, (plane, _, top, left, _), (_, height, width, _) = self._decode(page, data, index)
                if pixels is None:
                    continue  # a segment that was never written: zeros
                y0, y1 = max(top, window.top), min(top + height, window.top + window.height)
                x0, x1 = max(left, window.left), min(left + width, window.left + window.width)
                part = pixels[0, y0 - top : y1 - top, x0 - left : x1 - left]
                target = out[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left]
                for position, band in enumerate(bands):
                    if not separate or band - 1 == plane:
                        target[..., position] = part[..., 0 if separate else band - 1]
        except Exception as error:  # whatever a broken segment makes zlib and others raise
            raise not_decoded(self._path, window, error) from error
        return out.astype(out.dtype.newbyteorder("="), copy=False)

    def _decode(self, page: Any, data: bytes | None, index: int) -> Any:
        """Call ``page.decode``, after Pillow for compressions that tifffile lacks."""
        if page.compression in _BY_PILLOW:
            self._compressions[page.index] = page.compression
            page.compression = tifffile.COMPRESSION.NONE  # predictor and byte order are left to undo
        if data is not None and page.index in self._compressions:
            data = _decompressed(page, index, data, self._compressions[page.index])
        return page.decode(data, index)

    def _decode_by_pillow(self, cause: DataError) -> NDArray[Any]:
        """Decode a file of JPEG and the like whole: grey or colour of 8 bit."""
        needed = self.width * self.height * self.count
        if self.count not in (1, 3) or self.dtype != np.uint8:
            raise DataError(
                f"TIFF of {self.count} bands of {self.dtype} that only rasterio reads: {cause.what}",
                where=self._path,
                fix=INSTALL_RASTERIO,
            ) from cause
        require_memory(self._path, (self.width, self.height), needed)
        try:
            with TiffImageFile(str(self._path)) as opened:
                mode = opened.mode
                pixels = np.atleast_3d(np.asarray(opened))
        except (OSError, ValueError, SyntaxError) as error:
            raise no_image(self._path) from error
        if mode not in ("L", "RGB") or pixels.shape != (self.height, self.width, self.count):
            raise no_image(self._path) from cause
        return pixels

    def georeference(self) -> GeoReference:
        """See :class:`RasterFormat`."""
        keys = self._page.geotiff_tags or {}
        transform = _transform_of(keys)
        if transform is None:
            return world_file(self._path)
        kind = int(keys.get("GTModelTypeGeoKey", 0))
        code = keys.get(_CODE_KEYS.get(kind, ""))
        crs = f"EPSG:{int(code)}" if code is not None and int(code) != _USER_DEFINED else None
        distance = pixel_size_in_metres(
            transform,
            (self.width, self.height),
            metres_per_unit=_METRES.get(keys.get("ProjLinearUnitsGeoKey", 0)),
            degrees=kind == _GEOGRAPHIC,
        )
        return GeoReference(crs, transform, distance, 0, _RPC in self._page.tags)

    def close(self) -> None:
        """See :class:`RasterFormat`."""
        self._file.close()
        self._decoded = None


def _rows_of(window: Window, rows: int) -> Iterator[tuple[int, Window]]:
    """Split a window at multiples of ``rows`` of the raster; yield each part with its start in the window."""
    for top in range(window.top // rows * rows, window.top + window.height, rows):
        first, last = max(top, window.top), min(top + rows, window.top + window.height)
        yield first - window.top, Window(window.left, first, window.width, last - first)


def _segments(page: Any, plane: int, window: Window) -> list[int]:
    """Return the indices of the strips or tiles of one plane that a window touches."""
    width = page.tilewidth if page.is_tiled else page.imagewidth
    height = page.tilelength if page.is_tiled else page.rowsperstrip
    across, down = -(-page.imagewidth // width), -(-page.imagelength // height)
    rows = range(window.top // height, (window.top + window.height - 1) // height + 1)
    columns = range(window.left // width, (window.left + window.width - 1) // width + 1)
    return [(plane * down + row) * across + column for row in rows for column in columns]


def _decompressed(page: Any, index: int, data: bytes, compression: int) -> bytes:
    """Decompress a strip or tile with Pillow: as a TIFF of grey bytes around it."""
    columns, rows = page.imagewidth, min(page.rowsperstrip, page.imagelength)
    if page.is_tiled:
        columns, rows = page.tilewidth, page.tilelength
    else:
        strips = -(-page.imagelength // page.rowsperstrip)
        rows = min(rows, page.imagelength - index % strips * page.rowsperstrip)
    samples = 1 if page.planarconfig == _SEPARATE else page.samplesperpixel
    width = -(-columns * samples * page.bitspersample // 8)
    at, data = 8, data + b"\0" * (len(data) % 2)
    tags = {
        256: width,
        257: rows,
        258: 8,
        259: compression,
        262: 1,
        273: at,
        277: 1,
        278: rows,
        279: len(data),
    }
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<4sI", b"II*\0", at + len(data))
    file = head + data + struct.pack("<H", len(tags)) + table + struct.pack("<I", 0)
    with TiffImageFile(io.BytesIO(file)) as opened:
        return np.asarray(opened).tobytes()


def _colours(page: Any) -> list[str]:
    """Return the colour interpretation of each band, empty where the tags name none."""
    extra = list(page.extrasamples)
    colours = {_RGB: ["red", "green", "blue"], _YCBCR: ["red", "green", "blue"], _PALETTE: [""]}.get(
        int(page.photometric), ["gray"]
    )
    count = int(page.samplesperpixel)
    colours = (colours + [""] * count)[: count - len(extra)]
    return (colours + ["alpha" if kind in _ALPHAS else "" for kind in extra] + [""] * count)[:count]


def _descriptions(page: Any) -> dict[int, str]:
    """Return the band names that GDAL wrote, by position."""
    tag = page.tags.get(_GDAL_METADATA)
    if tag is None:
        return {}
    with suppress(ElementTree.ParseError):
        items = ElementTree.fromstring(str(tag.value)).iter("Item")
        return {int(i.get("sample", 0)): i.text or "" for i in items if i.get("role") == "description"}
    return {}


def _transform_of(keys: dict[str, Any]) -> Affine | None:
    """Return the transform of pixel edges that GeoTIFF keys give."""
    matrix, scale, tie = (
        keys.get(key) for key in ("ModelTransformation", "ModelPixelScale", "ModelTiepoint")
    )
    if matrix is not None:
        (a, b, _, c), (d, e, _, f) = np.asarray(matrix, dtype=float).reshape(4, 4)[:2].tolist()
    elif scale is not None and tie is not None and len(tie) == 6:
        a, b, d, e = float(scale[0]), 0.0, 0.0, -float(scale[1])
        c, f = float(tie[3]) - a * float(tie[0]), float(tie[4]) - e * float(tie[1])
    else:
        return None
    if keys.get("GTRasterTypeGeoKey") == _PIXEL_IS_POINT:
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return a, b, c, d, e, f
