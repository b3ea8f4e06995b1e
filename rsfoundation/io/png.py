"""PNG files of one band, written row by row: a class map never has to be in memory."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.files import replacing

ROWS = 512  # rows of a map that are in memory at once


def row_blocks(labels: Any, rows: int = ROWS) -> Iterator[NDArray[np.uint8]]:
    """Yield a map from the top in blocks of rows.

    Args:
        labels: ``(H, W)``: an array, or an object with a ``shape`` whose row slices are arrays.
        rows: Rows of a block.
    """
    for top in range(0, labels.shape[0], rows):
        yield np.asarray(labels[top : top + rows])


def write_png(
    labels: Any,
    path: Path,
    palette: Sequence[tuple[int, int, int]] = (),
    table: NDArray[np.uint8] | None = None,
) -> None:
    """Write a PNG of 8 bits; the file appears whole or not at all.

    Args:
        labels: ``(H, W)`` uint8, as :func:`row_blocks` takes it.
        path: The file.
        palette: RGB colour of value 0, 1, ...; grey where there is none.
        table: ``(256,)``: what each value is replaced by.
    """
    height, width = labels.shape
    kind = 3 if palette else 0  # indexed, or grey
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(b"\x89PNG\r\n\x1a\n")
        handle.write(_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)))
        if palette:
            colours = bytes(channel for colour in palette[:256] for channel in colour)
            handle.write(_chunk(b"PLTE", colours.ljust(768, b"\0")))
        deflate = zlib.compressobj(6)
        for block in row_blocks(labels):
            values = block if table is None else table[block]
            lines = np.zeros(
                (len(values), width + 1), dtype=np.uint8
            )  # each line begins with its filter, none
            lines[:, 1:] = values
            _write_data(handle, deflate.compress(lines.data))
        _write_data(handle, deflate.flush())
        handle.write(_chunk(b"IEND", b""))


def _write_data(handle: Any, content: bytes) -> None:
    if content:
        handle.write(_chunk(b"IDAT", content))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
