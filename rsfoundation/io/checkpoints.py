"""The one place that reads checkpoints: weights and plain metadata, never code unless the user says so."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import pickle
import re
import shutil
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rsfoundation.core.errors import CheckpointError

_PLAIN_DTYPE = re.compile(r"[biufcSU?]\d*")
_STATISTICS = ("mean", "max", "min", "current")


def _named(item: Any, name: str) -> Any:
    """Let ``item`` answer for the global ``name``: torch finds it by module and qualified name."""
    item.__module__, _, item.__qualname__ = name.rpartition(".")
    item.__name__ = item.__qualname__
    return item


class _DType:
    """A number's or a string's type; types of objects, of fields and of raw memory are refused."""

    def __init__(self, spec: Any, _align: Any = False, _copy: Any = False) -> None:
        if not isinstance(spec, str) or not _PLAIN_DTYPE.fullmatch(spec):
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype({spec!r}) was not allowed")
        self.spec, self.order = spec, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, *fields = state[1:5]
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields):
            raise pickle.UnpicklingError("GLOBAL numpy.dtype with fields was not allowed")
        self.order = order

    def real(self) -> np.dtype[Any]:
        """Return numpy's own."""
        return np.dtype(self.spec).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """A numpy array of numbers or strings that takes its content only with a checked type."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DType) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("GLOBAL numpy.ndarray of objects was not allowed")
        super().__setstate__((1, shape, dtype.real(), fortran, data))

    def __reduce__(self) -> Any:
        """Be saved again as the plain array that it replaces."""
        return self.view(np.ndarray).__reduce__()


def _empty_array(kind: Any, shape: Any, _dtype: Any) -> _Array:
    if kind is not _Array or tuple(shape) != (0,):
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray._reconstruct with a size was not allowed")
    return np.empty(0).view(_Array)


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(data, bytes) or len(data) != dtype.real().itemsize:
        raise pickle.UnpicklingError("GLOBAL numpy.core.multiarray.scalar of an object was not allowed")
    return np.frombuffer(data, dtype.real())[0]


class _History(HistoryBuffer):
    """mmengine's log of one scalar: its two arrays and their length, and no statistics from outside."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        values, counts, longest = (state[key] for key in ("_log_history", "_count_history", "max_length"))
        if not (
            isinstance(values, np.ndarray) and isinstance(counts, np.ndarray) and isinstance(longest, int)
        ):
            raise pickle.UnpicklingError("GLOBAL mmengine HistoryBuffer of other than arrays was not allowed")
        self.__init__(values, counts, longest)  # type: ignore[misc]

    def __reduce__(self) -> Any:
        """Be saved and copied as the buffer that it replaces."""
        return HistoryBuffer, (*self.data, self.max_length)


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """Answer for ``_codecs.encode``, with which pickles write bytes; torch allows it itself from 2.5 on."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"GLOBAL _codecs.encode to {encoding!r} was not allowed")
    return text.encode("latin1")


def _statistic(owner: Any, name: str) -> str:
    """Answer for ``getattr``: mmengine pickles its statistics by name, which is all that is given back."""
    if owner is _History and name in _STATISTICS:
        return name
    raise pickle.UnpicklingError(f"GLOBAL getattr of {owner!r} was not allowed")


def _settings(name: str) -> type:
    """Return a stand-in for a class that only carries values, whose package need not be installed."""

    def new(_cls: type, *_args: Any) -> Any:
        return OrderedDict()  # torch fills the attributes of no other kind from a file

    return _named(type("_Settings", (), {"__new__": new}), name)


def _renamed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    return _named(lambda *args: function(*args), name)


ALLOWED: tuple[Any, ...] = (
    slice,
    set,  # with bytes, what torch 2.4 does not read by itself
    argparse.Namespace,
    _named(_DType, "numpy.dtype"),
    _named(_Array, "numpy.ndarray"),
    _named(_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    _named(_statistic, "builtins.getattr"),
    _named(_bytes, "_codecs.encode"),
    # numpy 2 renamed its core; files of either are read by either
    *(_renamed(_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(_renamed(_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    _settings("yacs.config.CfgNode"),  # RSP saves its settings with its weights
    # what DeepSpeed saves with its tensors
    _renamed(int, "deepspeed.runtime.zero.config.ZeroStageEnum"),
    _settings("deepspeed.runtime.fp16.loss_scaler.LossScaler"),
    _settings("deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler"),
    _settings("deepspeed.utils.tensor_fragment.fragment_address"),
)


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
    """Refuse an archive that is cut short, packed, states wrong sizes or names places outside itself.

    Raises:
        CheckpointError: Naming the file, the fault and the fix.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = {record.filename: record.file_size for record in archive.infolist()}
            fault = _fault(archive.infolist(), file.stat().st_size) or _lie(archive, records)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read; it is cut short or no checkpoint ({error})",
            where=file,
            fix="fetch it again, or take the one before it from the run folder",
        ) from error
    if fault:
        raise CheckpointError(
            f"the checkpoint is not loaded: {fault}",
            where=file,
            fix="torch.save writes no such file: fetch it from its authors again, or do not use it",
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
    """Replaces every class and function that a pickle names; whatever is done to it does nothing."""

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


MARKER = "complete.json"


def aside(target: Path) -> Path:
    """Return where a checkpoint is written before it gets its name: hidden, in the same folder."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def published(target: Path) -> Iterator[Path]:
    """Give a place to write a file or a folder to, and publish it under ``target`` if that succeeds."""
    place = aside(target)
    remove(place)
    try:
        yield place
        publish(place, target)
    finally:
        remove(place)


def publish(place: Path, target: Path) -> None:
    """Bring what is at ``place`` safely to disk, mark a folder as complete, and rename it to ``target``.

    Args:
        place: The file or folder under its temporary name.
        target: Its final path, in the same folder.
    """
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.is_file() and path.name != MARKER)
        for file in files:
            _to_disk(file)
        sizes = {file.relative_to(place).as_posix(): file.stat().st_size for file in files}
        (place / MARKER).write_text(json.dumps(sizes))
        _to_disk(place / MARKER)
        _to_disk(place)
        if target.is_dir():  # a folder cannot be renamed onto one that holds files
            old = aside(target).with_suffix(".old")
            target.rename(old)
            place.rename(target)
            remove(old)
        else:
            place.rename(target)
    else:
        _to_disk(place)
        place.replace(target)
    _to_disk(target.parent)


def write_text(target: Path, text: str) -> None:
    """Write a small text file whole or not at all.

    Args:
        target: The file.
        text: Its whole content.
    """
    with published(target) as place:
        place.write_text(text)


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_complete(path: Path) -> bool:
    """Say whether a checkpoint is whole: a folder by its marker and sizes, a file by its archive."""
    try:
        if path.is_dir():
            sizes = json.loads((path / MARKER).read_text())
            return all((path / name).stat().st_size == size for name, size in sizes.items())
        if not is_archive(path):
            return False
        check_archive(path)
    except (OSError, ValueError, AttributeError, CheckpointError):
        return False
    return True


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems sync no folders
            raise
    finally:
        os.close(handle)


INDEX_SUFFIX = ".safetensors.index.json"
_META = "rsfoundation.meta"


def is_safetensors(file: Path) -> bool:
    """Say whether the name is that of a safetensors file or of the index of its shards."""
    return file.suffix == ".safetensors" or file.name.endswith(INDEX_SUFFIX)


def read_safetensors(file: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a safetensors file, or all shards of an index.

    Args:
        file: A ``.safetensors`` file or a ``.safetensors.index.json``.
        device: Device of the tensors.

    Returns:
        ``{'state_dict': tensors by name, 'meta': what write_safetensors was given}``.

    Raises:
        CheckpointError: A file is broken, or the index names one outside its folder.
    """
    state: dict[str, torch.Tensor] = {}
    meta: dict[str, Any] = {}
    for part in _shards(file):
        try:
            with safe_open(part, framework="pt", device=device) as content:
                state.update({name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
                meta.update(json.loads((content.metadata() or {}).get(_META, "{}")))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"the safetensors file cannot be read; it is cut short or crafted ({error})",
                where=part,
                fix="fetch it again",
            ) from error
    return {"state_dict": state, "meta": meta}


def _shards(file: Path) -> list[Path]:
    if not file.name.endswith(INDEX_SUFFIX):
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("the index of a safetensors checkpoint is broken", where=file) from error
    for name in names:
        if Path(name).name != name or not (file.parent / name).is_file():
            raise CheckpointError(
                f"the index names {name!r}, which is no file in its folder", where=file, fix="fetch it again"
            )
    return [file.parent / name for name in names]


def write_safetensors(
    state: Mapping[str, torch.Tensor], file: Path, meta: Mapping[str, Any] | None = None
) -> Path:
    """Write weights to one safetensors file, published when it is whole.

    Args:
        state: Tensors by name; those that share memory are written once each.
        file: The file to write.
        meta: Plain values kept with the weights, such as classes and palette.

    Returns:
        ``file``.
    """
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with published(file) as aside:
        save_file(tensors, aside, {"format": "pt", _META: json.dumps(dict(meta or {}))})
    return file


_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
# How torch's reader names what it refuses.
_MORE_THAN_WEIGHTS = re.compile(r"GLOBAL (?P<name>\S+)|call reduce|Can only (create|build)|persistent")
_RESAVE = "re-save its `state_dict` alone where you trust the file, or add --trust-checkpoint if you do here"


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Let checkpoints read inside run the code they hold: what ``--trust-checkpoint`` asks for."""
    token = _trusted.set(trust)
    try:
        yield
    finally:
        _trusted.reset(token)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without running code from it.

    Files of ``torch.save`` are mapped into memory, so that only what is used is read.

    Args:
        path: A ``.pth`` or ``.pt`` file of torch, mmengine or DeepSpeed, a ``.safetensors`` file, or the
            ``.safetensors.index.json`` of several.
        map_location: As in ``torch.load``.

    Raises:
        CheckpointError: The file is missing, broken, or holds objects other than weights and the
            plain metadata that mmengine and DeepSpeed write.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError("the checkpoint does not exist", where=file)
    if is_safetensors(file):
        return read_safetensors(file, map_location if isinstance(map_location, str) else "cpu")
    content = _read_code(file, map_location) if _trusted.get() else _read_weights(file, map_location)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"a checkpoint is a dict, this file holds a {type(content).__name__}", where=file
        )
    return content


def _read_weights(file: Path, map_location: Any) -> Any:
    archive = is_archive(file)
    if archive:
        check_archive(file)
    elif tarfile.is_tarfile(file):
        raise CheckpointError("the checkpoint is a tar archive, which is not read", where=file, fix=_RESAVE)
    try:
        known = torch.serialization.get_safe_globals()  # torch 2.4 would list one again at each call
        torch.serialization.add_safe_globals([one for one in ALLOWED if one not in known])
        return torch.load(file, map_location=map_location, weights_only=True, mmap=archive)
    except Exception as error:  # the bytes are a stranger's: any type may come
        raise _unreadable(file, error) from error


def _read_code(file: Path, map_location: Any) -> Any:
    print_log(
        f"--trust-checkpoint: {file} is read as a program that may do anything",
        logger="current",
        level=logging.WARNING,
    )
    try:
        return torch.load(file, map_location=map_location, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ImportError, AttributeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    asked = _MORE_THAN_WEIGHTS.search(str(error))
    said = str(error).strip().split("\n")[0].split(". ")[0][:200]
    if isinstance(error, pickle.UnpicklingError) and asked:
        what = f"it asks for `{asked['name']}`" if asked["name"] else said
        return CheckpointError(
            f"the checkpoint is not loaded: it holds more than weights ({what})", where=file, fix=_RESAVE
        )
    return CheckpointError(
        f"the checkpoint cannot be read; it is cut short or no checkpoint ({said})",
        where=file,
        fix="fetch it again, or take the one before it from the run folder",
    )
