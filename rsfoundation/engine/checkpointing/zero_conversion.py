"""Turning a DeepSpeed ZeRO checkpoint folder into one plain checkpoint, in little memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rsfoundation.core.choices import Precision, WeightSelection
from rsfoundation.core.errors import CheckpointError, nearest
from rsfoundation.core.files import plain_value
from rsfoundation.engine.checkpointing.find import named_by_marker
from rsfoundation.engine.checkpointing.zero_layout import (
    Weight,
    ZeroCheckpoint,
    gather,
    is_zero_folder,
    open_zero,
    stream,
)
from rsfoundation.io.checkpoints import _META, INDEX_SUFFIX, published

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
    """Write one safetensors file; tied tensors are written once each, which the format asks for.

    Args:
        entries: Names and tensors, read when they are asked for.
        file: The file to write.
        meta: Plain values kept with the weights.
        tick: Called with the bytes written so far.
    """
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

    Args:
        entries: Names and tensors, read when they are asked for.
        folder: The folder to write.
        meta: Plain values kept with the weights.
        tick: Called with the bytes written so far.
        max_bytes: Largest size of a file in bytes.

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
    """Write what ``torch.save({'meta': meta, 'state_dict': ...})`` writes, one record at a time.

    Args:
        entries: Names and tensors, read when they are asked for.
        file: The file to write.
        meta: Plain values kept with the weights.
        tick: Called with the bytes written so far.
    """
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


DTYPES: Mapping[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_ADAPTER_MARK = ".lora_"  # peft's names: lora_A, lora_B, lora_embedding_A, lora_magnitude_vector


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        source: The checkpoint folder.
        output: The file to load.
        stage: ZeRO stage of the source.
        world_size: Ranks that wrote it.
        tensors: Number of tensors written.
        parameters: Number of elements written.
        averaged: Whether they are moving averages.
    """

    source: Path
    output: Path
    stage: int
    world_size: int
    tensors: int
    parameters: int
    averaged: bool


def convert_zero(
    source: Path,
    output: Path,
    tag: str | None = None,
    only: WeightSelection = "all",
    averaged: bool | None = None,
    dtype: Precision = "float32",
    max_shard_bytes: int = 5 * 10**9,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write the weights of a ZeRO 1, 2 or 3 checkpoint as one checkpoint.

    Peak memory above the interpreter with torch: 16 MB for safetensors, for ``.pth`` the largest tensor in
    the output's type.

    Args:
        source: A checkpoint folder, or a run folder that holds some.
        output: A ``.pth``, ``.pt``, ``.bin`` or ``.safetensors`` file; anything else is a folder, which
            receives safetensors, in shards above ``max_shard_bytes``.
        tag: Name of the checkpoint inside a run folder; its newest when not given.
        only: Every weight, only trained ones (with buffers), or only LoRA's.
        averaged: The moving averages of an EMA hook or the raw weights; the averages where there are any
            when not given.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        max_shard_bytes: Largest safetensors shard; a larger tensor gets one of its own.
        progress: Called with bytes done and in all.

    Raises:
        CheckpointError: The folder is no ZeRO checkpoint, incomplete or broken; nothing is written.
    """
    checkpoint = open_zero(find_zero_folder(source, tag), averaged)
    weights = _select(checkpoint, only)
    entries = [_entry(weight, DTYPES[dtype]) for weight in weights]
    total, done = sum(entry.nbytes for entry in entries), 0

    def tick(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    suffix = output.suffix.lower()
    if suffix in (".pth", ".pt", ".bin") and not output.is_dir():
        output.parent.mkdir(parents=True, exist_ok=True)
        written = write_pth(entries, output, checkpoint.meta, tick)
    elif suffix == ".safetensors" and not output.is_dir():
        output.parent.mkdir(parents=True, exist_ok=True)
        written = write_safetensors_slowly(entries, output, plain_value(checkpoint.meta), tick)
    else:
        written = write_shards(entries, output, plain_value(checkpoint.meta), tick, max_shard_bytes)
    count = sum(weight.numel for weight in weights)
    return Conversion(
        checkpoint.folder,
        written,
        checkpoint.stage,
        checkpoint.world_size,
        len(weights),
        count,
        checkpoint.averaged,
    )


def find_zero_folder(place: Path, tag: str | None = None) -> Path:
    """Resolve a checkpoint folder, or a run folder and the name of a checkpoint in it.

    Args:
        place: A checkpoint folder or a run folder.
        tag: Name of the checkpoint in a run folder; the newest when not given.

    Raises:
        CheckpointError: There is none, or not of that name.
    """
    if not place.is_dir():
        raise CheckpointError("there is no such folder", where=place)
    if is_zero_folder(place) and tag is None:
        return place
    names = [folder.name for folder in sorted(place.iterdir()) if is_zero_folder(folder)]
    if tag is None:
        tag = _newest(place)
    elif tag not in names:
        raise CheckpointError(
            f"the folder holds no ZeRO checkpoint called '{tag}'",
            where=place,
            fix=nearest(tag, names) or f"it holds: {', '.join(names) or 'none'}",
        )
    if tag in names:
        return place / tag
    raise CheckpointError(
        "the folder is no ZeRO checkpoint and names none as its newest",
        where=place,
        fix=f"choose with -t: {', '.join(names)}" if names else "give the folder with *_optim_states.pt",
    )


def _newest(place: Path) -> str | None:
    """Read DeepSpeed's or mmengine's note of the newest checkpoint."""
    latest = place / "latest"
    named = Path(latest.read_text().strip()) if latest.is_file() else named_by_marker(place)
    return named.name if named is not None else None


def _select(checkpoint: ZeroCheckpoint, only: WeightSelection) -> list[Weight]:
    if only == "trained":
        kept = [weight for weight in checkpoint.weights if not weight.frozen]
    elif only == "adapters":
        kept = [weight for weight in checkpoint.weights if _ADAPTER_MARK in weight.name]
    else:
        kept = list(checkpoint.weights)
    if not kept:
        raise CheckpointError(f"the checkpoint has no weights of the kind '{only}'", where=checkpoint.folder)
    return kept


def _entry(weight: Weight, dtype: torch.dtype) -> Entry:
    wanted = dtype if weight.dtype.is_floating_point else weight.dtype
    make, parts = partial(gather, weight, dtype), partial(stream, weight, dtype)
    return Entry(weight.name, weight.shape, wanted, make, parts, weight.same_as)
