"""The selective scan as an operator of torch, which compiled graphs call and autograd differentiates.

On the CPU the tokens pass in blocks that fit the caches, so that neither step sizes nor gates are ever
held for the whole sequence.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops import scan_torch
from rsfoundation.ops.scan_core import CHUNK, ScanGrad, ScanInput, ScanOutput

_BLOCK_VALUES = 1 << 18  # values of one operand in a block: 1 MB of float32


class Operands(NamedTuple):
    """The tensors of a scan, named as in ``selective_scan``; ``B`` and ``C`` have a group dimension."""

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

    def core(self, softplus: bool, reverse: bool) -> ScanInput:
        """Bring everything to the type of the state, and B and C to ``(batch, groups, length, n)``."""
        kind = state_type(self.u)
        dt = self.raw_steps()
        b, c = (tensor.to(kind).transpose(2, 3) for tensor in (self.B, self.C))
        return ScanInput(self.u.to(kind), F.softplus(dt) if softplus else dt, self.A.to(kind), b, c, reverse)

    def raw_steps(self) -> Tensor:
        """Return the step sizes before softplus."""
        kind = state_type(self.u)
        return self.delta.to(kind) if self.bias is None else self.delta.to(kind) + self.bias.to(kind)[:, None]


def exporting() -> bool:
    """Tell whether a graph without operators of ours is wanted; torch 2.4 knows no such question."""
    asks = getattr(torch.compiler, "is_exporting", None)
    return torch.onnx.is_in_onnx_export() or (asks is not None and asks())


def state_type(u: Tensor) -> torch.dtype:
    """Return the type the scan computes in."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def scan_plainly(
    operands: Operands, softplus: bool, reverse: bool, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, last state and chunk marks by operations of torch alone."""
    data = operands.core(softplus, reverse)
    return _finish(operands, data, scan_torch.forward(data, state.to(data.u)))


def _finish(operands: Operands, data: ScanInput, result: ScanOutput) -> tuple[Tensor, Tensor, Tensor]:
    """Add the skip connection and apply the gate."""
    y = result.y
    if operands.D is not None:
        y = y + data.u * operands.D.to(y)[:, None]
    if operands.z is not None:
        y = y * F.silu(operands.z.to(y))
    return y.to(operands.u.dtype), result.state, result.marks


def _blocks(u: Tensor, reverse: bool) -> Iterator[tuple[slice, slice]]:
    """Yield tokens and their chunk marks, block by block in the order of the scan."""
    batch, channels, length = u.shape
    chunks = max(1, _BLOCK_VALUES // (max(batch * channels, 1) * CHUNK))
    size = chunks * CHUNK if u.device.type == "cpu" else max(length, 1)
    for start in range(0, length, size):
        stop = min(start + size, length)
        tokens = slice(length - stop, length - start) if reverse else slice(start, stop)
        yield tokens, slice(start // CHUNK, -(-stop // CHUNK))


def _core_forward(data: ScanInput, state: Tensor) -> ScanOutput:
    if data.u.device.type == "cpu":
        from rsfoundation.ops import scan_cpu  # loads numba

        return scan_cpu.forward(data, state)
    return scan_torch.forward(data, state)


def _core_backward(
    data: ScanInput, marks: Tensor, grad_y: Tensor, grad_state: Tensor, want_y: bool
) -> ScanGrad:
    if data.u.device.type == "cpu":
        from rsfoundation.ops import scan_cpu

        return scan_cpu.backward(data, marks, grad_y, grad_state, want_y)
    return scan_torch.backward(data, marks, grad_y, grad_state, want_y)


@torch.library.custom_op("rsfoundation::selective_scan", mutates_args=())
def scan_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    softplus: bool,
    reverse: bool,
    initial_state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, last state and chunk marks."""
    operands = Operands(u, delta, A, B, C, D, z, bias)
    out, state, marks = _outputs(u, A)
    state.copy_(initial_state)
    for tokens, chunks in _blocks(u, reverse):
        part = operands.block(tokens)
        data = part.core(softplus, reverse)
        out[..., tokens], last, marks[:, :, chunks] = _finish(part, data, _core_forward(data, state))
        state.copy_(last)
    return out, state, marks


def _outputs(u: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate output, last state and chunk marks."""
    kind, (batch, channels, length) = state_type(u), u.shape
    state = u.new_empty(batch, channels, A.shape[1], dtype=kind)
    marks = u.new_empty(batch, channels, -(-length // CHUNK), A.shape[1], dtype=kind)
    return u.new_empty(u.shape), state, marks


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _outputs(u, A)


@torch.library.custom_op("rsfoundation::selective_scan_backward", mutates_args=())
def _scan_backward(
    grad_out: Tensor,
    grad_last: Tensor,
    marks: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    softplus: bool,
    reverse: bool,
) -> list[Tensor]:
    """Return the gradients of the operands and of the first state; absent operands have an empty one."""
    operands = Operands(u, delta, A, B, C, D, z, bias)
    grads = [u.new_zeros(0) if tensor is None else torch.zeros_like(tensor) for tensor in operands]
    shared = {i: torch.zeros_like(grads[i], dtype=marks.dtype) for i in (2, 5, 7)}  # A, D, bias
    flow = grad_last.to(marks.dtype)
    for tokens, chunks in reversed(list(_blocks(u, reverse))):
        part = operands.block(tokens)
        pieces, flow = _block_grads(part, softplus, reverse, marks[:, :, chunks], grad_out[..., tokens], flow)
        for index, piece in enumerate(pieces):
            if piece is None:
                continue
            if index in shared:
                shared[index] += piece
            else:
                grads[index][..., tokens] = piece
    for index, total in shared.items():
        grads[index].copy_(total)
    return [*grads, flow.clone()]


def _block_grads(
    operands: Operands, softplus: bool, reverse: bool, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """Return the gradients of one block in the order of ``Operands``, and that of the state before it."""
    data = operands.core(softplus, reverse)
    grad_out = grad_out.to(data.u)
    gate = None if operands.z is None else operands.z.to(data.u)
    grad_y = grad_out if gate is None else grad_out * F.silu(gate)
    core = _core_backward(data, marks, grad_y, grad_state, want_y=gate is not None)
    grad_u, y, grad_d, grad_z = core.u, core.y, None, None
    if operands.D is not None:
        skip = operands.D.to(grad_y)[:, None]
        grad_u = grad_u + grad_y * skip
        grad_d = (grad_y * data.u).sum((0, 2))
        y = y + data.u * skip if gate is not None else y
    if gate is not None:
        grad_z = torch.ops.aten.silu_backward(grad_out * y, gate)
    grad_dt = core.dt
    if softplus:
        grad_dt = torch.ops.aten.softplus_backward(grad_dt, operands.raw_steps(), 1.0, 20.0)
    grad_bias = None if operands.bias is None else grad_dt.sum((0, 2))
    grad_b, grad_c = core.b.transpose(2, 3), core.c.transpose(2, 3)
    return (grad_u, grad_dt, core.a, grad_b, grad_c, grad_d, grad_z, grad_bias), core.state


@_scan_backward.register_fake
def _(grad_out: Tensor, grad_last: Tensor, marks: Tensor, *rest: Any) -> list[Tensor]:
    operands = Operands(*rest[:8])
    grads = [operands.u.new_empty(0) if tensor is None else torch.empty_like(tensor) for tensor in operands]
    return [*grads, grad_last.new_empty(grad_last.shape, dtype=marks.dtype)]


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.softplus, ctx.reverse, initial_state = inputs
    ctx.state_type = initial_state.dtype
    ctx.save_for_backward(output[2], *tensors)


def _backward(ctx: Any, grad_out: Tensor, grad_last: Tensor, grad_marks: Tensor) -> tuple:
    marks, *tensors = ctx.saved_tensors
    grads = _scan_backward(grad_out, grad_last, marks, *tensors, ctx.softplus, ctx.reverse)
    *given, grad_state = (
        grad if needed else None
        for grad, needed in zip(grads, (*ctx.needs_input_grad[:8], ctx.needs_input_grad[10]), strict=True)
    )
    return *given, None, None, None if grad_state is None else grad_state.to(ctx.state_type)


scan_op.register_autograd(_backward, setup_context=_setup_context)
