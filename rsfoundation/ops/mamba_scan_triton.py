"""The selective scan on a GPU, in Triton: one program per image and channel, one chunk of tokens at a time.

Within a chunk all states come from an associative scan over pairs (decay, addend); between chunks the
state stays in registers. The backward pass replays a chunk from the state before it. ``CHUNK`` and
``STATES`` are powers of two; places beyond the true sizes hold steps that change nothing.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rsfoundation.ops.mamba_scan_torch import CHUNK, Direction, Operands, ScanGrad, ScanOutput, new_output

# Triton reads annotations as its own.
# ruff: noqa: ANN001, ANN202
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False


@triton.jit
def _combine(decay_a, total_a, decay_b, total_b):
    """Apply step a, then step b."""
    return decay_a * decay_b, total_a * decay_b + total_b


@triton.jit
def _steps(delta, base, bias, place, there, SOFT: tl.constexpr):
    """Return the step sizes at some places, zero where there is none, and their raw values."""
    raw = tl.load(delta + base + place, mask=there, other=0.0) + bias
    step = raw
    if SOFT:
        small = tl.exp(-tl.abs(raw))
        s = small / (small + 2)
        q = s * s
        # log(1 + small) = 2 artanh(s); the first term of the series that is left out is below 1e-9.
        tail = ((q / 15 + 1 / 13) * q + 1 / 11) * q + 1 / 9
        series = (((tail * q + 1 / 7) * q + 1 / 5) * q + 1 / 3) * q + 1
        step = tl.where(raw > 20, raw, tl.maximum(raw, 0.0) + 2 * s * series)
    return tl.where(there, step, 0.0), raw


@triton.jit
def _place(at, length, REVERSE: tl.constexpr):
    """Return the positions in memory of the steps ``at`` of the scan."""
    place = at
    if REVERSE:
        place = length - 1 - at
    return place


@triton.jit
def _scan_forward(
    u, delta, z, a, b, c, skip, bias, state, out, marks, channels, groups, length, size, chunks,
    SOFT: tl.constexpr, GATED: tl.constexpr, SKIP: tl.constexpr, BIAS: tl.constexpr, REVERSE: tl.constexpr,
    CHUNK: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Scan one row. Layouts as in ``mamba_scan_torch``; ``state`` and ``marks`` are written."""
    row = tl.program_id(0).to(tl.int64)
    image, channel = row // channels, row % channels
    n, local = tl.arange(0, STATES), tl.arange(0, CHUNK)
    rates = tl.load(a + channel * size + n, mask=n < size, other=0.0)
    h = tl.load(state + row * size + n, mask=n < size, other=0.0)
    shift = tl.load(bias + channel) if BIAS else 0.0
    shared = (image * groups + channel * groups // channels) * size * length
    for chunk in range(0, chunks):
        at = chunk * CHUNK + local
        there, place = at < length, _place(at, length, REVERSE)
        tl.store(marks + (row * chunks + chunk) * size + n, h, mask=n < size)
        step, _ = _steps(delta, row * length, shift, place, there, SOFT)
        value = tl.load(u + row * length + place, mask=there, other=0.0)
        tokens = shared + n[None, :] * length + place[:, None]
        full = there[:, None] & (n < size)[None, :]
        decay = tl.exp(step[:, None] * rates[None, :])
        drive = (step * value)[:, None] * tl.load(b + tokens, mask=full, other=0.0)
        reach, total = tl.associative_scan((decay, drive), 0, _combine)
        states = total + reach * h[None, :]
        y = tl.sum(states * tl.load(c + tokens, mask=full, other=0.0), 1)
        if SKIP:
            y += tl.load(skip + channel) * value
        if GATED:
            gate = tl.load(z + row * length + place, mask=there, other=0.0)
            y *= gate / (1 + tl.exp(-gate))
        tl.store(out + row * length + place, y, mask=there)
        h = tl.sum(tl.where((local == CHUNK - 1)[:, None], states, 0.0), 0)
    tl.store(state + row * size + n, h, mask=n < size)


@triton.jit
def _scan_backward(
    u, delta, z, a, b, c, skip, bias, marks, grad_out, flow,
    grad_u, grad_delta, grad_z, grad_a, grad_b, grad_c, grad_skip, grad_bias,
    channels, groups, length, size, chunks,
    SOFT: tl.constexpr, GATED: tl.constexpr, SKIP: tl.constexpr, BIAS: tl.constexpr, REVERSE: tl.constexpr,
    CHUNK: tl.constexpr, STATES: tl.constexpr,
):  # fmt: skip
    """Go back over one row.

    ``flow`` (rows, size) holds the gradient of the last state and is overwritten with that of the first.
    ``grad_a`` (rows, size), ``grad_skip`` and ``grad_bias`` (rows,) are written row by row; rows that
    share tokens add to ``grad_b`` and ``grad_c`` atomically, in no fixed order.
    """
    row = tl.program_id(0).to(tl.int64)
    image, channel = row // channels, row % channels
    n, local = tl.arange(0, STATES), tl.arange(0, CHUNK)
    rates = tl.load(a + channel * size + n, mask=n < size, other=0.0)
    g_state = tl.load(flow + row * size + n, mask=n < size, other=0.0)
    shift = tl.load(bias + channel) if BIAS else 0.0
    shared = (image * groups + channel * groups // channels) * size * length
    of_a, of_skip, of_bias = rates * 0, tl.sum(rates * 0), tl.sum(rates * 0)
    for back in range(0, chunks):
        chunk = chunks - 1 - back
        at = chunk * CHUNK + local
        there, place = at < length, _place(at, length, REVERSE)
        mark = tl.load(marks + (row * chunks + chunk) * size + n, mask=n < size, other=0.0)
        step, raw = _steps(delta, row * length, shift, place, there, SOFT)
        value = tl.load(u + row * length + place, mask=there, other=0.0)
        tokens = shared + n[None, :] * length + place[:, None]
        full = there[:, None] & (n < size)[None, :]
        b_here, c_here = tl.load(b + tokens, mask=full, other=0.0), tl.load(c + tokens, mask=full, other=0.0)
        decay = tl.exp(step[:, None] * rates[None, :])
        # The state before each step: the same scan, over the steps before; the first has none.
        earlier = (local > 0) & (at - 1 < length)
        place_before = _place(at - 1, length, REVERSE)
        step_before, _ = _steps(delta, row * length, shift, place_before, earlier, SOFT)
        value_before = tl.load(u + row * length + place_before, mask=earlier, other=0.0)
        tokens_before = shared + n[None, :] * length + place_before[:, None]
        b_before = tl.load(b + tokens_before, mask=earlier[:, None] & (n < size)[None, :], other=0.0)
        drive_before = (step_before * value_before)[:, None] * b_before
        reach, total = tl.associative_scan(
            (tl.exp(step_before[:, None] * rates[None, :]), drive_before), 0, _combine
        )
        before = total + reach * mark[None, :]
        states = decay * before + (step * value)[:, None] * b_here
        # The gradient of the output before the gate, and that of the gate.
        slope = tl.load(grad_out + row * length + place, mask=there, other=0.0)
        if GATED:
            gate = tl.load(z + row * length + place, mask=there, other=0.0)
            opened = 1 / (1 + tl.exp(-gate))
            y = tl.sum(states * c_here, 1)
            if SKIP:
                y += tl.load(skip + channel) * value
            of_gate = slope * y * opened * (1 + gate * (1 - opened))
            tl.store(grad_z + row * length + place, of_gate, mask=there)
            slope *= gate * opened
        # The gradient of each state: a scan from the other end, over the decays of the steps after.
        later = (local < CHUNK - 1) & (at + 1 < length)
        step_after, _ = _steps(delta, row * length, shift, _place(at + 1, length, REVERSE), later, SOFT)
        reach, total = tl.associative_scan(
            (tl.exp(step_after[:, None] * rates[None, :]), slope[:, None] * c_here), 0, _combine, reverse=True
        )
        g = total + reach * g_state[None, :]
        tl.atomic_add(grad_c + tokens, slope[:, None] * states, mask=full)
        tl.atomic_add(grad_b + tokens, g * (step * value)[:, None], mask=full)
        through_drive = tl.sum(g * b_here, 1)
        of_exponent = g * decay * before
        of_step = value * through_drive + tl.sum(of_exponent * rates[None, :], 1)
        of_u = step * through_drive
        if SKIP:
            of_u += tl.load(skip + channel) * slope
            of_skip += tl.sum(slope * value)
        if SOFT:
            of_step = tl.where(raw > 20, of_step, of_step / (1 + tl.exp(-raw)))
        tl.store(grad_u + row * length + place, of_u, mask=there)
        tl.store(grad_delta + row * length + place, of_step, mask=there)
        of_a += tl.sum(of_exponent * step[:, None], 0)
        of_bias += tl.sum(tl.where(there, of_step, 0.0))
        g_state = tl.sum(tl.where((local == 0)[:, None], g * decay, 0.0), 0)
    tl.store(flow + row * size + n, g_state, mask=n < size)
    tl.store(grad_a + row * size + n, of_a, mask=n < size)
    tl.store(grad_skip + row, of_skip)
    tl.store(grad_bias + row, of_bias)


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan a sequence.

    Args:
        operands: Of one floating type.
        direction: How to scan.
        state: ``(batch, channels, n)``, before the first step.
    """
    dense = _dense(operands)
    result = new_output(dense.u, dense.A.shape[1])
    result.state.copy_(state)
    if result.marks.numel():
        tensors = (*_pointers(dense), result.state, result.out, result.marks)
        _launch(_scan_forward, dense, direction, tensors)
    return result


def backward(
    operands: Operands, direction: Direction, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> ScanGrad:
    """Return the gradients.

    Args:
        operands: As in the forward pass.
        direction: As in the forward pass.
        marks: The states before each chunk, from the forward pass.
        grad_out: Gradient of the output.
        grad_state: Gradient of the last state.
    """
    dense = _dense(operands)
    u, (batch, channels, _) = dense.u, dense.u.shape
    flow = grad_state.clone(memory_format=torch.contiguous_format)
    of_u, of_delta = torch.empty_like(u), torch.empty_like(u)
    of_gate = of_u if dense.z is None else torch.empty_like(u)
    of_a, of_tokens = (
        u.new_zeros(batch, *dense.A.shape),
        (torch.zeros_like(dense.B), torch.zeros_like(dense.C)),
    )
    of_skip, of_bias = u.new_zeros(batch, channels), u.new_zeros(batch, channels)
    if marks.numel():
        given = (*_pointers(dense), marks.contiguous(), grad_out.contiguous(), flow)
        taken = (of_u, of_delta, of_gate, of_a, *of_tokens, of_skip, of_bias)
        _launch(_scan_backward, dense, direction, (*given, *taken))
    grads = (
        of_u,
        of_delta,
        of_a.sum(0),
        *of_tokens,
        None if dense.D is None else of_skip.sum(0),
        None if dense.z is None else of_gate,
        None if dense.bias is None else of_bias.sum(0),
    )
    return ScanGrad(grads, flow)


def _dense(operands: Operands) -> Operands:
    return Operands._make(None if tensor is None else tensor.contiguous() for tensor in operands)


def _pointers(operands: Operands) -> tuple[Tensor, ...]:
    """Return the tensors in the kernels' order; ``u`` replaces an absent one, which is never read."""
    u, delta, a, b, c, skip, z, bias = operands
    skip, z, bias = (u if tensor is None else tensor for tensor in (skip, z, bias))
    return u, delta, z, a, b, c, skip, bias


def _launch(kernel: Any, operands: Operands, direction: Direction, tensors: tuple[Tensor, ...]) -> None:
    batch, channels, length = operands.u.shape
    size, groups = operands.A.shape[1], operands.B.shape[1]
    kernel[(batch * channels,)](
        *tensors,
        channels,
        groups,
        length,
        size,
        -(-length // CHUNK),
        SOFT=direction.softplus,
        GATED=operands.z is not None,
        SKIP=operands.D is not None,
        BIAS=operands.bias is not None,
        REVERSE=direction.reverse,
        CHUNK=CHUNK,
        STATES=1 << (size - 1).bit_length(),
        num_warps=1,  # a chunk of 64 steps and 16 states keeps 32 lanes busy
    )
