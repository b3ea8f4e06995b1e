"""The selective scan in plain torch, for devices without a kernel and for export, and the types of all paths.

Steps of one chunk are combined by recursive doubling: after k rounds each position holds the product
and the sum over the last 2^k steps. Only products of decays occur, no quotients, so nothing overflows.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    """Allocate the results of a scan.

    Args:
        u: The input, ``(batch, channels, length)``.
        states: Numbers in the state of a channel.
    """
    kind, (batch, channels, length) = state_type(u), u.shape
    state = u.new_empty(batch, channels, states, dtype=kind)
    marks = u.new_empty(batch, channels, -(-length // CHUNK), states, dtype=kind)
    return ScanOutput(u.new_empty(u.shape), state, marks)


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan a sequence; differentiable.

    Args:
        operands: Of one floating type.
        direction: How to scan.
        state: ``(batch, channels, n)``, before the first step.
    """
    outputs, marks = [], []
    for tokens in _chunks(operands.u.shape[-1], direction.reverse):
        marks.append(state)
        out, state = _scan_chunk(operands.block(tokens), direction, state)
        outputs.append(out)
    if not outputs:
        kept = state.new_zeros(*state.shape[:2], 0, state.shape[2])
        return ScanOutput(torch.zeros_like(operands.u), state.clone(), kept)
    out = torch.cat(outputs[::-1] if direction.reverse else outputs, -1)
    return ScanOutput(out, state.clone(), torch.stack(marks, 2))


def backward(
    operands: Operands, direction: Direction, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> ScanGrad:
    """Return the gradients, replaying one chunk at a time from its mark.

    Args:
        operands: As in the forward pass.
        direction: As in the forward pass.
        marks: The states before each chunk, from the forward pass.
        grad_out: Gradient of the output.
        grad_state: Gradient of the last state.
    """
    totals = [None if tensor is None else torch.zeros_like(tensor) for tensor in operands]
    for index, tokens in reversed(list(enumerate(_chunks(operands.u.shape[-1], direction.reverse)))):
        slopes = (grad_out[..., tokens], grad_state)
        grads, grad_state = _chunk_grads(operands.block(tokens), direction, marks[:, :, index], slopes)
        for total, grad in zip(Operands._make(totals).block(tokens), grads, strict=True):
            if total is not None and grad is not None:
                total += grad
    return ScanGrad(tuple(totals), grad_state.clone())


def _chunk_grads(
    operands: Operands, direction: Direction, state: Tensor, slopes: tuple[Tensor, Tensor]
) -> tuple[list[Tensor | None], Tensor]:
    with torch.enable_grad():
        leaves = [None if t is None else t.detach().requires_grad_() for t in (*operands, state)]
        *inner, first = leaves
        assert first is not None
        results = _scan_chunk(Operands._make(inner), direction, first)
        grads = iter(torch.autograd.grad(results, [leaf for leaf in leaves if leaf is not None], slopes))
    *inner_grads, last = (None if leaf is None else next(grads) for leaf in leaves)
    assert last is not None
    return inner_grads, last


def _chunks(length: int, reverse: bool) -> list[slice]:
    """Split the tokens in the order of the scan; the last chunk may be short."""
    starts = range(0, length, CHUNK)
    if reverse:
        return [slice(max(length - start - CHUNK, 0), length - start) for start in starts]
    return [slice(start, min(start + CHUNK, length)) for start in starts]


def _scan_chunk(operands: Operands, direction: Direction, state: Tensor) -> tuple[Tensor, Tensor]:
    u, delta, a, b, c, skip, gate, bias = operands
    dt = delta if bias is None else delta + bias[:, None]
    dt = F.softplus(dt) if direction.softplus else dt
    share = u.shape[1] // b.shape[1]
    b, c = (tensor.repeat_interleave(share, 1).transpose(2, 3) for tensor in (b, c))
    drive = (dt * u)[..., None] * b
    states = _prefix((dt[..., None] * a[:, None]).exp(), drive, state, direction.reverse)
    y = (states * c).sum(-1)
    y = y if skip is None else y + skip[:, None] * u
    last = states[:, :, 0] if direction.reverse else states[:, :, -1]
    return y if gate is None else y * F.silu(gate), last


def _prefix(decay: Tensor, total: Tensor, state: Tensor, reverse: bool) -> Tensor:
    """Return the states after each step ``(batch, channels, length, n)``."""
    if reverse:
        return _prefix(decay.flip(2), total.flip(2), state, False).flip(2)
    total = torch.cat([total[:, :, :1] + decay[:, :, :1] * state[:, :, None], total[:, :, 1:]], 2)
    reach, length = 1, total.shape[2]
    while reach < length:
        # Positions before `reach` already hold their whole prefix: they meet a sum of 0 and a decay of 1.
        total = total + decay * F.pad(total[:, :, :-reach], (0, 0, reach, 0))
        decay = decay * F.pad(decay[:, :, :-reach], (0, 0, reach, 0), value=1.0)
        reach *= 2
    return total
