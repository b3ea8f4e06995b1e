"""Maps of a teacher on disk: append-only shards with an index, checked on every read.

A cache is a folder with ``description.json`` (teacher, preprocessing, format), and for each writer
``<part>.jsonl``, a line per map, and ``<part>-NNNNN.bin`` with the maps. A map counts once its line is
complete: a killed writer loses the map it was writing, and the next one continues after the last line.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from rsfoundation.core.choices import FeatureFormat
from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.files import locked, write_json

FORMATS = get_args(FeatureFormat)
_DESCRIPTION = "description.json"
_SHARD_BYTES = 1 << 30
_FIX = "rsf prepare features with the same config and folder: it computes what is missing"


class _Entry(NamedTuple):
    shard: str
    offset: int
    length: int
    crc: int
    shape: tuple[int, ...]


def packed(maps: np.ndarray, form: str) -> bytes:
    """Return a map as bytes.

    Args:
        maps: ``(C, h, w)`` float32.
        form: ``int8`` with one scale per channel, ``fp16`` or ``fp32``.
    """
    if form != "int8":
        return maps.astype(np.float16 if form == "fp16" else np.float32).tobytes()
    scale = (np.abs(maps).max((1, 2)) / 127).astype(np.float32)
    steps = np.rint(maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.int8)
    return scale.tobytes() + steps.tobytes()


def unpacked(content: bytes, shape: tuple[int, ...], form: str) -> np.ndarray:
    """Return a map ``(C, h, w)`` float32 from the bytes of :func:`packed`.

    Args:
        content: The bytes.
        shape: Of the map.
        form: As for :func:`packed`.
    """
    if form != "int8":
        kind = np.float16 if form == "fp16" else np.float32
        return np.frombuffer(content, kind).reshape(shape).astype(np.float32)
    scale = np.frombuffer(content, np.float32, shape[0])
    steps = np.frombuffer(content, np.int8, offset=scale.nbytes).reshape(shape)
    return steps * scale[:, None, None]


def packed_bytes(shape: tuple[int, ...], form: str) -> int:
    """Return how many bytes a map needs.

    Args:
        shape: ``(C, h, w)``.
        form: As for :func:`packed`.
    """
    each = {"int8": 1, "fp16": 2, "fp32": 4}[form]
    return each * int(np.prod(shape)) + (4 * shape[0] if form == "int8" else 0)


class FeatureCache:
    """A finished or growing cache, opened for reading. Only index lines are kept in memory.

    Args:
        root: Its folder.

    Attributes:
        description: What it was made with.

    Raises:
        DataError: There is no cache.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.description: dict[str, Any] = json.loads((root / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"there is no feature cache: {error}",
                where=root,
                fix="rsf prepare features CONFIG -o FOLDER",
            ) from error
        self.entries: dict[str, _Entry] = {}
        # the newest last: it has the maps that replace damaged ones
        for file in sorted(root.glob("*.jsonl"), key=lambda one: one.stat().st_mtime_ns):
            self.entries.update(_lines(file))

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self.entries)

    def require(self, wanted: Mapping[str, Any]) -> None:
        """Check that the cache was made as a run needs it.

        Args:
            wanted: Some of the fields of the description.

        Raises:
            DataError: A field differs; it is named.
        """
        for name, value in wanted.items():
            if self.description.get(name) != value:
                raise DataError(
                    f"the feature cache was made with another {name}: {self.description.get(name)}, "
                    f"and this run has {value}",
                    where=self.root / _DESCRIPTION,
                    fix="make a cache for this config in another folder: rsf prepare features CONFIG -o NEW",
                )

    def read(self, key: str) -> np.ndarray:
        """Return a map ``(C, h, w)`` float32.

        Raises:
            DataError: There is none under this key, or its bytes are damaged.
        """
        entry = self.entries.get(key)
        if entry is None:
            raise DataError(
                f"the cache has no features of this image ({key}): it was added or changed since, or the "
                "pipeline gives another size, crop or flip",
                where=self.root,
                fix=f"{_FIX}; use a pipeline without random steps",
            )
        content = self._bytes(entry)
        if content is None:
            raise DataError(
                f"features of image {key} are damaged: the checksum of {entry.length} bytes at "
                f"{entry.offset} differs",
                where=self.root / entry.shard,
                fix=_FIX,
            )
        return unpacked(content, entry.shape, self.description["format"])

    def _bytes(self, entry: _Entry) -> bytes | None:
        try:
            with (self.root / entry.shard).open("rb") as file:
                file.seek(entry.offset)
                content = file.read(entry.length)
        except OSError:
            return None
        return content if zlib.crc32(content) == entry.crc else None

    def damaged(self) -> Iterator[str]:
        """Yield the keys of all maps whose bytes are damaged or missing."""
        for key, entry in self.entries.items():
            if self._bytes(entry) is None:
                yield key


def _lines(file: Path) -> Iterator[tuple[str, _Entry]]:
    """Yield the complete lines of an index; the last one may be cut by a crash."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            try:
                key, shard, offset, length, crc, shape = json.loads(line)
            except ValueError:  # the rest of a line that a killed writer began
                continue
            yield key, _Entry(shard, offset, length, crc, tuple(shape))


class FeatureWriter:
    """Appends maps to a cache; one writer per part.

    Args:
        root: Folder of the cache.
        description: What it is made with; an existing cache must agree.
        part: Name of this writer: several may fill one cache at once.

    Attributes:
        damaged: Maps that were damaged when it was opened.

    Raises:
        DataError: The folder has a cache of another teacher, preprocessing, format or data pipeline.
    """

    def __init__(self, root: Path, description: Mapping[str, Any], part: str = "part0") -> None:
        check_choice("format", description.get("format"), FORMATS, "feature cache")
        self.root, self.part = root, part
        with locked(root):
            if (root / _DESCRIPTION).exists():
                FeatureCache(root).require(description)
            else:
                write_json(root / _DESCRIPTION, description)
        self.cache = FeatureCache(root)
        self.form = str(description["format"])
        broken = list(self.cache.damaged())
        self.damaged = len(broken)
        for key in broken:
            del self.cache.entries[key]  # it is computed again; a later line replaces it
        self._index = root / f"{part}.jsonl"
        if self._index.exists() and not self._index.read_bytes().endswith(b"\n"):
            with self._index.open("ab") as file:
                file.write(b"\n")  # ends the line that a killed writer began

    def __contains__(self, key: str) -> bool:
        """Say whether the cache has a whole map of an image."""
        return key in self.cache.entries

    def add(self, maps: Mapping[str, np.ndarray]) -> None:
        """Append maps and wait until they are on the disk.

        Args:
            maps: Key -> ``(C, h, w)``.
        """
        shard = self._shard()
        lines = []
        with shard.open("ab") as file:
            for key, one in maps.items():
                content = packed(one.astype(np.float32), self.form)
                entry = _Entry(shard.name, file.tell(), len(content), zlib.crc32(content), one.shape)
                file.write(content)
                lines.append((key, entry))
            file.flush()
            os.fsync(file.fileno())
        with self._index.open("a", encoding="utf-8") as index:
            index.writelines(json.dumps([key, *entry]) + "\n" for key, entry in lines)
            index.flush()
            os.fsync(index.fileno())
        self.cache.entries.update(lines)

    def _shard(self) -> Path:
        existing = sorted(self.root.glob(f"{self.part}-*.bin"))
        if existing and existing[-1].stat().st_size < _SHARD_BYTES:
            return existing[-1]
        return self.root / f"{self.part}-{len(existing):05d}.bin"
