"""Putting a ZeRO checkpoint's weights together one at a time, without the files piling up in memory."""

from __future__ import annotations

import ctypes
import math
import mmap
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from rsfoundation.core.errors import CheckpointError
from rsfoundation.io.checkpoints import is_archive, read_checkpoint

_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_(\d+)_(optim|model)_states\.pt$")


@dataclass(frozen=True)
class Weight:
    """One tensor of the model and the mapped pieces it is made of, in order.

    Attributes:
        name: Its key in the state dict.
        shape: Its shape.
        dtype: Its type as stored.
        pieces: Flat tensors mapped from the files; more elements than ``shape`` has are padding at the end.
        same_as: Name of the weight it is tied to.
        frozen: Whether it was not trained.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[torch.Tensor, ...]
    same_as: str | None = None
    frozen: bool = False

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ZeroCheckpoint:
    """What a folder holds.

    Attributes:
        folder: The folder.
        stage: 1, 2 or 3.
        world_size: Number of ranks that wrote it.
        weights: Every weight in the order of the model's state dict.
        meta: What mmengine noted: classes, palette, config, versions, epoch, iteration.
        averaged: Whether the weights are the moving averages of an EMA hook.
    """

    folder: Path
    stage: int
    world_size: int
    weights: tuple[Weight, ...]
    meta: dict[str, Any]
    averaged: bool


def is_zero_folder(path: Path) -> bool:
    """Say whether ``path`` is a checkpoint folder of DeepSpeed's."""
    return path.is_dir() and any(path.glob("*_optim_states.pt"))


def open_zero(folder: Path, averaged: bool | None = None) -> ZeroCheckpoint:
    """Map a checkpoint folder and find every weight in it.

    Args:
        folder: A folder with ``*_optim_states.pt`` and ``*_model_states.pt`` files.
        averaged: The moving averages of an EMA hook, or the raw weights; ``None`` for the averages where
            there are any, as mmengine's own checkpoints do.

    Raises:
        CheckpointError: Files are missing, broken or from runs of different sizes.
    """
    files = _files_by_rank(folder)
    states = [_section(_read(file), "optimizer_state_dict", file) for file in files["optim"]]
    stage = int(states[0].get("zero_stage", 0))
    if stage not in (1, 2, 3):
        raise CheckpointError(f"the folder is of ZeRO stage {stage}; 1, 2 and 3 are known", where=folder)
    world_size = _world_size(states[0], files["optim"], folder)
    models = _read_models(folder, files["model"], stage, world_size)
    has_average = (folder / "ema_rank_0.pt").is_file()
    if averaged and not has_average:
        raise CheckpointError("the checkpoint holds no moving averages", where=folder, fix="leave --ema out")
    use_average = has_average if averaged is None else averaged
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    if use_average:
        flats = [_read(folder / f"ema_rank_{rank}.pt")["groups"] for rank in range(world_size)]
    else:
        flats = [_section(state, key, folder) for state in states]
    trained = (_stage3 if stage == 3 else _stage12)(models[0], flats, states[0], folder)
    weights = _in_model_order(models, trained, stage)
    meta = models[0].get("meta") or {}
    # where the run's random generators were: of use to a run that continues, not to weights
    meta = {key: value for key, value in meta.items() if key != "resume"}
    return ZeroCheckpoint(folder, stage, world_size, weights, meta, use_average)


@dataclass(frozen=True)
class ZeroOptimizer:
    """What the optimiser of a folder keeps.

    Attributes:
        moments: Where each is, by its name (``exp_avg``) and the parameter's.
        numbers: What is one number for all parameters, as ``step``.
        groups: The settings of each parameter group, as ``lr``.
    """

    moments: dict[str, dict[str, Weight]]
    numbers: dict[str, Any]
    groups: list[dict[str, Any]]


def open_optimizer(folder: Path) -> ZeroOptimizer:
    """Map what the optimiser of a checkpoint folder keeps."""
    files = _files_by_rank(folder)
    states = [_section(_read(file), "optimizer_state_dict", file) for file in files["optim"]]
    stage = int(states[0]["zero_stage"])
    model = _read_models(folder, files["model"], stage, len(states))[0]
    inner = "optimizer_state_dict" if stage == 3 else "base_optimizer_state"
    by_rank = [[group for _, group in sorted(state[inner]["state"].items())] for state in states]
    first = by_rank[0][0] if by_rank[0] else {}
    flat = [key for key, value in first.items() if isinstance(value, torch.Tensor) and value.ndim]
    cut = _stage3 if stage == 3 else _stage12
    moments = {
        key: cut(model, [[group[key] for group in groups] for groups in by_rank], states[0], folder)
        for key in flat
    }
    numbers = {key: value for key, value in first.items() if key not in flat}
    settings = [
        {k: v for k, v in group.items() if k != "params"} for group in states[0][inner]["param_groups"]
    ]
    return ZeroOptimizer(moments, numbers, settings)


def _files_by_rank(folder: Path) -> dict[str, list[Path]]:
    """List the files of each kind by rank; say which ranks are missing."""
    found: dict[str, dict[int, Path]] = {"optim": {}, "model": {}}
    for file in folder.glob("*_states.pt"):
        match = _RANK.search(file.name)
        if match is None:
            continue
        if int(match[2]):
            raise CheckpointError("model-parallel checkpoints are not converted", where=file)
        found[match[3]][int(match[1])] = file
    if not found["optim"]:
        raise CheckpointError(
            "the folder holds no *_optim_states.pt file: it is no ZeRO checkpoint", where=folder
        )
    for kind, files in found.items():
        absent = sorted(set(range(max(files, default=-1) + 1)) - set(files))
        if absent:
            raise CheckpointError(
                f"the {kind} states of rank {', '.join(map(str, absent))} are missing",
                where=folder,
                fix="copy the files of every host into this folder",
            )
    return {kind: [files[rank] for rank in sorted(files)] for kind, files in found.items()}


def _world_size(state: dict[str, Any], files: list[Path], folder: Path) -> int:
    counts = state.get("partition_count", len(files))
    expected = int(max(counts)) if isinstance(counts, (list, tuple)) else int(counts)
    if expected != len(files):
        raise CheckpointError(
            f"the checkpoint was written by {expected} ranks, the folder holds the files of {len(files)}",
            where=folder,
            fix="copy the files of every host into this folder, or remove those of an older checkpoint",
        )
    return expected


def _read_models(folder: Path, files: list[Path], stage: int, world_size: int) -> list[dict[str, Any]]:
    if stage < 3:
        files = [folder / "mp_rank_00_model_states.pt"]
    elif len(files) != world_size:
        raise CheckpointError(
            f"{world_size} ranks wrote the checkpoint, {len(files)} files of model states are there",
            where=folder,
            fix="copy the files of every host into this folder",
        )
    models = [_read(file) for file in files]
    for key in ("param_shapes", "buffer_names", "module"):
        _section(models[0], key, files[0])
    return models


def _read(file: Path) -> dict[str, Any]:
    """Map a file. One that torch reads into memory instead would lose what is let go of after use."""
    if file.is_file() and not is_archive(file):
        raise CheckpointError(
            "the file is no zip archive, which every torch since 1.6 writes",
            where=file,
            fix="fetch it again; load and save it with a newer torch if it is that old",
        )
    return read_checkpoint(file)


def _section(content: dict[str, Any], key: str, where: Path) -> Any:
    if content.get(key) is None:
        raise CheckpointError(f"the file has no '{key}': it is no part of a ZeRO checkpoint", where=where)
    return content[key]


def _stage12(
    model: dict[str, Any], flats: list[list[torch.Tensor]], state: dict[str, Any], folder: Path
) -> dict[str, Weight]:
    gaps = state.get("param_alignment_paddings")
    found = {}
    for group, shapes in enumerate(model["param_shapes"]):
        parts = [flat[group] for flat in flats]
        offset = 0
        for index, (name, shape) in enumerate(shapes.items()):
            count = math.prod(shape)
            found[name] = _weight(name, shape, _cut(parts, offset, count), folder)
            offset += count + (gaps[group][index] if gaps else 0)
    return found


def _stage3(
    model: dict[str, Any], flats: list[list[torch.Tensor]], _state: dict[str, Any], folder: Path
) -> dict[str, Weight]:
    found = {}
    offset = 0
    shapes = {name: shape for group in model["param_shapes"] for name, shape in group.items()}
    for name, shape in shapes.items():
        share = math.ceil(math.prod(shape) / len(flats))
        pieces = [piece for flat in flats for piece in _cut(flat, offset, share)]
        found[name] = _weight(name, shape, pieces, folder)
        offset += share
    return found


def _cut(parts: Iterable[torch.Tensor], offset: int, count: int) -> list[torch.Tensor]:
    """Return views of ``count`` elements from ``offset`` on, as if the parts were one vector."""
    pieces, start, end = [], 0, offset + count
    for part in parts:
        low, high = max(offset, start), min(end, start + part.numel())
        if low < high:
            pieces.append(part.view(-1)[low - start : high - start])
        start += part.numel()
    return pieces


def _weight(
    name: str, shape: Iterable[int], pieces: list[torch.Tensor], folder: Path, frozen: bool = False
) -> Weight:
    weight = Weight(
        name, tuple(shape), pieces[0].dtype if pieces else torch.float32, tuple(pieces), None, frozen
    )
    held = sum(piece.numel() for piece in pieces)
    if held < weight.numel:
        raise CheckpointError(
            f"'{name}' has {weight.numel} elements, the files hold {held}: files of two runs are mixed",
            where=folder,
        )
    return weight


def _in_model_order(
    models: list[dict[str, Any]], trained: dict[str, Weight], stage: int
) -> tuple[Weight, ...]:
    """Add buffers, frozen and tied weights; order all as the model's own state dict."""
    first = models[0]
    tied = dict(first.get("shared_params") or {})
    fragments = [model.get("frozen_param_fragments") or {} for model in models]
    shapes = first.get("frozen_param_shapes") or {}
    found = dict(trained)
    for name, tensor in first["module"].items():
        if name in found or name in tied:
            continue
        if name in first["buffer_names"] or stage < 3:  # stages 1, 2 save frozen weights whole
            pieces, shape = [tensor.reshape(-1)], tensor.shape
        elif name in shapes:
            pieces, shape = [part[name].reshape(-1) for part in fragments], shapes[name]
        else:
            continue  # a frozen weight of a run that left them out
        found[name] = _weight(name, shape, pieces, Path(), name not in first["buffer_names"])
    for name, source in tied.items():
        if source in found:
            twin = found[source]
            found[name] = Weight(name, twin.shape, twin.dtype, twin.pieces, source, twin.frozen)
    order = {name: position for position, name in enumerate(first["module"])}
    return tuple(sorted(found.values(), key=lambda weight: order.get(weight.name, len(order))))


_WILL_NEED, _DONT_NEED = 3, 4  # MADV_... of Linux
_PART = 4 * 2**20  # elements read at a time


def gather(weight: Weight, dtype: torch.dtype | None = torch.float32) -> torch.Tensor:
    """Return a weight as one tensor of its shape.

    Args:
        weight: Where it is.
        dtype: Type of floating-point weights; ``None`` keeps the stored one. Integers stay as they are.
    """
    whole = torch.empty(weight.numel, dtype=_wanted(weight, dtype))
    start = 0
    for part in _parts(weight):
        whole[start : start + part.numel()].copy_(part)
        start += part.numel()
    return whole.view(weight.shape)


def stream(weight: Weight, dtype: torch.dtype | None = torch.float32) -> Iterator[memoryview]:
    """Yield the bytes of :func:`gather`'s tensor part by part, straight from the files where types agree.

    Args:
        weight: The weight and where its parts are.
        dtype: Type of the result; the stored one when None.
    """
    wanted = _wanted(weight, dtype)
    for part in _parts(weight):
        yield part.to(wanted).contiguous().view(torch.uint8).numpy().data


def _wanted(weight: Weight, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and weight.dtype.is_floating_point else weight.dtype


def _parts(weight: Weight) -> Iterator[torch.Tensor]:
    """Yield a weight's elements in order; the next part is read ahead, the last one is let go of."""
    parts: list[torch.Tensor] = []
    left = weight.numel
    for piece in weight.pieces:
        parts += piece[:left].split(_PART) if left else ()
        left -= min(left, piece.numel())
    for part, following in zip_longest(parts, parts[1:]):  # nothing for a weight without elements
        if following is not None:
            _advise(following, _WILL_NEED)
        yield part
        _advise(part, _DONT_NEED)


def read_zero_folder(folder: Path, averaged: bool | None = None) -> dict[str, Any]:
    """Read a folder as the checkpoint that a run without DeepSpeed would have written.

    Args:
        folder: The checkpoint folder.
        averaged: Take the moving averages (EMA); what the folder was saved with when None.

    Returns:
        ``{'meta': ..., 'state_dict': float32 weights}``.
    """
    checkpoint = open_zero(folder, averaged)
    state: dict[str, torch.Tensor] = {}
    for weight in checkpoint.weights:
        state[weight.name] = state[weight.same_as] if weight.same_as in state else gather(weight)
    return {"meta": checkpoint.meta, "state_dict": state}


def _advise(part: torch.Tensor, advice: int) -> None:
    """Tell the system about mapped pages of a file.

    Pages that were read count as this process's memory until others need it, or until it lets go of them.
    """
    if _madvise is None or part.numel() == 0:
        return
    start = part.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    end = part.data_ptr() + part.numel() * part.element_size()
    _madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), advice)


_madvise: Callable[..., int] | None = ctypes.CDLL(None).madvise if sys.platform == "linux" else None
