"""The selective scan in plain torch, for devices without a kernel and for export.

Steps of one chunk are combined by recursive doubling: after k rounds each position holds the product
and the sum over the last 2^k steps. Only products of decays occur, no quotients, so nothing overflows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.scan_core import CHUNK, ScanGrad, ScanInput, ScanOutput


def forward(data: ScanInput, state: Tensor) -> ScanOutput:
    """Scan from ``state`` (images, channels, n); differentiable."""
    pieces, marks = [], []
    for chunk in _chunks(data):
        marks.append(state)
        y, state = _scan_chunk(*chunk[:5], state)
        pieces.append(y)
    y = torch.cat(pieces, -1) if pieces else torch.zeros_like(data.u)
    kept = torch.stack(marks, 2) if marks else state.new_zeros(*state.shape[:2], 0, state.shape[2])
    return ScanOutput(y.flip(-1) if data.reverse else y, state.clone(), kept)


def backward(data: ScanInput, marks: Tensor, grad_y: Tensor, grad_state: Tensor, want_y: bool) -> ScanGrad:
    """Return the gradients, replaying one chunk at a time from its mark."""
    grad_a = torch.zeros_like(data.a)
    columns: list[list[Tensor]] = [[], [], [], [], []]  # y and the gradients of u, dt, b, c by chunk
    slopes = (grad_y.flip(-1) if data.reverse else grad_y).split(CHUNK, -1)
    for index, chunk in reversed(list(enumerate(_chunks(data)))):
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in (*chunk[:5], marks[:, :, index])]
            y, last = _scan_chunk(*leaves)
            grads = torch.autograd.grad((y, last), leaves, (slopes[index], grad_state))
        grad_u, grad_dt, part_a, grad_b, grad_c, grad_state = grads
        grad_a += part_a
        for column, value in zip(columns, (y.detach(), grad_u, grad_dt, grad_b, grad_c), strict=True):
            column.append(value)
    y, grad_u, grad_dt = (_join(column, data.u, -1, data.reverse) for column in columns[:3])
    grad_b, grad_c = (_join(column, data.b, 2, data.reverse) for column in columns[3:])
    return ScanGrad(y if want_y else y.new_empty(0), grad_u, grad_dt, grad_a, grad_b, grad_c, grad_state)


def _join(parts: list[Tensor], like: Tensor, dim: int, reverse: bool) -> Tensor:
    """Join chunks that were met last to first."""
    if not parts:
        return torch.zeros_like(like)
    joined = torch.cat(parts[::-1], dim)
    return joined.flip(dim) if reverse else joined


def _chunks(data: ScanInput) -> list[ScanInput]:
    """Cut along the tokens, in the order of the scan."""
    u, dt, a, b, c, reverse = data
    if reverse:
        u, dt, b, c = u.flip(-1), dt.flip(-1), b.flip(2), c.flip(2)
    starts = range(0, u.shape[-1], CHUNK)
    return [
        ScanInput(
            u[..., s : s + CHUNK],
            dt[..., s : s + CHUNK],
            a,
            b[:, :, s : s + CHUNK],
            c[:, :, s : s + CHUNK],
            False,
        )
        for s in starts
    ]


def _scan_chunk(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    share = u.shape[1] // b.shape[1]
    b, c = b.repeat_interleave(share, 1), c.repeat_interleave(share, 1)
    decay = (dt[..., None] * a[:, None]).exp()
    total = (dt * u)[..., None] * b
    total = torch.cat([total[:, :, :1] + decay[:, :, :1] * state[:, :, None], total[:, :, 1:]], 2)
    reach, length = 1, u.shape[-1]
    while reach < length:
        # Positions before `reach` already hold their whole prefix: they meet a sum of 0 and a decay of 1.
        total = total + decay * F.pad(total[:, :, :-reach], (0, 0, reach, 0))
        decay = decay * F.pad(decay[:, :, :-reach], (0, 0, reach, 0), value=1.0)
        reach *= 2
    return (total * c).sum(-1), total[:, :, -1]
