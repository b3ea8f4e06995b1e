"""Checks that operators make of their input."""

import logging

import torch
from torch import Tensor

from rsfoundation.core.errors import RSFError

_warned: set[str] = set()  # operators whose first NaN or infinity was logged


class OperatorInputError(RSFError, ValueError):
    """An operator was given tensors of a wrong shape."""


def check_last_dim(name: str, tensor: Tensor, width: int) -> None:
    """Check that a tensor has shape ``(n, width)``.

    Args:
        name: The operator, for the message.
        tensor: Its input.
        width: Columns it needs.

    Raises:
        OperatorInputError: Another shape.
    """
    if tensor.dim() != 2 or tensor.shape[1] != width:
        raise OperatorInputError(f"{name}: expected shape (n, {width}), found {tuple(tensor.shape)}")


def finite_rows(name: str, tensor: Tensor) -> Tensor:
    """Return which rows hold neither NaN nor infinity; on a CPU, log once for each operator that some do.

    It is no error: operators run inside models, and a diverged loss is for the training loop to report. On
    other devices nothing is logged, as the processor would have to wait for all work so far to know.

    Args:
        name: The operator, for the message.
        tensor: ``(n, width)`` or ``(n,)``.

    Returns:
        ``(n,)`` of bool.
    """
    finite = torch.isfinite(tensor)
    finite = finite.all(1) if finite.dim() > 1 else finite
    tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()
    on_cpu = tensor.device.type == "cpu"
    if on_cpu and name not in _warned and not tracing and not bool(finite.all()):
        from mmengine.logging import print_log

        _warned.add(name)
        row = int((~finite).nonzero()[0])
        print_log(
            f"{name}: {int((~finite).sum())} of {len(tensor)} rows hold NaN or infinity, row {row} first: "
            f"{tensor[row].tolist()}. Such boxes overlap nothing, and scores that are NaN come first; this "
            "is reported once. If the loss is not finite either, training has diverged.",
            "current",
            logging.WARNING,
        )
    return finite


def blank_non_finite(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor whose rows with NaN or infinity are zero: a box of no area, which overlaps nothing.

    Args:
        name: The operator, for the message of ``finite_rows``.
        tensor: ``(n, width)``.
    """
    return torch.where(finite_rows(name, tensor)[:, None], tensor, 0)
