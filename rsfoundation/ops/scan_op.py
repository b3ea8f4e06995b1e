"""The selective scan as an operator of torch, which compiled graphs call and autograd differentiates."""

import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rsfoundation.ops import scan_torch
from rsfoundation.ops.scan_core import CHUNK, Direction, Operands, new_output, state_type

_BLOCK_VALUES = 1 << 20  # values of one operand that are cast to the type of the state at once


def _implementation(u: Tensor) -> ModuleType:
    if u.device.type == "cpu":
        from rsfoundation.ops import scan_cpu  # loads numba

        return scan_cpu
    if u.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from rsfoundation.ops import scan_triton

        return scan_triton
    return scan_torch


def _blocks(u: Tensor, reverse: bool) -> Iterator[tuple[slice, slice]]:
    """Yield tokens and their chunk marks in the order of the scan: all at once unless they need a cast."""
    batch, channels, length = u.shape
    chunks = max(1, _BLOCK_VALUES // (max(batch * channels, 1) * CHUNK))
    size = max(length, 1) if u.dtype == state_type(u) else chunks * CHUNK
    for start in range(0, length, size):
        stop = min(start + size, length)
        tokens = slice(length - stop, length - start) if reverse else slice(start, stop)
        yield tokens, slice(start // CHUNK, -(-stop // CHUNK))


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
    operands, direction = Operands(u, delta, A, B, C, D, z, bias), Direction(softplus, reverse)
    kind, compute = state_type(u), _implementation(u).forward
    blocks = list(_blocks(u, reverse))
    if len(blocks) == 1:
        out, state, marks = compute(operands.to(kind), direction, initial_state.to(kind))
        return out.to(u.dtype), state, marks
    result = new_output(u, A.shape[1])
    result.state.copy_(initial_state)
    for tokens, chunks in blocks:
        part = compute(operands.block(tokens).to(kind), direction, result.state)
        result.out[..., tokens], result.marks[:, :, chunks] = part.out, part.marks
        result.state.copy_(part.state)
    return result.out, result.state, result.marks


@scan_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    result = new_output(u, A.shape[1])
    return result.out, result.state, result.marks


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
    operands, direction = Operands(u, delta, A, B, C, D, z, bias), Direction(softplus, reverse)
    kind, compute = state_type(u), _implementation(u).backward
    totals, flow = _empty_grads(operands), grad_last.to(kind)
    shared = {2: A, 5: D, 7: bias}  # operands without tokens, by place: their blocks add up
    sums = {i: torch.zeros_like(like, dtype=kind) for i, like in shared.items() if like is not None}
    for tokens, chunks in reversed(list(_blocks(u, reverse))):
        slope, part = grad_out[..., tokens].to(kind), operands.block(tokens).to(kind)
        grads, flow = compute(part, direction, marks[:, :, chunks], slope, flow)
        for index, grad in enumerate(grads):
            if index in sums:
                sums[index] += grad
            elif grad is not None:
                totals[index][..., tokens] = grad
    for index, total in sums.items():
        totals[index].copy_(total)
    return [*totals, flow.clone()]


def _empty_grads(operands: Operands) -> list[Tensor]:
    return [operands.u.new_empty(0) if t is None else t.new_empty(t.shape) for t in operands]


@_scan_backward.register_fake
def _(grad_out: Tensor, grad_last: Tensor, marks: Tensor, *rest: Any) -> list[Tensor]:
    return [*_empty_grads(Operands(*rest[:8])), grad_last.new_empty(grad_last.shape, dtype=marks.dtype)]


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
