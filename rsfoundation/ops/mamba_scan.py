"""The selective scan of Mamba-1 (Gu and Dao 2023, arXiv 2312.00752), forward and backward.

``h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t``,  ``y_t = C_t h_t + D u_t``,  ``out_t = y_t silu(z_t)``. B is
discretised by the Euler rule, as in ``mamba_ssm``. The state is carried in float32 (float64 for float64
input) whatever the type of the rest; memory is linear in the number of tokens.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor

from rsfoundation.ops import mamba_scan_torch
from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.mamba_scan_torch import CHUNK, Direction, Operands, new_output, state_type
from rsfoundation.ops.mmcv_ext import choice

_OLDEST_TRITON = Version("3.6")
_BLOCK_VALUES = 1 << 20  # values of one operand that are cast to the type of the state at once


def _implementation(u: Tensor) -> ModuleType:
    if u.device.type == "cpu":
        from rsfoundation.ops import mamba_scan_numba

        return mamba_scan_numba
    if u.device.type == "cuda" and _triton_is_usable():
        from rsfoundation.ops import mamba_scan_triton

        return mamba_scan_triton
    return mamba_scan_torch


@functools.cache
def _triton_is_usable() -> bool:
    """Return whether the kernels were tested with the installed Triton; 3.0 gives wrong numbers."""
    if importlib.util.find_spec("triton") is None:
        return False
    return Version(importlib.import_module("triton").__version__) >= _OLDEST_TRITON


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
    """Return output, last state and the states before each chunk.

    Args:
        u: As in ``Operands``, like all up to ``bias``.
        delta: Step sizes.
        A: Decay rates.
        B: Input weights.
        C: Output weights.
        D: Skip connection.
        z: Gate.
        bias: Added to ``delta``.
        softplus: Whether step sizes pass a softplus.
        reverse: Scan from the last token to the first.
        initial_state: ``(batch, channels, n)``.
    """
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


# written out: torch 2.4 infers no schema from ``list[Tensor]``
_BACKWARD_SCHEMA = (
    "(Tensor grad_out, Tensor grad_last, Tensor marks, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, "
    "Tensor? D, Tensor? z, Tensor? bias, bool softplus, bool reverse) -> Tensor[]"
)


@torch.library.custom_op("rsfoundation::selective_scan_backward", mutates_args=(), schema=_BACKWARD_SCHEMA)
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


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> Tensor:
    """Scan a batch of sequences.

    Args:
        u: ``(batch, channels, length)``; any length, also none.
        delta: Step sizes, like ``u``, before bias and softplus.
        A: ``(channels, n)``; negative, so that the state decays.
        B: ``(batch, n, length)``, or ``(batch, groups, n, length)`` with channels split over groups.
        C: Like ``B``.
        D: ``(channels,)``, the skip connection.
        z: Gate, like ``u``.
        delta_bias: ``(channels,)``.
        delta_softplus: Whether step sizes are ``softplus(delta + delta_bias)``.
        reverse: Scan from the last token to the first.
        initial_state: ``(batch, channels, n)``; zero when None.

    Returns:
        Like ``u``, in its type.

    Raises:
        OperatorInputError: Shapes that do not fit.
    """
    if not reverse and initial_state is None and (scan := _mamba(u)) is not None:
        return scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
    return scan_with_state(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse, initial_state)[0]


def _mamba(u: Tensor) -> Callable[..., Tensor] | None:
    """Return the kernel of ``mamba_ssm`` where it is installed, can run, and may (``RSF_OPS``).

    It has CUDA kernels for types up to float32, and neither traces nor exports.
    """
    if not u.is_cuda or u.dtype == torch.float64 or choice() == "builtin":
        return None
    if torch.compiler.is_compiling() or _exporting():
        return None
    if importlib.util.find_spec("mamba_ssm") is None:
        return None
    return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn


def scan_with_state(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    reverse: bool = False,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan a batch of sequences, and return the last state ``(batch, channels, n)`` as well.

    With that state as ``initial_state`` of the next call, a long sequence is scanned piece by piece; the
    result is the same wherever it is split.

    Args:
        u: As in ``selective_scan``, like all below.
        delta: Step sizes.
        A: Decay rates.
        B: Input weights.
        C: Output weights.
        D: Skip connection.
        z: Gate.
        delta_bias: Added to ``delta``.
        delta_softplus: Whether step sizes pass a softplus.
        reverse: Scan from the last token to the first.
        initial_state: ``(batch, channels, n)``; zero when None.
    """
    B, C = (tensor[:, None] if tensor.dim() == 3 else tensor for tensor in (B, C))
    _check_shapes(u, delta, A, B, C, (D, delta_bias), z)
    if initial_state is None:
        initial_state = A.new_zeros(u.shape[0], *A.shape, dtype=state_type(u))
    operands = Operands(u, delta, A, B, C, D, z, delta_bias)
    if _exporting():
        kind, direction = state_type(u), Direction(delta_softplus, reverse)
        out, state, _ = mamba_scan_torch.forward(operands.to(kind), direction, initial_state.to(kind))
        return out.to(u.dtype), state
    out, state, _ = scan_op(*operands, delta_softplus, reverse, initial_state)
    return out, state


def scan_both_ways(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Return the sum of the scans from either end.

    Nothing is flipped in memory.

    Args:
        u: As in ``selective_scan``, like all below.
        delta: Step sizes.
        A: Decay rates.
        B: Input weights.
        C: Output weights.
        D: Skip connection.
        z: Gate.
        delta_bias: Added to ``delta``.
        delta_softplus: Whether step sizes pass a softplus.
    """
    forth, back = (
        scan_with_state(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse)[0]
        for reverse in (False, True)
    )
    return forth + back


def _exporting() -> bool:
    """Return whether a graph of torch's own operators is exported; torch 2.4 cannot be asked."""
    asks = getattr(torch.compiler, "is_exporting", None)
    return torch.onnx.is_in_onnx_export() or (asks is not None and asks())


def _check_shapes(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    per_channel: tuple[Tensor | None, ...],
    z: Tensor | None,
) -> None:
    if u.dim() != 3 or A.dim() != 2 or B.dim() != 4:
        raise OperatorInputError(
            "selective_scan: expected u (b, i, l), A (i, n), B and C (b, n, l) or (b, g, n, l)"
        )
    batch, channels, length = u.shape
    wanted = (batch, B.shape[1], A.shape[1], length)
    fits = delta.shape == u.shape and A.shape[0] == channels and B.shape == C.shape == wanted
    fits = fits and channels % B.shape[1] == 0 and (z is None or z.shape == u.shape)
    if not fits or any(t is not None and t.shape != (channels,) for t in per_channel):
        shapes = ", ".join(str(tuple(t.shape)) for t in (u, delta, A, B, C))
        raise OperatorInputError(f"selective_scan: shapes of u, delta, A, B, C do not fit: {shapes}")
