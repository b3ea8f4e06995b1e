"""Measures of one image file, taken while it is decoded once: bands, fingerprints, extent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.task import Window
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.rasters import RasterReader
from rsfoundation.ops.kernels.runtime import kernel

THUMBNAIL = 32  # side of the grey picture that images are compared by
ANCHORS = 64  # places of an image that are kept to find the same ground at another offset
_BLOCK = 64 * 2**20  # bytes of pixels that are decoded at once
_HASH = 16  # side of the difference hash, 256 bits


@dataclass(frozen=True)
class ImageMeasures:
    """What a check keeps of an image.

    Attributes:
        path: The file.
        width: In pixels.
        height: In pixels.
        dtype: Of the pixels.
        bands: Mean, standard deviation, least and largest value ``(C, 4)`` of each band.
        thumbnail: Grey, stretched to 0..255, ``(32, 32)`` uint8.
        contrast: Standard deviation of the thumbnail before it was stretched, as a share of 255.
        bits: Difference hash, ``(4,)`` uint64.
        anchors: Fingerprint ``(K,)`` uint64 of small squares that are chosen by their content alone.
        places: Column and row ``(K, 2)`` of each square.
        footprint: Corners ``(4, 2)`` on the ground, where the file has a georeference.
        crs: Of the footprint.
    """

    path: str
    width: int
    height: int
    dtype: str
    bands: NDArray[np.float64]
    thumbnail: NDArray[np.uint8]
    contrast: float
    bits: NDArray[np.uint64]
    anchors: NDArray[np.uint64]
    places: NDArray[np.int32]
    footprint: NDArray[np.float64] | None = None
    crs: str | None = None

    @property
    def constant_bands(self) -> list[int]:
        """Numbers (from 1) of the bands that have one value."""
        return (np.flatnonzero(self.bands[:, 2] == self.bands[:, 3]) + 1).tolist()


def measure_image(path: str | Path) -> tuple[ImageMeasures, NDArray[np.uint8]]:
    """Decode an image once, in blocks where it is large, and return its measures and a grey picture of it.

    Args:
        path: The file.

    Returns:
        The measures; and the grey image, whole ``(H, W)`` or, for large files, an overview, for comparisons
        of two dates.

    Raises:
        DataError: The file is missing or broken.
    """
    with RasterReader(path, decode_limit=None) as reader:
        size = reader.width * reader.height * len(reader.bands) * reader.dtype.itemsize
        if size <= 4 * _BLOCK or not reader.windowed:
            pixels = reader.read()
            bands, grey = _band_statistics(pixels, reader), _grey(pixels)
        else:
            bands, grey = _in_blocks(reader)
        anchors, places = (
            find_anchors(grey) if size <= 4 * _BLOCK else (np.zeros(0, np.uint64), np.zeros((0, 2), np.int32))
        )
        width, height, dtype, reference = reader.width, reader.height, reader.dtype, reader.georeference
    thumbnail, contrast = _thumbnail(grey)
    footprint = footprint_of(reference, width, height)
    measures = ImageMeasures(
        str(path), width, height, str(dtype), bands, thumbnail, contrast, _difference_hash(grey),
        anchors, places, footprint, reference.crs if footprint is not None else None,
    )  # fmt: skip
    return measures, grey


def _band_statistics(pixels: NDArray[Any], reader: RasterReader) -> NDArray[np.float64]:
    valid = None
    if reader.nodata is not None or np.issubdtype(pixels.dtype, np.floating):
        valid = reader.valid_mask()
        if valid.all():
            valid = None
    if pixels.dtype == np.uint8 and valid is None:
        counts = [
            cv2.calcHist([pixels], [band], None, [256], [0, 256]).reshape(-1)
            for band in range(pixels.shape[2])
        ]
        return np.array([_of_histogram(count) for count in counts])
    kept = pixels.reshape(-1, pixels.shape[2]) if valid is None else pixels[valid]
    if not len(kept):
        return np.zeros((pixels.shape[2], 4))
    return np.stack(
        [kept.mean(0, dtype=np.float64), kept.std(0, dtype=np.float64), kept.min(0), kept.max(0)], axis=1
    )


def _of_histogram(counts: NDArray[Any]) -> tuple[float, float, float, float]:
    values, weights = np.arange(len(counts)), counts.astype(np.float64)
    total = weights.sum()
    mean = float((values * weights).sum() / total)
    used = np.flatnonzero(counts)
    return (
        mean,
        float(np.sqrt((weights * (values - mean) ** 2).sum() / total)),
        float(used[0]),
        float(used[-1]),
    )


def blocks_of(reader: RasterReader) -> Iterator[Window]:
    """Yield the rows of a raster in windows of at most 64 MiB of pixels."""
    rows = max(1, _BLOCK // max(1, reader.width * len(reader.bands) * reader.dtype.itemsize))
    for top in range(0, reader.height, rows):
        yield Window(0, top, reader.width, min(rows, reader.height - top))


def _in_blocks(reader: RasterReader) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the statistics of a large raster from blocks of rows, and the grey picture of its overview."""
    count, total, square = 0, 0.0, 0.0
    low, high = np.full(len(reader.bands), np.inf), np.full(len(reader.bands), -np.inf)
    for window in blocks_of(reader):
        pixels = reader.read(window)
        kept = pixels[reader.valid_mask(window)]
        if len(kept):
            count += len(kept)
            total = total + kept.sum(0, dtype=np.float64)
            square = square + np.einsum("ij,ij->j", kept, kept, dtype=np.float64)
            low, high = np.minimum(low, kept.min(0)), np.maximum(high, kept.max(0))
    if not count:
        return np.zeros((len(reader.bands), 4)), _grey(reader.read_overview(1024))
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    return np.stack(
        [np.broadcast_to(mean, low.shape), np.broadcast_to(deviation, low.shape), low, high], axis=1
    ), _grey(reader.read_overview(1024))


def _grey(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return one 8-bit band: grey of colours; other dtypes are stretched to their values."""
    if pixels.dtype == np.uint8:
        if pixels.shape[2] == 3:
            return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        return np.ascontiguousarray(pixels[..., 0])
    band = np.nan_to_num(pixels[..., :3].astype(np.float32).mean(axis=2), posinf=0, neginf=0)
    low, high = float(band.min()), float(band.max())
    return np.clip((band - low) * (255 / max(high - low, 1e-9)), 0, 255).astype(np.uint8)


def _thumbnail(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    small = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = float(small.std()) / 255
    low, high = float(small.min()), float(small.max())
    return np.rint((small - low) * (255 / max(high - low, 1e-6))).astype(np.uint8), contrast


def _difference_hash(grey: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return 256 bits, each whether a cell of a 16 x 17 grid is darker than its right neighbour."""
    small = cv2.resize(grey, (_HASH + 1, _HASH), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, :-1] < small[:, 1:]).view(np.uint64)


def find_anchors(grey: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return fingerprints and places of squares of 8 x 8 pixels that content alone chooses.

    Two images that show the same pixels at different offsets choose the same squares, as long as the
    pixels are equal bit by bit.

    Args:
        grey: ``(H, W)`` uint8.
    """
    height, width = grey.shape
    if height < 16 or width < 16:
        return np.zeros(0, np.uint64), np.zeros((0, 2), np.int32)
    share = min(1.0, 8 * ANCHORS / (height * width))
    limit = np.uint64(int(share * (2**64 - 1)))
    room = 16 * ANCHORS
    prints, places = np.empty(room, np.uint64), np.empty((room, 2), np.int32)
    count = _collect(np.ascontiguousarray(grey), limit, prints, places)
    prints, places = prints[:count], places[:count]
    prints, first = np.unique(prints, return_index=True)  # sorted: the smallest ones are kept
    return prints[:ANCHORS].copy(), places[first][:ANCHORS].copy()


@kernel
def _collect(grey: Any, limit: Any, prints: Any, places: Any) -> int:
    height, width = grey.shape
    room, count = len(prints), 0
    for row in range(height - 7):
        packed = np.uint64(0)
        for column in range(width):
            packed = (packed << np.uint64(8)) | np.uint64(grey[row, column])
            if column < 7:
                continue
            mixed = packed * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
            mixed = mixed * np.uint64(0xBF58476D1CE4E5B9)
            if mixed > limit or count >= room:
                continue
            left, low, high = column - 7, 255, 0
            print_ = np.uint64(1469598103934665603)
            for y in range(row, row + 8):
                for x in range(left, left + 8):
                    value = grey[y, x]
                    low, high = min(low, value), max(high, value)
                    print_ = (print_ ^ np.uint64(value)) * np.uint64(1099511628211)
            if high - low < 12:  # flat squares are alike everywhere
                continue
            prints[count] = print_
            places[count, 0], places[count, 1] = left, row
            count += 1
    return count


def footprint_of(reference: GeoReference, width: int, height: int) -> NDArray[np.float64] | None:
    """Return the corners ``(4, 2)`` of an image on the ground; ``None`` without CRS or transform.

    Args:
        reference: Of the image.
        width: In pixels.
        height: In pixels.
    """
    if not reference.is_referenced:
        return None
    return reference.pixel_edges_to_crs([(0, 0), (width, 0), (width, height), (0, height)])


def same_pixels(one: str, other: str) -> bool:
    """Return whether two images have the same pixels.

    Args:
        one: A file.
        other: Another one.
    """
    try:
        with RasterReader(one) as first, RasterReader(other) as second:
            if (first.width, first.height, first.bands, first.dtype) != (
                second.width, second.height, second.bands, second.dtype,
            ):  # fmt: skip
                return False
            for window in blocks_of(first):
                if not np.array_equal(first.read(window), second.read(window)):
                    return False
    except DataError:
        return False
    return True
