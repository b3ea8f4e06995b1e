"""Putting a ZeRO checkpoint's weights together one at a time, without the files piling up in memory."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rsfoundation.engine.zero_layout import Weight, open_zero

_DONT_NEED = 4  # MADV_DONTNEED of Linux


def gather(weight: Weight, dtype: torch.dtype | None = torch.float32) -> torch.Tensor:
    """Return a weight as one tensor of its shape.

    Args:
        weight: Where it lies.
        dtype: Type of floating-point weights; ``None`` keeps the stored one. Integers stay as they are.
    """
    wanted = dtype if dtype is not None and weight.dtype.is_floating_point else weight.dtype
    whole = torch.empty(weight.numel, dtype=wanted)
    start = 0
    for piece in weight.pieces:
        end = min(start + piece.numel(), weight.numel)
        whole[start:end].copy_(piece[: end - start])
        _forget(piece)
        start = end
    return whole.view(weight.shape)


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


def _forget(piece: torch.Tensor) -> None:
    """Give mapped pages of a file back, which would count as this process's memory until others need it."""
    if _advise is None or piece.numel() == 0:
        return
    start = piece.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    end = piece.data_ptr() + piece.numel() * piece.element_size()
    _advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONT_NEED)


def _find_advise() -> Callable[..., int] | None:
    return ctypes.CDLL(None).madvise if sys.platform == "linux" else None


_advise = _find_advise()
