"""Checks on a checkpoint's zip archive before torch maps it into memory."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from rsfoundation.errors import CheckpointError

# Bytes per element of the storages a pickle may name. torch compares them with the archive when it reads a
# file; when it maps one into memory it does not.
_ITEM_BYTES = {
    **dict.fromkeys(("UntypedStorage", "ByteStorage", "CharStorage", "BoolStorage"), 1),
    **dict.fromkeys(("QInt8Storage", "QUInt8Storage", "QUInt4x2Storage", "QUInt2x4Storage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


def is_archive(file: Path) -> bool:
    """Say whether the file starts as the zip archives of ``torch.save`` do."""
    with file.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def check_archive(file: Path) -> None:
    """Refuse an archive that is cut short, packed, lies about sizes or names places outside itself.

    Raises:
        CheckpointError: Naming the file, the fault and the cure.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = {record.filename: record.file_size for record in archive.infolist()}
            fault = _fault(archive.infolist(), file.stat().st_size) or _lie(archive, records)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read; it is cut short or no checkpoint ({error})",
            where=file,
            cure="fetch it again, or take the one before it from the run folder",
        ) from error
    if fault:
        raise CheckpointError(
            f"the checkpoint is not loaded: {fault}",
            where=file,
            cure="torch.save writes no such file: fetch it from its authors again, or do not use it",
        )


def _fault(records: list[zipfile.ZipInfo], file_bytes: int) -> str | None:
    names = [record.filename for record in records]
    if len(set(names)) != len(names):
        return "its archive holds two records of one name"
    for record in records:
        path = PurePosixPath(record.orig_filename)
        if path.is_absolute() or ".." in path.parts or "\\" in str(path) or "\0" in str(path):
            return f"its archive names a place outside itself ({record.orig_filename!r})"
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            return f"the record {record.filename!r} is packed"
    if sum(record.file_size for record in records) > file_bytes:
        return "its archive says that it holds more bytes than the file has"
    return None


def _lie(archive: zipfile.ZipFile, records: dict[str, int]) -> str | None:
    """Compare the sizes that the pickle gives for its tensors with those of the archive's records."""
    pickles = [name for name in records if PurePosixPath(name).name == "data.pkl"]
    if len(pickles) != 1:
        return "its archive holds no data.pkl: it is no checkpoint of torch.save"
    survey = _Survey(io.BytesIO(archive.read(pickles[0])))
    try:
        survey.load()
    except Exception as error:  # the bytes are a stranger's: any type may come
        return f"its pickle is broken ({error})"
    folder = PurePosixPath(pickles[0]).parent
    for key, size in survey.sizes.items():
        if records.get(str(folder / "data" / key)) != size:
            return f"tensor {key} is said to have {size} bytes, and has not"
    return None


class _Inert:
    """Stands for every class and function a pickle names; whatever is done to it does nothing."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __call__(self, *_args: Any, **_kwargs: Any) -> _Inert:
        return _Inert()

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None:
        """Drop the value."""

    extend = add = append


class _Survey(pickle.Unpickler):
    """Collects the sizes a pickle claims for its storages; every global it names is inert."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.sizes: dict[str, int] = {}

    def find_class(self, _module: str, name: str) -> Any:
        """Return a class of that name that does nothing."""
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> _Inert:
        """Note the key and the bytes of a storage."""
        _kind, storage, key, _place, count = pid
        size = count * _ITEM_BYTES.get(storage.__name__, 1)
        self.sizes[key] = max(size, self.sizes.get(key, 0))
        return _Inert()
