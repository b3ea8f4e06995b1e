"""Rows of compressed tiles on disk: the form in which a growing map is kept until it is complete.

Each file holds one row of tiles of a raster, deflated as a tiled TIFF stores them, so that a finished map is
put together without compressing anything again. A file appears whole or not at all: those that exist are
the record of what a killed run had finished.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rsfoundation.core.files import replacing
from rsfoundation.io.png import deflate_labels, inflate

TILE = 512
_LEVEL = 6  # of deflate, for several bands
_MAGIC = b"RSFTILES"


@dataclass
class TileRows:
    """A raster stored as rows of deflated tiles, each of 512 x 512 pixels with all bands together.

    Attributes:
        folder: Where the files are.
        height: Raster height in pixels.
        width: Raster width in pixels.
        bands: Number of bands.
        dtype: Of the values.
        workers: Threads that compress.
        name: First part of the file names.
    """

    folder: Path
    height: int
    width: int
    bands: int = 1
    dtype: DTypeLike = np.uint8
    workers: int = 2
    name: str = "map"
    _cached: tuple[int, NDArray] | None = field(default=None, init=False, repr=False)

    @property
    def count(self) -> int:
        """Number of tile rows."""
        return -(-self.height // TILE)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, as of an array."""
        return self.height, self.width

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def file(self, index: int) -> Path:
        """Return the file of one tile row."""
        return self.folder / f"{self.name}_{index:06d}.tiles"

    def is_done(self, index: int) -> bool:
        """Say whether a tile row is complete."""
        return self.file(index).is_file()

    def rows_of(self, index: int) -> tuple[int, int]:
        """Return the first scene row of a tile row, and the one after its last."""
        return index * TILE, min(self.height, (index + 1) * TILE)

    def write(self, index: int, rows: NDArray) -> None:
        """Compress and write one tile row.

        Args:
            index: Which.
            rows: ``(n, width)`` or ``(n, width, bands)``; the last tile row may have fewer than 512 rows.
        """
        blobs = compress_tiles(rows, self.dtype, self.workers)
        head = _MAGIC + struct.pack(f"<I{len(blobs)}I", len(blobs), *(len(blob) for blob in blobs))
        with replacing(self.file(index)) as temporary, temporary.open("wb") as handle:
            handle.write(head)
            for blob in blobs:
                handle.write(blob)
            handle.flush()
            os.fsync(handle.fileno())

    def sizes(self, index: int) -> list[int]:
        """Return the compressed size of each tile of a row in bytes."""
        with self.file(index).open("rb") as handle:
            return _read_head(handle.read(len(_MAGIC) + 4 + 4 * -(-self.width // TILE)))

    def payload(self, index: int) -> bytes:
        """Return the compressed tiles of a row, one after the other."""
        content = self.file(index).read_bytes()
        return content[len(_MAGIC) + 4 + 4 * len(_read_head(content)) :]

    def read(self, index: int) -> NDArray:
        """Decompress one tile row: ``(n, width)``, or ``(n, width, bands)`` where there are several."""
        if self._cached is not None and self._cached[0] == index:
            return self._cached[1]
        content = self.file(index).read_bytes()
        sizes = _read_head(content)
        top, bottom = self.rows_of(index)
        rows = np.empty((TILE, len(sizes) * TILE, self.bands), dtype=self.dtype)
        place = len(_MAGIC) + 4 + 4 * len(sizes)
        for column, size in enumerate(sizes):
            tile = np.frombuffer(inflate(content[place : place + size]), dtype=self.dtype)
            rows[:, column * TILE : (column + 1) * TILE] = tile.reshape(TILE, TILE, self.bands)
            place += size
        part = rows[: bottom - top, : self.width]
        self._cached = index, part[..., 0] if self.bands == 1 else part
        return self._cached[1]

    def __getitem__(self, rows: slice) -> NDArray:
        """Return the rows of a slice, decompressing only the tile rows that it touches."""
        first, last, _ = rows.indices(self.height)
        parts = []
        for index in range(first // TILE, -(-last // TILE)):
            top, _ = self.rows_of(index)
            parts.append(self.read(index)[max(0, first - top) : last - top])
        if not parts:
            return np.empty((0, self.width), dtype=self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def __iter__(self) -> Iterator[NDArray]:
        """Go through the tile rows from the top."""
        return (self.read(index) for index in range(self.count))


def compress_tiles(rows: NDArray, dtype: DTypeLike, workers: int) -> list[bytes]:
    """Cut rows into tiles of 512 x 512 pixels, padded with zeros, and deflate each.

    Args:
        rows: ``(n, width)`` or ``(n, width, bands)`` with at most 512 rows.
        dtype: What the values are stored as.
        workers: Threads.

    Returns:
        One zlib stream per tile, left to right.
    """
    rows = rows[..., None] if rows.ndim == 2 else rows
    columns = -(-rows.shape[1] // TILE)

    def one(column: int) -> bytes:
        part = rows[:, column * TILE : (column + 1) * TILE]
        if part.shape[:2] == (TILE, TILE):
            tile = np.ascontiguousarray(part, dtype=dtype)
        else:
            tile = np.zeros((TILE, TILE, rows.shape[2]), dtype=dtype)
            tile[: part.shape[0], : part.shape[1]] = part
        is_labels = tile.shape[2] == 1 and tile.dtype == np.uint8
        return deflate_labels(tile[..., 0]) if is_labels else zlib.compress(tile.data, _LEVEL)

    if workers <= 1 or columns == 1:
        return [one(column) for column in range(columns)]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(columns)))


def _read_head(content: bytes) -> list[int]:
    if content[: len(_MAGIC)] != _MAGIC:
        raise ValueError("the file holds no tiles")
    (count,) = struct.unpack_from("<I", content, len(_MAGIC))
    return list(struct.unpack_from(f"<{count}I", content, len(_MAGIC) + 4))
