"""Cloud-optimised GeoTIFFs, put together from compressed tiles with little disk space and less memory.

GDAL's own COG driver needs the whole raster as a file first and writes it once more. Here the tiles of a
map exist already, deflated (:class:`rsfoundation.io.tile_rows.TileRows`): overviews are computed from them in
one pass, then the file is filled from its end while the tiles that are in it are deleted. The tags that
carry the georeference, colours and names come from GDAL itself, through rasterio.

Layout: header, all image directories (full size first), tiles of the smallest overview first, those of the
full size last, which is what the COG validators of GDAL and rio-cogeo ask for.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.files import replacing
from rsfoundation.io.georeference import GeoReference
from rsfoundation.io.tile_rows import TILE, TileRows, compress_tiles

Resampling = Literal["mode", "nearest", "average"]
_BIG = 4_000_000_000  # bytes from which offsets need 64 bits
_DEFLATE = 8
_KINDS = {"u": 1, "i": 2, "f": 3}  # TIFF's SampleFormat
_GEO_TAGS = (320, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)


@dataclass(frozen=True)
class CogOptions:
    """What a COG says besides its pixels.

    Attributes:
        georeference: Where it is.
        resampling: How overviews are made: ``mode`` or ``nearest`` for classes, ``average`` for amounts.
        nodata: Value of pixels without a result.
        palette: RGB colour of value 0, 1, ... (one band of 8 bits only).
        band_names: Description of each band.
        tags: Further metadata, such as class names.
        scale: Factor that turns stored values into real ones.
    """

    georeference: GeoReference
    resampling: Resampling = "mode"
    nodata: int | None = None
    palette: tuple[tuple[int, int, int], ...] = ()
    band_names: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    scale: float | None = None


def write_cog(rows: TileRows, target: Path, options: CogOptions) -> None:
    """Make a COG of finished tile rows, which are deleted on the way; a killed call can be made again.

    The most disk space in use is the final size and once more that of the overviews. The file appears at
    ``target`` whole or not at all.

    Args:
        rows: All tile rows of the map.
        target: The file, on the file system of ``rows.folder``.
        options: Georeference, colours, resampling.
    """
    plan_file = rows.folder / f"{rows.name}_layout.json"
    if not plan_file.is_file():
        plan = _build_overviews(rows, options)
        with replacing(plan_file) as temporary:
            temporary.write_text(json.dumps(plan))
    plan = json.loads(plan_file.read_text())
    part = rows.folder / f"{rows.name}.tif.part"
    _fill(rows, part, plan, options)
    part.replace(target)
    plan_file.unlink()


def reduce_by_two(values: NDArray, resampling: Resampling, nodata: int | None) -> NDArray:
    """Halve rows and columns; odd edges are repeated.

    Args:
        values: ``(h, w)`` or ``(h, w, bands)``.
        resampling: ``mode``: the most frequent of four, the first one of equals; ``nearest``: the first;
            ``average``: the mean of those that are not ``nodata``.
        nodata: Value that an average leaves out.
    """
    pad = [(0, values.shape[0] % 2), (0, values.shape[1] % 2), *[(0, 0)] * (values.ndim - 2)]
    even = np.pad(values, pad, mode="edge") if any(after for _, after in pad) else values
    a, b, c, d = even[::2, ::2], even[::2, 1::2], even[1::2, ::2], even[1::2, 1::2]
    if resampling == "nearest":
        return np.ascontiguousarray(a)
    if resampling == "mode":
        alone = (a != b) & (a != c) & (a != d)  # `a` occurs once: any pair among the others beats it
        later = np.where((b == c) | (b == d), b, np.where(c == d, c, a))
        return np.where(alone, later, a)
    stack = np.stack([a, b, c, d]).astype(np.float64)
    counted = np.ones(stack.shape, dtype=bool) if nodata is None else stack != nodata
    number = counted.sum(axis=0)
    mean = (stack * counted).sum(axis=0) / np.maximum(number, 1)
    mean = np.rint(mean) if values.dtype.kind != "f" else mean
    return np.where(number > 0, mean, 0 if nodata is None else nodata).astype(values.dtype)


class _Level:
    """One overview: takes rows of its own resolution, writes its tiles, hands half of them to the next."""

    def __init__(self, spool: Path, options: CogOptions, rows: TileRows, below: _Level | None) -> None:
        self.spool, self.options, self.below = spool, options, below
        self.dtype, self.workers = rows.dtype, rows.workers
        self.sizes: list[int] = []
        self._held: list[NDArray] = []
        self._handle: BinaryIO = spool.open("wb")

    def push(self, rows: NDArray) -> None:
        """Take rows; a full row of tiles is written at once."""
        self._held.append(rows)
        while sum(len(part) for part in self._held) >= TILE:
            everything = np.concatenate(self._held)
            self._write(everything[:TILE])
            self._held = [everything[TILE:]]

    def close(self) -> None:
        """Write what is left."""
        rest = np.concatenate(self._held) if self._held else None
        if rest is not None and len(rest):
            self._write(rest)
        self._handle.close()
        if self.below is not None:
            self.below.close()

    def _write(self, rows: NDArray) -> None:
        blobs = compress_tiles(rows, self.dtype, self.workers)
        self.sizes += [len(blob) for blob in blobs]
        self._handle.writelines(blobs)
        if self.below is not None:
            self.below.push(reduce_by_two(rows, self.options.resampling, self.options.nodata))


def overview_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width of each overview, largest first, down to the first that fits one tile.

    Args:
        height: Of the full raster.
        width: Of the full raster.
    """
    sizes = []
    while max(height, width) > TILE:
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


def _build_overviews(rows: TileRows, options: CogOptions) -> dict[str, Any]:
    """Write the tiles of all overviews to one spool each; return the sizes of all tiles."""
    shapes = overview_sizes(rows.height, rows.width)
    levels: list[_Level] = []
    for index in reversed(range(len(shapes))):
        levels.insert(0, _Level(_spool(rows, index), options, rows, levels[0] if levels else None))
    if levels:
        with ThreadPoolExecutor(1) as ahead:
            waiting = ahead.submit(rows.read, 0)
            for index in range(rows.count):
                full = waiting.result()
                if index + 1 < rows.count:
                    waiting = ahead.submit(rows.read, index + 1)
                levels[0].push(reduce_by_two(full, options.resampling, options.nodata))
        levels[0].close()
    return {
        "shapes": [(rows.height, rows.width), *shapes],
        "sizes": [[size for index in range(rows.count) for size in rows.sizes(index)]]
        + [level.sizes for level in levels],
    }


def _spool(rows: TileRows, index: int) -> Path:
    return rows.folder / f"{rows.name}_overview_{index}.spool"


def _fill(rows: TileRows, part: Path, plan: dict[str, Any], options: CogOptions) -> None:
    """Write header and overviews, then the full size from its end; what is in the file is deleted."""
    head, starts = _header(rows, plan, options)
    part.touch()
    with part.open("r+b") as handle:
        handle.write(head)
        for level in reversed(range(1, len(plan["sizes"]))):
            spool = _spool(rows, level - 1)
            if spool.is_file():
                handle.seek(starts[level])
                with spool.open("rb") as source:
                    while block := source.read(1 << 24):
                        handle.write(block)
                handle.flush()
                spool.unlink()
        across = -(-rows.width // TILE)
        offsets = np.concatenate([[0], np.cumsum(plan["sizes"][0])]) + starts[0]
        for index in reversed(range(rows.count)):
            if rows.is_done(index):
                handle.seek(int(offsets[index * across]))
                handle.write(rows.payload(index))
                handle.flush()
                rows.file(index).unlink()
        os.fsync(handle.fileno())


def _header(rows: TileRows, plan: dict[str, Any], options: CogOptions) -> tuple[bytes, list[int]]:
    """Return everything before the first tile, and where the tiles of each level start."""
    sizes: list[list[int]] = plan["sizes"]
    total = sum(map(sum, sizes))
    big = total + 64 * sum(map(len, sizes)) > _BIG
    geo = _gdal_tags(rows, options)
    lengths = [len(_directory(rows, shape, tiles, [0] * len(tiles), geo, level, big, 0, 0))
               for level, (shape, tiles) in enumerate(zip(plan["shapes"], sizes, strict=True))]  # fmt: skip
    first = 16 if big else 8
    places = [first + sum(lengths[:level]) for level in range(len(lengths))]
    place = first + sum(lengths)
    starts = [0] * len(sizes)
    for level in reversed(range(len(sizes))):
        starts[level] = place
        place += sum(sizes[level])
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    for level, (shape, tiles) in enumerate(zip(plan["shapes"], sizes, strict=True)):
        offsets = (np.concatenate([[0], np.cumsum(tiles)[:-1]]) + starts[level]).tolist()
        following = places[level + 1] if level + 1 < len(places) else 0
        head += _directory(rows, shape, tiles, offsets, geo, level, big, places[level], following)
    return head, starts


def _directory(
    rows: TileRows,
    shape: Sequence[int],
    sizes: list[int],
    offsets: list[int],
    geo: dict[int, tuple[int, int, bytes]],
    level: int,
    big: bool,
    place: int,
    following: int,
) -> bytes:
    """Return one image directory with the values that belong to it, to be written at ``place``."""
    kind = np.dtype(rows.dtype)
    whole = 16 if big else 4  # LONG8 or LONG
    palette = 320 in geo
    extra = rows.bands - 1
    entries: dict[int, tuple[int, int, bytes]] = {
        256: _numbers(4, [shape[1]]),
        257: _numbers(4, [shape[0]]),
        258: _numbers(3, [kind.itemsize * 8] * rows.bands),
        259: _numbers(3, [_DEFLATE]),
        262: _numbers(3, [3 if palette else 1]),
        277: _numbers(3, [rows.bands]),
        284: _numbers(3, [1]),
        322: _numbers(3, [TILE]),
        323: _numbers(3, [TILE]),
        324: _numbers(whole, offsets),
        325: _numbers(4, sizes),
        339: _numbers(3, [_KINDS[kind.kind]] * rows.bands),
    }
    if level:
        entries[254] = _numbers(4, [1])
    if extra:
        entries[338] = _numbers(3, [0] * extra)
    entries.update({tag: value for tag, value in geo.items() if not level or tag in (320, 42113)})
    slot, entry_size = (8, 20) if big else (4, 12)
    length = (8 if big else 2) + entry_size * len(entries) + slot
    body, values = b"", b""
    for tag in sorted(entries):
        type_, count, content = entries[tag]
        if len(content) <= slot:
            inline = content.ljust(slot, b"\0")
        else:
            inline = struct.pack("<Q" if big else "<I", place + length + len(values))
            values += content + b"\0" * (-len(content) % 8)
        body += struct.pack("<HHQ" if big else "<HHI", tag, type_, count) + inline
    head = struct.pack("<Q" if big else "<H", len(entries))
    return head + body + struct.pack("<Q" if big else "<I", following) + values


def _numbers(type_: int, values: Sequence[int]) -> tuple[int, int, bytes]:
    code = {3: "H", 4: "I", 16: "Q"}[type_]
    return type_, len(values), struct.pack(f"<{len(values)}{code}", *values)


def _gdal_tags(rows: TileRows, options: CogOptions) -> dict[int, tuple[int, int, bytes]]:
    """Let GDAL write a tiny file with the georeference, colours and names, and take its tags."""
    import rasterio
    from rasterio.io import MemoryFile

    reference = options.georeference
    profile: dict[str, Any] = dict(
        driver="GTiff", width=1, height=1, count=rows.bands, dtype=np.dtype(rows.dtype).name
    )
    if reference.crs is not None and reference.transform is not None:
        profile["crs"] = reference.crs
    if reference.transform is not None:
        profile["transform"] = rasterio.Affine(*reference.transform)
    if options.nodata is not None:
        profile["nodata"] = options.nodata
    if options.palette:
        profile["photometric"] = "palette"
    with MemoryFile() as memory:
        with memory.open(**profile) as made:
            if options.palette:
                made.write_colormap(
                    1, {index: (*colour, 255) for index, colour in enumerate(options.palette)}
                )
            if options.band_names:
                made.descriptions = options.band_names
            if options.scale is not None:
                made.scales = (options.scale,) * rows.bands
            if options.tags:
                made.update_tags(**dict(options.tags))
        return _read_tags(memory.read())


def _read_tags(content: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Return tag -> (type, count, value) of those tags of a small TIFF that do not describe its pixels."""
    widths = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8}
    (place,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, place)
    found = {}
    for index in range(count):
        at = place + 2 + 12 * index
        tag, type_, number = struct.unpack_from("<HHI", content, at)
        if tag in _GEO_TAGS:
            length = widths[type_] * number
            (offset,) = struct.unpack_from("<I", content, at + 8)
            start = at + 8 if length <= 4 else offset
            found[tag] = type_, number, content[start : start + length]
    return found
