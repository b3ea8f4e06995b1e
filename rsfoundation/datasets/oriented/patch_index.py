"""The index of a folder of patches: all labels in one file, so that no label file is opened.

``index.npz`` is next to ``images/``. It holds the columns of an :class:`.AnnotationTable`, and size and
checksum of every label file it was made from: a folder that changed since is noticed. A *virtual* folder
has an index only: its patches are windows of the source images, read when they are needed.
"""

import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError
from rsfoundation.core.files import replacing
from rsfoundation.datasets.oriented.annotations import AnnotationTable

INDEX = "index.npz"
_FORMAT = 1
_FIX = "make it again with `rsf prepare`, or delete it: the label files are read then"


@dataclass(frozen=True)
class WatchedFiles:
    """Size and checksum of the files an index was made from.

    Attributes:
        paths: Relative to the folder of the index.
        sizes: In bytes.
        checksums: CRC-32; -1 where only the size is watched (images).
    """

    paths: tuple[str, ...]
    sizes: NDArray[np.int64]
    checksums: NDArray[np.int64]

    @classmethod
    def of(cls, folder: Path, labels: Sequence[Path], images: Sequence[Path] = ()) -> "WatchedFiles":
        """Take size and checksum of files.

        Args:
            folder: Of the index.
            labels: Label files.
            images: The images that a virtual folder reads.
        """
        contents = ((len(content), zlib.crc32(content)) for content in map(Path.read_bytes, labels))
        states = [*contents, *((path.stat().st_size, -1) for path in images)]
        sizes, checksums = np.array(states, dtype=np.int64).reshape(-1, 2).T
        return cls(tuple(_relative((*labels, *images), folder)), sizes, checksums)

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
        table: Images and objects.
        watched: The files it was made from.
    """

    table: AnnotationTable
    watched: WatchedFiles

    @property
    def virtual(self) -> bool:
        """Whether patches are windows of other images."""
        return bool(self.table.windows[:, 2].any())

    @property
    def labelled(self) -> bool:
        """Whether the folder has labels."""
        return bool(len(self.table)) and bool(self.table.label_files[0])


def write_index(folder: Path, index: PatchIndex) -> None:
    """Write ``index.npz``; equal content gives equal bytes.

    Args:
        folder: Where to write it; paths are stored relative to it.
        index: Its content.
    """
    table, watched = index.table, index.watched
    label_files = table.label_files.tolist() if index.labelled else []
    columns = {
        "format": np.array(_FORMAT),
        "names": _pack(table.names.tolist()),
        "images": _pack(_relative(table.paths.tolist(), folder)),
        "labels": _pack(_relative(label_files, folder)),
        "sizes": table.sizes.astype(np.int32),
        "windows": (table.windows if index.virtual else table.windows[:0]).astype(np.int32),
        "ends": table.ends,
        "quads": _hundredths(table.quads),
        "kinds": table.labels.astype(np.int32),
        "classes": _pack(table.class_names),
        "difficulties": table.difficulties,
        "lines": table.lines,
        "short_sides": table.short_sides,
        "crossed": table.crossed,
        "watched": _pack(watched.paths),
        "watched_sizes": watched.sizes,
        "checksums": watched.checksums,
    }
    with replacing(folder / INDEX) as temporary, zipfile.ZipFile(temporary, "w") as archive:
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
            return _from_columns(folder, dict(columns))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"the index cannot be read: {error}", where=path, fix=_FIX) from error


def changes_since(folder: Path, index: PatchIndex) -> list[str]:
    """Return the files that were changed, removed or added since an index was made.

    Args:
        folder: Of the index.
        index: As it was read.
    """
    changed = index.watched.changed(folder, (folder / INDEX).stat().st_mtime_ns)
    if not index.virtual:
        changed += _listing_changes(index.table.paths.tolist())
        changed += _listing_changes(index.table.label_files.tolist() if index.labelled else [])
    return changed


def _from_columns(folder: Path, columns: dict[str, NDArray]) -> PatchIndex:
    quads, windows = columns["quads"], columns["windows"].astype(np.int64)
    virtual = len(windows) > 0
    names, images, labels = (_unpack(columns[name]) for name in ("names", "images", "labels"))
    table = AnnotationTable(
        names=np.array(names, dtype=np.str_),
        paths=_placed(images, folder, virtual=virtual),
        label_files=_placed(labels, folder, virtual=virtual) if labels else np.full(len(names), ""),
        sizes=columns["sizes"].astype(np.int64),
        windows=windows if virtual else np.zeros((len(names), 3), dtype=np.int64),
        ends=columns["ends"],
        quads=quads / 100 if quads.dtype == np.int32 else quads,
        labels=columns["kinds"].astype(np.int64),
        class_names=_unpack(columns["classes"]),
        difficulties=columns["difficulties"],
        ignored=np.zeros(len(quads), dtype=np.int64),
        lines=columns["lines"],
        short_sides=columns["short_sides"],
        crossed=columns["crossed"],
    )
    watched = WatchedFiles(_unpack(columns["watched"]), columns["watched_sizes"], columns["checksums"])
    return PatchIndex(table, watched)


def _placed(paths: Sequence[str], folder: Path, *, virtual: bool) -> NDArray[np.str_]:
    """Return paths below a folder; sources of virtual patches are elsewhere, with '..' in their paths."""
    base = str(folder)
    full = {path: f"{base}/{path}" for path in dict.fromkeys(paths)}
    if virtual:
        full = {path: os.path.normpath(place) for path, place in full.items()}
    return np.array([full[path] for path in paths], dtype=np.str_)


def _relative(paths: Iterable[str | Path], folder: Path) -> list[str]:
    """Return paths from ``folder`` on, with ``..`` where they are elsewhere."""
    home = folder.resolve()
    parents: dict[str, str] = {}
    relative = []
    for path in map(str, paths):
        parent, name = os.path.split(path)
        if parent not in parents:
            parents[parent] = Path(os.path.relpath(Path(parent).resolve(), home)).as_posix()
        relative.append(f"{parents[parent]}/{name}")
    return relative


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


def _listing_changes(expected: Sequence[str]) -> list[str]:
    """Return the files of one folder that are new, or gone."""
    if not expected:
        return []
    folder = Path(expected[0]).parent
    found = {f"{folder}/{name}" for name in os.listdir(folder)} if folder.is_dir() else set()  # noqa: PTH208
    differing = sorted(found.symmetric_difference(expected))
    return [f"{folder.name}/{Path(path).name}" for path in differing]
