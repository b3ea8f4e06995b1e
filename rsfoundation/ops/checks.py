"""Checks that operators make of what they are given."""

import torch
from torch import Tensor

from rsfoundation.core.errors import RSFError


class OperatorInputError(RSFError, ValueError):
    """An operator was given tensors of a wrong shape, or values it has no answer for."""


def check_last_dim(name: str, tensor: Tensor, width: int) -> None:
    """Raise unless ``tensor`` has shape ``(n, width)``."""
    if tensor.dim() != 2 or tensor.shape[1] != width:
        raise OperatorInputError(f"{name}: expected shape (n, {width}), found {tuple(tensor.shape)}")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise when ``tensor`` holds NaN or infinity, with the first such row."""
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        row = int((~finite).reshape(len(tensor), -1).any(1).nonzero()[0])
        raise OperatorInputError(
            f"{name}: row {row} holds NaN or infinity: {tensor[row].tolist()}",
            fix="look for a diverged loss or a division by zero before this operator",
        )
