"""PNG files: class maps, written row by row so that they never have to be in memory; and pictures, fast."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing

_compress: Callable[..., bytes]
inflate: Callable[[bytes], bytes]
try:  # pictures: four times as fast as zlib, and as small; there are no wheels for rare processors
    from isal import isal_zlib

    _compress, inflate = isal_zlib.compress, isal_zlib.decompress
except ImportError:
    _compress, inflate = zlib.compress, zlib.decompress

ROWS = 512  # rows of a map that are in memory at once
_FAST_LEVEL = 1  # of both libraries
_LABEL_LEVEL = 6
_MANY_EDGES = 1 / 40  # share of pixels that differ from their left neighbour
_THREADS = 2
_COLOUR_TYPES = {1: 0, 3: 2}  # bands: grey, or RGB
_DEPTHS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}
_SUB = 1  # filter of a line: each pixel less its left neighbour


def row_blocks(labels: Any, rows: int = ROWS) -> Iterator[NDArray[np.uint8]]:
    """Yield a map from the top in blocks of rows.

    Args:
        labels: ``(H, W)``: an array, or an object with a ``shape`` whose row slices are arrays.
        rows: Rows of a block.
    """
    for top in range(0, labels.shape[0], rows):
        yield np.asarray(labels[top : top + rows])


def deflate_labels(values: NDArray[np.uint8], *, raw: bool = False) -> bytes:
    """Compress rows of a class map; the bytes depend on the rows alone.

    Where classes change often, deflate's search for repeats takes up to twenty times as long as that for
    runs of one value, and saves under a tenth; on calm maps it saves up to two thirds.

    Args:
        values: ``(H, W)``, contiguous.
        raw: Return a part of a stream without head and checksum, which others may follow.
    """
    edges = np.count_nonzero(values[:, 1:] != values[:, :-1])
    strategy = zlib.Z_RLE if edges > _MANY_EDGES * values.size else zlib.Z_DEFAULT_STRATEGY
    stream = zlib.compressobj(_LABEL_LEVEL, wbits=-15 if raw else 15, strategy=strategy)
    return stream.compress(values.data) + stream.flush(zlib.Z_FULL_FLUSH if raw else zlib.Z_FINISH)


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
        handle.write(_head(width, height, 8, kind))
        if palette:
            colours = bytes(channel for colour in palette[:256] for channel in colour)
            handle.write(_chunk(b"PLTE", colours.ljust(768, b"\0")))
        _write_rows(handle, (block if table is None else table[block] for block in row_blocks(labels)))
        handle.write(_chunk(b"IEND", b""))


def write_picture(pixels: NDArray[Any], path: Path) -> None:
    """Write a picture as PNG; the folder must exist.

    Args:
        pixels: ``(H, W, 1)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16.
        path: The file.

    Raises:
        DataError: The file cannot be written.
        ValueError: A PNG cannot hold such pixels.
    """
    if not holds(pixels):
        raise ValueError(f"a PNG cannot hold {pixels.shape[2]} bands of {pixels.dtype}")
    height, width, bands = pixels.shape
    step = bands * pixels.dtype.itemsize  # bytes of a pixel, most significant ones first
    rows = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).view(np.uint8)
    rows = rows.reshape(height, width * step)
    lines = np.empty((height, width * step + 1), dtype=np.uint8)
    lines[:, 0] = _SUB
    lines[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=lines[:, 1 + step :])
    content = _head(width, height, _DEPTHS[pixels.dtype], _COLOUR_TYPES[bands])
    content += _chunk(b"IDAT", _compress(lines.data, _FAST_LEVEL)) + _chunk(b"IEND", b"")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise DataError(
            f"cannot write the picture: {error.strerror}", where=path, fix="check free space and permissions"
        ) from error


def holds(pixels: NDArray[Any]) -> bool:
    """Return whether a PNG can hold pixels ``(H, W, C)``: 1 or 3 bands of 8 or 16 bit."""
    return pixels.shape[2] in _COLOUR_TYPES and pixels.dtype in _DEPTHS


def _head(width: int, height: int, depth: int, kind: int) -> bytes:
    size = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size)


def _write_rows(handle: Any, blocks: Iterator[NDArray[np.uint8]]) -> None:
    """Write the pixels as one stream of blocks of rows, which are compressed in threads."""
    checksum = 1
    waiting: deque[tuple[NDArray[np.uint8], Future[bytes]]] = deque()
    handle.write(_chunk(b"IDAT", zlib.compressobj(_LABEL_LEVEL).flush()[:2]))  # the head of a zlib stream
    with ThreadPoolExecutor(_THREADS) as pool:
        for block in chain(blocks, (None,)):
            if block is not None:
                lines = np.zeros((block.shape[0], block.shape[1] + 1), dtype=np.uint8)
                lines[:, 1:] = block  # each line begins with its filter, none
                waiting.append((lines, pool.submit(deflate_labels, lines, raw=True)))
            while waiting and (block is None or len(waiting) > _THREADS):
                done, content = waiting.popleft()
                checksum = zlib.adler32(done.data, checksum)
                handle.write(_chunk(b"IDAT", content.result()))
    end = zlib.compressobj(wbits=-15).flush()  # an empty last block
    handle.write(_chunk(b"IDAT", end + struct.pack(">I", checksum)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
