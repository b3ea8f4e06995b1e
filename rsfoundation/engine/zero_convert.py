"""Turning a DeepSpeed ZeRO checkpoint folder into one plain checkpoint, in little memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from rsfoundation.checkpoints.newest import named_by_marker
from rsfoundation.engine.results import plain_value
from rsfoundation.engine.zero_gather import gather, stream
from rsfoundation.engine.zero_layout import Weight, ZeroCheckpoint, is_zero_folder, open_zero
from rsfoundation.engine.zero_write import Entry, write_pth, write_safetensors_slowly, write_shards
from rsfoundation.errors import CheckpointError, nearest

Only = Literal["all", "trained", "adapters"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
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
    only: Only = "all",
    averaged: bool | None = None,
    dtype: str = "float32",
    max_shard_bytes: int = 5 * 10**9,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Conversion:
    """Write the weights of a ZeRO 1, 2 or 3 checkpoint as one checkpoint.

    Peak memory beside the interpreter with torch: 16 MB for safetensors, for ``.pth`` the largest tensor in
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
            cure=nearest(tag, names) or f"it holds: {', '.join(names) or 'none'}",
        )
    if tag in names:
        return place / tag
    raise CheckpointError(
        "the folder is no ZeRO checkpoint and names none as its newest",
        where=place,
        cure=f"choose with -t: {', '.join(names)}" if names else "give the folder with *_optim_states.pt",
    )


def _newest(place: Path) -> str | None:
    """Read DeepSpeed's or mmengine's note of the newest checkpoint."""
    latest = place / "latest"
    named = Path(latest.read_text().strip()) if latest.is_file() else named_by_marker(place)
    return named.name if named is not None else None


def _select(checkpoint: ZeroCheckpoint, only: Only) -> list[Weight]:
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
