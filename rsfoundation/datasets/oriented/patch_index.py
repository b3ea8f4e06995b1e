"""The index of a folder of patches: all labels in one file, so that no label file is opened.

``index.npz`` lies beside ``images/``. It holds columns (see :class:`.label_table.LabelTable`), and size
and checksum of every label file it was made from: a folder that changed since is noticed. A *virtual*
folder has an index only: its patches are windows of the source images, cut when they are loaded.
"""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.oriented.annotations import LabelTable

INDEX = "index.npz"
_FORMAT = 1
_FIX = "make it anew with `rsf prepare`, or delete it: the label files are read then"


@dataclass(frozen=True)
class Witnesses:
    """The files an index was made from, as they were then.

    Attributes:
        paths: Relative to the folder of the index.
        sizes: In bytes.
        checksums: CRC-32; -1 where only the size is watched (images).
    """

    paths: tuple[str, ...]
    sizes: NDArray[np.int64]
    checksums: NDArray[np.int64]

    @classmethod
    def of(cls, folder: Path, labels: Sequence[Path], images: Sequence[Path] = ()) -> "Witnesses":
        """Look at label files, and at the images a virtual folder reads."""
        contents = [path.read_bytes() for path in labels]
        return cls(
            tuple(relative(path, folder) for path in (*labels, *images)),
            np.array([*map(len, contents), *(path.stat().st_size for path in images)], dtype=np.int64),
            np.array([*map(zlib.crc32, contents), *(-1 for _ in images)], dtype=np.int64),
        )

    def changed(self, folder: Path, written: int) -> list[str]:
        """Return the files that are gone or have another content.

        Args:
            folder: Of the index.
            written: When the index was written (``st_mtime_ns``); files not touched since are not opened.
        """
        rows = zip(self.paths, self.sizes.tolist(), self.checksums.tolist(), strict=True)
        base = str(folder)
        return [path for path, size, checksum in rows if _differs(f"{base}/{path}", size, checksum, written)]


@dataclass(frozen=True)
class PatchIndex:
    """The patches of one folder, in name order.

    Attributes:
        names: Of the patches, without suffix.
        images: Image file of each, relative to the folder.
        labels: Label file of each, relative to the folder; empty where the folder has no labels.
        sizes: Width and height ``(N, 2)``.
        windows: ``x y side`` ``(N, 3)`` in the image file of a virtual patch; empty ``(0, 3)`` otherwise.
        table: The objects.
        witnesses: What it was made from.
    """

    names: tuple[str, ...]
    images: tuple[str, ...]
    labels: tuple[str, ...]
    sizes: NDArray[np.int32]
    windows: NDArray[np.int32]
    table: LabelTable
    witnesses: Witnesses

    @property
    def virtual(self) -> bool:
        """Whether patches are cut when they are loaded."""
        return len(self.windows) > 0


def write_index(folder: Path, index: PatchIndex) -> None:
    """Write ``index.npz``; equal content gives equal bytes."""
    table, witnesses = index.table, index.witnesses
    columns = {
        "format": np.array(_FORMAT),
        "names": _pack(index.names),
        "images": _pack(index.images),
        "labels": _pack(index.labels),
        "sizes": index.sizes,
        "windows": index.windows,
        "ends": table.ends,
        "quads": _hundredths(table.quads),
        "kinds": table.kinds,
        "classes": _pack(table.names),
        "difficulties": table.difficulties,
        "lines": table.lines,
        "short_sides": table.short_sides,
        "crossed": table.crossed,
        "watched": _pack(witnesses.paths),
        "watched_sizes": witnesses.sizes,
        "checksums": witnesses.checksums,
    }
    with zipfile.ZipFile(folder / INDEX, "w") as archive:
        for name, column in columns.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:  # a fixed date
                np.lib.format.write_array(file, column, allow_pickle=False)


def read_index(folder: Path) -> PatchIndex | None:
    """Read ``index.npz``; ``None`` when there is none.

    Raises:
        DataError: It cannot be read.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as columns:
            if int(columns["format"]) != _FORMAT:
                raise ValueError(f"format {int(columns['format'])}, expected {_FORMAT}")
            return _from_columns(dict(columns))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the index cannot be read: {error}", where=path, fix=_FIX) from error


def changes_since(folder: Path, index: PatchIndex) -> list[str]:
    """Return what differs from when the index was made: files changed, gone, or added."""
    written = (folder / INDEX).stat().st_mtime_ns
    changed = index.witnesses.changed(folder, written)
    if not index.virtual:
        changed += _listing_changes(folder, index.images)
        changed += _listing_changes(folder, index.labels)
    return changed


def relative(path: Path, folder: Path) -> str:
    """Return a path from ``folder`` on, with ``..`` where it lies elsewhere."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _from_columns(columns: dict[str, NDArray]) -> PatchIndex:
    quads = columns["quads"]
    table = LabelTable(
        ends=columns["ends"],
        quads=quads / 100 if quads.dtype == np.int32 else quads,
        kinds=columns["kinds"],
        names=_unpack(columns["classes"]),
        difficulties=columns["difficulties"],
        lines=columns["lines"],
        short_sides=columns["short_sides"],
        crossed=columns["crossed"],
    )
    watched = Witnesses(_unpack(columns["watched"]), columns["watched_sizes"], columns["checksums"])
    names, images, labels = (_unpack(columns[name]) for name in ("names", "images", "labels"))
    return PatchIndex(names, images, labels, columns["sizes"], columns["windows"], table, watched)


def _hundredths(quads: NDArray[np.float64]) -> NDArray:
    """Return corners as whole hundredths of a pixel, half as large, where that loses nothing."""
    scaled = np.rint(quads * 100)
    small = (np.abs(scaled) < 2**31).all()
    return scaled.astype(np.int32) if small and np.array_equal(scaled / 100, quads) else quads


def _pack(texts: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> tuple[str, ...]:
    text = packed.tobytes().decode()
    return tuple(text.split("\n")) if text else ()


def _differs(path: str, size: int, checksum: int, written: int) -> bool:
    try:
        state = os.stat(path)  # noqa: PTH116  (half the time of Path.stat, tens of thousands of times)
        if state.st_size != size:
            return True
        if checksum < 0 or state.st_ctime_ns < written:
            return False
        return zlib.crc32(Path(path).read_bytes()) != checksum
    except OSError:
        return True


def _listing_changes(folder: Path, expected: Sequence[str]) -> list[str]:
    """Return which files of one sub-folder are new, or gone."""
    if not expected:
        return []
    below = expected[0].partition("/")[0]
    found = {f"{below}/{name}" for name in os.listdir(folder / below)} if (folder / below).is_dir() else set()  # noqa: PTH208
    return sorted(found.symmetric_difference(expected))
