"""What the implementations of the selective scan share: their arguments and results."""

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 64  # steps between two kept states; with 16 states, the two buffers of a chunk take 8 KB


class Operands(NamedTuple):
    """The tensors of a scan.

    Attributes:
        u: ``(batch, channels, length)``.
        delta: Like ``u``, before bias and softplus.
        A: ``(channels, n)``.
        B: ``(batch, groups, n, length)``; channels are split evenly over groups.
        C: Like ``B``.
        D: ``(channels,)`` or None.
        z: Like ``u`` or None.
        bias: ``(channels,)`` or None.
    """

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None

    def block(self, tokens: slice) -> "Operands":
        """Return the part of some tokens."""
        u, delta, a, b, c, d, z, bias = self
        gate = None if z is None else z[..., tokens]
        return Operands(u[..., tokens], delta[..., tokens], a, b[..., tokens], c[..., tokens], d, gate, bias)

    def to(self, kind: torch.dtype) -> "Operands":
        """Return the operands in one floating type."""
        return Operands._make(None if tensor is None else tensor.to(kind) for tensor in self)


class Direction(NamedTuple):
    """How to scan: whether step sizes pass a softplus, and whether from the last token to the first."""

    softplus: bool
    reverse: bool


class ScanOutput(NamedTuple):
    """Output like ``u``, the last state, and the state before each chunk ``(batch, channels, chunks, n)``."""

    out: Tensor
    state: Tensor
    marks: Tensor


class ScanGrad(NamedTuple):
    """Gradients of the operands (None where there is no operand), and of the state before the first step."""

    operands: tuple[Tensor | None, ...]
    state: Tensor


def state_type(u: Tensor) -> torch.dtype:
    """Return the type the scan computes in."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def new_output(u: Tensor, states: int) -> ScanOutput:
    """Allocate the results of a scan."""
    kind, (batch, channels, length) = state_type(u), u.shape
    state = u.new_empty(batch, channels, states, dtype=kind)
    marks = u.new_empty(batch, channels, -(-length // CHUNK), states, dtype=kind)
    return ScanOutput(u.new_empty(u.shape), state, marks)
