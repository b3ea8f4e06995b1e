"""Writing checkpoints weight by weight, so that no more than one of them is in memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rsfoundation.checkpoints.publishing import published
from rsfoundation.checkpoints.safetensors_files import _META, INDEX_SUFFIX

# The format's names of types: https://github.com/huggingface/safetensors#format
_SAFE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Entry:
    """One tensor to write.

    Attributes:
        name: Its key.
        shape: Its shape.
        dtype: Its type in the output.
        make: Returns the tensor; called at most once, when its turn comes.
        stream: Yields the tensor's bytes in parts, instead.
        same_as: Name of an entry before it that it shares memory with.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]
    stream: Callable[[], Iterable[memoryview]]
    same_as: str | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


Tick = Callable[[int], None]


def write_safetensors_slowly(
    entries: Iterable[Entry], file: Path, meta: Mapping[str, Any], tick: Tick
) -> Path:
    """Write one safetensors file; tied tensors are written once each, which the format asks for."""
    entries = list(entries)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", _META: json.dumps(dict(meta))}}
    offset = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _SAFE_NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with published(file) as aside, aside.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for entry in entries:
            for part in entry.stream():
                stream.write(part)
                tick(part.nbytes)
    return file


def write_shards(
    entries: Iterable[Entry], folder: Path, meta: Mapping[str, Any], tick: Tick, max_bytes: int
) -> Path:
    """Write ``model.safetensors``, or numbered shards of at most ``max_bytes`` and their index.

    Returns:
        The file to load: the only one, or the index.
    """
    shards: list[list[Entry]] = [[]]
    for entry in entries:
        if shards[-1] and sum(item.nbytes for item in shards[-1]) + entry.nbytes > max_bytes:
            shards.append([])
        shards[-1].append(entry)
    folder.mkdir(parents=True, exist_ok=True)
    if len(shards) == 1:
        return write_safetensors_slowly(shards[0], folder / "model.safetensors", meta, tick)
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors_slowly(shard, folder / name, meta, tick)
        places.update(dict.fromkeys((entry.name for entry in shard), name))
    total = sum(entry.nbytes for shard in shards for entry in shard)
    index = folder / f"model{INDEX_SUFFIX}"
    with published(index) as aside:
        aside.write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}, indent=1))
    return index


def write_pth(entries: Iterable[Entry], file: Path, meta: Mapping[str, Any], tick: Tick) -> Path:
    """Write what ``torch.save({'meta': meta, 'state_dict': ...})`` writes, one record at a time."""
    entries = list(entries)
    state: OrderedDict[str, _Lazy] = OrderedDict()
    for entry in entries:
        twin = state.get(entry.same_as or "")
        key = twin.key if twin else str(len(state))
        state[entry.name] = _Lazy(key, entry)
    stream = io.BytesIO()
    _LazyPickler(stream, protocol=2).dump({"meta": dict(meta), "state_dict": state})
    with published(file) as aside:
        archive = torch._C.PyTorchFileWriter(str(aside))
        archive.write_record("data.pkl", stream.getvalue(), len(stream.getvalue()))
        archive.write_record("byteorder", b"little", 6)
        for entry in entries:
            if entry.same_as not in state:
                storage: Any = entry.make().contiguous().untyped_storage()
                archive.write_record(f"data/{state[entry.name].key}", storage, entry.nbytes)
            tick(entry.nbytes)
        archive.write_end_of_file()
    return file


@dataclass(frozen=True)
class _Lazy:
    """A tensor whose bytes come later."""

    key: str
    entry: Entry


@dataclass(frozen=True)
class _LazyStorage:
    lazy: _Lazy


class _LazyPickler(pickle.Pickler):
    """Pickles :class:`_Lazy` as ``torch.save`` pickles a contiguous tensor."""

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, _Lazy):
            return NotImplemented
        shape = obj.entry.shape
        strides = torch.empty(shape, device="meta").stride()
        arguments: tuple[Any, ...] = (_LazyStorage(obj), 0, shape, strides, False, OrderedDict())
        return torch._utils._rebuild_tensor_v2, arguments

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _LazyStorage):
            return None
        entry = obj.lazy.entry
        kind = torch.storage._dtype_to_storage_type_map()[entry.dtype]
        return "storage", getattr(torch, kind), obj.lazy.key, "cpu", torch.Size(entry.shape).numel()
