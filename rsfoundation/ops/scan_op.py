"""The selective scan as an operator of torch, which compiled graphs call and autograd differentiates."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops import scan_torch
from rsfoundation.ops.scan_core import ScanGrad, ScanInput, ScanOutput


def exporting() -> bool:
    """Tell whether a graph without operators of ours is wanted; torch 2.4 knows no such question."""
    asks = getattr(torch.compiler, "is_exporting", None)
    return torch.onnx.is_in_onnx_export() or (asks is not None and asks())


def state_type(u: Tensor) -> torch.dtype:
    """Return the type the scan computes in."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def _input(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    bias: Tensor | None,
    softplus: bool,
    reverse: bool,
) -> ScanInput:
    """Bring everything to the type of the state, and B and C to ``(b, groups, l, n)``."""
    kind = state_type(u)
    dt = _raw_steps(delta, bias, kind)
    b, c = (tensor.to(kind).transpose(2, 3) for tensor in (B, C))
    return ScanInput(u.to(kind), F.softplus(dt) if softplus else dt, A.to(kind), b, c, reverse)


def _raw_steps(delta: Tensor, bias: Tensor | None, kind: torch.dtype) -> Tensor:
    return delta.to(kind) if bias is None else delta.to(kind) + bias.to(kind)[:, None]


def scan_plainly(
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
    """Return output, last state and chunk marks; arguments as in ``scan_with_state``."""
    data = _input(u, delta, A, B, C, bias, softplus, reverse)
    y, state, marks = _core_forward(data, initial_state.to(data.u))
    if D is not None:
        y = y + data.u * D.to(y)[:, None]
    if z is not None:
        y = y * F.silu(z.to(y))
    return y.to(u.dtype), state, marks


def _core_forward(data: ScanInput, state: Tensor) -> ScanOutput:
    if data.u.device.type == "cpu" and not exporting():
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
    """The forward pass as an operator."""
    return scan_plainly(u, delta, A, B, C, D, z, bias, softplus, reverse, initial_state)


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    kind, (batch, channels, length) = state_type(u), u.shape
    chunks = -(-length // scan_torch.CHUNK)
    state = u.new_empty(batch, channels, A.shape[1], dtype=kind)
    return torch.empty_like(u), state, u.new_empty(batch, channels, chunks, A.shape[1], dtype=kind)


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
    data = _input(u, delta, A, B, C, bias, softplus, reverse)
    grad_y = grad_out.to(data.u)
    if z is not None:
        grad_y = grad_y * F.silu(z.to(grad_y))
    core = _core_backward(data, marks, grad_y, grad_last.to(data.u), want_y=z is not None)
    grad_d = None if D is None else torch.einsum("bil,bil->i", grad_y, data.u)
    if D is not None:
        core.u.addcmul_(grad_y, D.to(grad_y)[:, None])
    del grad_y
    grad_z = None if z is None else _gate_grad(core.y, data.u, D, grad_out, z)
    grad_dt = core.dt
    if softplus:
        grad_dt = torch.ops.aten.softplus_backward(grad_dt, _raw_steps(delta, bias, grad_dt.dtype), 1.0, 20.0)
    grad_bias = None if bias is None else grad_dt.sum((0, 2))
    grads = (core.u, grad_dt, core.a, core.b.transpose(2, 3), core.c.transpose(2, 3))
    wholes = [*grads, grad_d, grad_z, grad_bias, core.state]
    likes = [u, delta, A, B, C, D, z, bias, core.state]
    return [_like(grad, like, u) for grad, like in zip(wholes, likes, strict=True)]


def _gate_grad(y: Tensor, u: Tensor, D: Tensor | None, grad_out: Tensor, z: Tensor) -> Tensor:
    if D is not None:
        y = y.addcmul_(u, D.to(y)[:, None])
    return torch.ops.aten.silu_backward(y.mul_(grad_out.to(y)), z.to(y))


def _like(grad: Tensor | None, like: Tensor | None, some: Tensor) -> Tensor:
    """Cast a gradient to the type of its tensor; an operator cannot return None, so absent ones are empty."""
    return some.new_empty(0) if grad is None or like is None else grad.to(like.dtype).contiguous()


@_scan_backward.register_fake
def _(grad_out: Tensor, grad_last: Tensor, marks: Tensor, *rest: Any) -> list[Tensor]:
    u = rest[0]
    tensors = [u.new_empty(0) if t is None else t.new_empty(t.shape) for t in rest[:8]]
    return [*tensors, torch.empty_like(grad_last, dtype=state_type(u))]


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
