"""Putting a ZeRO checkpoint's weights together one at a time, without the files piling up in memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from rsfoundation.engine.zero_layout import Weight, open_zero

_WILL_NEED, _DONT_NEED = 3, 4  # MADV_... of Linux
_PART = 4 * 2**20  # elements read at a time


def gather(weight: Weight, dtype: torch.dtype | None = torch.float32) -> torch.Tensor:
    """Return a weight as one tensor of its shape.

    Args:
        weight: Where it lies.
        dtype: Type of floating-point weights; ``None`` keeps the stored one. Integers stay as they are.
    """
    whole = torch.empty(weight.numel, dtype=_wanted(weight, dtype))
    start = 0
    for part in _parts(weight):
        whole[start : start + part.numel()].copy_(part)
        start += part.numel()
    return whole.view(weight.shape)


def stream(weight: Weight, dtype: torch.dtype | None = torch.float32) -> Iterator[memoryview]:
    """Yield the bytes of :func:`gather`'s tensor part by part, straight from the files where types agree."""
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
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if following is not None:
            _advise(following, _WILL_NEED)
        yield part
        _advise(part, _DONT_NEED)


def read_zero_folder(folder: Path, averaged: bool | None = None) -> dict[str, Any]:
    """Read a folder as the checkpoint that a run without DeepSpeed would have written.

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
