"""The selective scan on the CPU: the recurrence in kernels, all that is elementwise in torch.

Kernels work on one row (image, channel) and one chunk of tokens at a time, whose decays and states stay in
the first cache. The state of a row enters each chunk from ``marks``, so that the backward pass can replay a
chunk without the states of all steps ever being in memory. Rows take turns block by block: ``b`` and ``c``
of the tokens, which they share, then stay in the second cache. Kernels are made for one size of state, so
that the loops over it have a fixed length.

Arrays that both kernels share: ``u`` and the step sizes ``dt`` are ``(rows, length)``, rows being images
times channels; ``a`` is ``(channels, size)``; ``tokens`` ``(images * groups * length, 2 size)`` holds B
and C, channels being split evenly over groups; ``work`` is what ``_allocate`` returns.

:class:`TokenScan` and :func:`causal_conv_silu` are the Mamba mixer between its projections, at inference.
Tokens stay as the linear layers around them have them, and lanes of a vector are channels: a step needs no
sum across lanes, and nothing is transposed. Both work on a span of tokens, so that a long sequence is mixed
piece by piece within the cache; the state goes from one piece to the next. Their kernel scans a block of
channels over the tokens; its states and decay rates stay in the first cache. All it works on is one array,
at offsets known when it is compiled, so that the compiler sees that nothing overlaps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.kernels.runtime import exp, fused_kernel, inlined, log1p, summing_kernel
from rsfoundation.ops.kernels.threads import run_chunks
from rsfoundation.ops.mamba_scan_torch import CHUNK, Direction, Operands, ScanGrad, ScanOutput, new_output

_BLOCK = 8  # chunks that a row scans before the next row has its turn
_DECAY = CHUNK + 1  # rows of `work`: the state before the chunk, CHUNK states, then CHUNK decays
_SOFTPLUS = (1, 20)  # beta, and the threshold above which softplus is the identity


def _allocate(size: int, kind: type) -> tuple[np.ndarray]:
    """Allocate the memory that one call of a kernel works in."""
    return (np.empty((_DECAY + CHUNK, size), kind),)


@lru_cache(maxsize=8)
def forward_kernel(size: int) -> Callable[..., None]:
    """Return the forward kernel for states of ``size`` numbers."""

    @summing_kernel
    def forward(
        u: np.ndarray,
        dt: np.ndarray,
        a: np.ndarray,
        tokens: np.ndarray,
        groups: int,
        reverse: bool,
        state: np.ndarray,
        y: np.ndarray,
        marks: np.ndarray,
        work: np.ndarray,
        start: int,
        stop: int,
    ) -> None:
        """Scan rows ``start..stop``.

        Args:
            u: As in the module, like all up to ``reverse``.
            dt: See ``u``.
            a: See ``u``.
            tokens: See ``u``.
            groups: See ``u``.
            reverse: See ``u``.
            state: ``(rows, size)``: on entry the state before the first step, on return that after the last.
            y: ``(rows, length)``, written.
            marks: ``(rows, chunks, size)``, written: the state before each chunk.
            work: See ``_allocate``.
            start: First row.
            stop: Row after the last.
        """
        channels, length, chunks = len(a), u.shape[1], marks.shape[1]
        for image in range(start // channels, (stop - 1) // channels + 1):
            for block in range(0, chunks, _BLOCK):
                for row in range(max(start, image * channels), min(stop, (image + 1) * channels)):
                    channel = row - image * channels
                    first = (image * groups + channel * groups // channels) * length
                    for chunk in range(block, min(block + _BLOCK, chunks)):
                        low, count = chunk * CHUNK, min(CHUNK, length - chunk * CHUNK)
                        for n in range(size):
                            marks[row, chunk, n] = work[0, n] = state[row, n]
                        for k in range(count):
                            step = dt[row, length - 1 - low - k if reverse else low + k]
                            for n in range(size):
                                work[_DECAY + k, n] = exp(step * a[channel, n])
                        for k in range(count):
                            t = length - 1 - low - k if reverse else low + k
                            drive = dt[row, t] * u[row, t]
                            total = drive - drive
                            for n in range(size):
                                s = work[_DECAY + k, n] * work[k, n] + drive * tokens[first + t, n]
                                work[k + 1, n] = s
                                total += s * tokens[first + t, size + n]
                            y[row, t] = total
                        for n in range(size):
                            state[row, n] = work[count, n]

    return forward


@lru_cache(maxsize=8)
def backward_kernel(size: int) -> Callable[..., None]:
    """Return the backward kernel for states of ``size`` numbers."""

    @summing_kernel
    def backward(
        u: np.ndarray,
        dt: np.ndarray,
        a: np.ndarray,
        tokens: np.ndarray,
        groups: int,
        reverse: bool,
        marks: np.ndarray,
        slope: np.ndarray,
        flow: np.ndarray,
        grads: np.ndarray,
        grad_a: np.ndarray,
        grad_tokens: np.ndarray,
        work: np.ndarray,
        start: int,
        stop: int,
    ) -> None:
        """Go back over the rows of the parts ``start..stop``; the rows are split evenly into parts.

        Args:
            u: As in the module, like all up to ``reverse``.
            dt: See ``u``.
            a: See ``u``.
            tokens: See ``u``.
            groups: See ``u``.
            reverse: See ``u``.
            marks: What ``forward`` left there.
            slope: ``(rows, length)``, the gradient of ``y``.
            flow: ``(rows, size)``: on entry the gradient of the last state, on return that of the first.
            grads: ``(3, rows, length)``, written: the gradients of ``u`` and ``dt``, and ``y`` once more.
            grad_a: ``(rows, size)``, added to.
            grad_tokens: ``(parts, *tokens.shape)``, added to: rows of one image share ``tokens``, so
                each part has its own.
            work: See ``_allocate``.
            start: First part.
            stop: Part after the last.
        """
        channels, length, chunks, parts = len(a), u.shape[1], marks.shape[1], len(grad_tokens)
        for part in range(start, stop):
            begin, end = len(u) * part // parts, len(u) * (part + 1) // parts
            for image in range(begin // channels, (end - 1) // channels + 1):
                for block in range((chunks - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
                    for row in range(max(begin, image * channels), min(end, (image + 1) * channels)):
                        channel = row - image * channels
                        first = (image * groups + channel * groups // channels) * length
                        for chunk in range(min(block + _BLOCK, chunks) - 1, block - 1, -1):
                            low, count = chunk * CHUNK, min(CHUNK, length - chunk * CHUNK)
                            for n in range(size):
                                work[0, n] = marks[row, chunk, n]
                            for k in range(count):
                                step = dt[row, length - 1 - low - k if reverse else low + k]
                                for n in range(size):
                                    work[_DECAY + k, n] = exp(step * a[channel, n])
                            for k in range(count):
                                t = length - 1 - low - k if reverse else low + k
                                drive = dt[row, t] * u[row, t]
                                for n in range(size):
                                    decayed = work[_DECAY + k, n] * work[k, n]
                                    work[k + 1, n] = decayed + drive * tokens[first + t, n]
                            for k in range(count - 1, -1, -1):
                                t = length - 1 - low - k if reverse else low + k
                                step, rise = dt[row, t], slope[row, t]
                                drive = step * u[row, t]
                                total = through_decay = through_drive = rise - rise
                                for n in range(size):
                                    s, c = work[k + 1, n], tokens[first + t, size + n]
                                    whole = flow[row, n] + rise * c
                                    passed = whole * work[_DECAY + k, n]
                                    of_exponent = passed * work[k, n]
                                    grad_tokens[part, first + t, size + n] += rise * s
                                    grad_tokens[part, first + t, n] += whole * drive
                                    flow[row, n] = passed
                                    grad_a[row, n] += of_exponent * step
                                    total += s * c
                                    through_decay += of_exponent * a[channel, n]
                                    through_drive += whole * tokens[first + t, n]
                                grads[0, row, t] = step * through_drive
                                grads[1, row, t] = u[row, t] * through_drive + through_decay
                                grads[2, row, t] = total

    return backward


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan a sequence.

    Args:
        operands: Of one floating type.
        direction: How to scan.
        state: ``(batch, channels, n)``, before the first step.
    """
    size = operands.A.shape[1]
    result = new_output(operands.u, size)
    result.state.copy_(state)
    _, dt = _steps(operands, direction)
    targets = [_rows(tensor) for tensor in (result.state, result.out, result.marks)]
    args = (*_arrays(operands, dt), direction.reverse, *targets)
    kernel, work = forward_kernel(size), _scratch(size, targets[1])
    run_chunks(kernel, len(targets[1]), *args, grain=4, pieces=2, scratch=work)
    _add_skip(result.out, operands)
    if operands.z is not None:
        result.out.mul_(F.silu(operands.z))
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
    u, z, size = operands.u, operands.z, operands.A.shape[1]
    raw, dt = _steps(operands, direction)
    arrays = _arrays(operands, dt)
    rows = len(arrays[0])
    parts = max(1, min(torch.get_num_threads(), rows))
    slope = grad_out if z is None else grad_out * F.silu(z)
    flow = grad_state.clone(memory_format=torch.contiguous_format)
    grads, of_a = u.new_empty(3, *u.shape), u.new_zeros(*u.shape[:2], size)
    of_tokens = u.new_zeros(parts, *arrays[3].shape)
    targets = (_rows(marks), _rows(slope), _rows(flow), grads.flatten(1, 2).numpy(), _rows(of_a))
    args = (*arrays, direction.reverse, *targets, of_tokens.numpy())
    run_chunks(backward_kernel(size), parts, *args, scratch=_scratch(size, arrays[0]))
    of_u, of_step, y = grads
    if direction.softplus:
        of_step = torch.ops.aten.softplus_backward(of_step, raw, *_SOFTPLUS)
    of_gate = None if z is None else torch.ops.aten.silu_backward(_add_skip(y, operands).mul_(grad_out), z)
    if operands.D is not None:
        of_u.addcmul_(slope, operands.D[:, None])
    of_b, of_c = of_tokens.sum(0).view(*operands.B.shape[:2], u.shape[2], -1).transpose(2, 3).split(size, 2)
    given = (
        of_u,
        of_step,
        of_a.sum(0),
        of_b,
        of_c,
        None if operands.D is None else (slope * u).sum((0, 2)),
        of_gate,
        None if operands.bias is None else of_step.sum((0, 2)),
    )
    return ScanGrad(given, flow)


def _steps(operands: Operands, direction: Direction) -> tuple[Tensor, Tensor]:
    """Return step sizes before and after the softplus."""
    raw = operands.delta if operands.bias is None else operands.delta + operands.bias[:, None]
    return raw, F.softplus(raw, *_SOFTPLUS) if direction.softplus else raw


def _add_skip(y: Tensor, operands: Operands) -> Tensor:
    return y if operands.D is None else y.addcmul_(operands.u, operands.D[:, None])


def _scratch(size: int, like: np.ndarray) -> "partial[tuple[np.ndarray]]":
    return partial(_allocate, size, like.dtype.type)


def _rows(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().flatten(0, 1).numpy()


def _arrays(operands: Operands, dt: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return u, step sizes, A, tokens and the number of groups as the kernels take them."""
    tokens = torch.cat([operands.B, operands.C], 2).transpose(2, 3).contiguous().flatten(0, 2)
    a, groups = operands.A.contiguous().numpy(), operands.B.shape[1]
    return _rows(operands.u), _rows(dt), a, tokens.numpy(), groups


_LANES = 64  # channels of a block
_UNROLL = 4  # states computed in one pass over the channels
_TOKENS_PER_TASK = 256
_ROWS = 5  # rows of one number per channel that a block works on
_LOG2_E = np.float32(1 / math.log(2))
_ZERO, _ONE = np.float32(0), np.float32(1)
_LOWEST, _BIAS, _BIAS_AND_HALF = np.float32(-126), np.float32(127), np.float32(127.5)
# Polynomial of (2^r - 1) / r on [-0.5, 0.5] (Cephes, exp2f), highest power first.
_P0, _P1 = np.float32(1.535336188319500e-4), np.float32(1.339887440266574e-3)
_P2, _P3 = np.float32(9.618437357674640e-3), np.float32(5.550332471162809e-2)
_P4, _P5 = np.float32(2.402264791363012e-1), np.float32(6.931472028550421e-1)


@inlined
def _exp2(x: Any) -> Any:
    """Return 2^x for x <= 0, in float32 within 2 units in the last place; 2^-126 below that."""
    near = max(x, _LOWEST)
    power = np.int32(near + _BIAS_AND_HALF)  # biased, thus positive: dropping the fraction rounds
    r = near - (np.float32(power) - _BIAS)
    tail = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    return (tail * r + _ONE) * np.int32(power << np.int32(23)).view(np.float32)


@lru_cache(maxsize=8)
def _scan_kernel(size: int) -> Callable[..., None]:
    """Return the scan of a block of channels for states of ``size`` numbers, a multiple of ``_UNROLL``."""
    # Offsets in `work`; states are at 0.
    rates = size * _LANES
    steps, drives, sums, biases, skips = (2 * size * _LANES + part * _LANES for part in range(_ROWS))

    @fused_kernel
    def scan(
        u: np.ndarray,
        delta: np.ndarray,
        bias: np.ndarray,
        a: np.ndarray,
        tokens: np.ndarray,
        d: np.ndarray,
        reverse: bool,
        add: bool,
        state: np.ndarray,
        y: np.ndarray,
        first: int,
        work: np.ndarray,
        start: int,
        stop: int,
    ) -> None:
        """Scan the blocks ``start..stop`` of all images, from the first token of a span or from its last.

        ``state`` (blocks of all images, size * lanes) is read and written; ``first`` is the place in ``y`` of
        the first token of ``u``.
        """
        length, channels = u.shape[1], u.shape[2]
        blocks = (channels + _LANES - 1) // _LANES
        for block in range(start, stop):
            image, low = block // blocks, block % blocks * _LANES
            count = min(_LANES, channels - low)
            work[rates:] = _ZERO
            for i in range(size * _LANES):
                work[i] = state[block, i]
            for c in range(count):
                work[biases + c], work[skips + c] = bias[low + c], d[low + c]
                for n in range(size):
                    work[rates + n * _LANES + c] = a[n, low + c]
            for k in range(length):
                t = length - 1 - k if reverse else k
                # Indices from 0 on: the compiler need not think of negative ones.
                u_row, delta_row = u[image, t, low : low + count], delta[image, t, low : low + count]
                y_row = y[image, first + t, low : low + count]
                for c in range(count):
                    raw = delta_row[c] + work[biases + c]
                    step = max(raw, _ZERO) + log1p(_exp2(-abs(raw) * _LOG2_E))
                    work[steps + c] = step
                    work[drives + c] = step * u_row[c]
                    work[sums + c] = work[skips + c] * u_row[c]
                for n in range(0, size, _UNROLL):
                    at = n * _LANES
                    b0, b1 = tokens[image, t, n], tokens[image, t, n + 1]
                    b2, b3 = tokens[image, t, n + 2], tokens[image, t, n + 3]
                    c0, c1 = tokens[image, t, size + n], tokens[image, t, size + n + 1]
                    c2, c3 = tokens[image, t, size + n + 2], tokens[image, t, size + n + 3]
                    for c in range(_LANES):
                        step, drive = work[steps + c], work[drives + c]
                        i0, i1, i2, i3 = at + c, at + _LANES + c, at + 2 * _LANES + c, at + 3 * _LANES + c
                        s0 = _exp2(step * work[rates + i0]) * work[i0] + drive * b0
                        s1 = _exp2(step * work[rates + i1]) * work[i1] + drive * b1
                        s2 = _exp2(step * work[rates + i2]) * work[i2] + drive * b2
                        s3 = _exp2(step * work[rates + i3]) * work[i3] + drive * b3
                        work[i0], work[i1], work[i2], work[i3] = s0, s1, s2, s3
                        work[sums + c] += s0 * c0 + s1 * c1 + s2 * c2 + s3 * c3
                if add:
                    for c in range(count):
                        y_row[c] += work[sums + c]
                else:
                    for c in range(count):
                        y_row[c] = work[sums + c]
            for i in range(size * _LANES):
                state[block, i] = work[i]

    return scan


@fused_kernel
def _convolve(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    reverse: bool,
    first: int,
    out: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Convolve the tokens ``start..stop`` of a span, counted over all images, and apply SiLU."""
    length, span, channels = x.shape[1], out.shape[1], weight.shape[1]
    for token in range(start, stop):
        image, t = token // span, first + token % span
        row = out[image, t - first]
        for c in range(channels):
            row[c] = bias[c]
        for k in range(len(weight)):
            distance = len(weight) - 1 - k
            s = t + distance if reverse else t - distance
            if 0 <= s < length:
                taps, seen = weight[k], x[image, s, :channels]
                for c in range(channels):
                    row[c] += taps[c] * seen[c]
        for c in range(channels):
            value = row[c]
            small = _exp2(-abs(value) * _LOG2_E)
            row[c] = value * (_ONE if value >= _ZERO else small) / (_ONE + small)


def causal_conv_silu(
    x: Tensor, weight: Tensor, bias: Tensor | None, reverse: bool = False, span: slice | None = None
) -> Tensor:
    """Depth-wise convolution along the tokens that sees the past only, then SiLU.

    Args:
        x: ``(B, L, W)``, contiguous, in float32 on the CPU; the first C of its W channels are convolved.
        weight: ``(C, 1, K)``, as a ``Conv1d`` has it.
        bias: ``(C,)`` or None.
        reverse: The past are the later tokens.
        span: Tokens to compute; all when None.

    Returns:
        ``(B, tokens of the span, C)``.
    """
    start, stop, _ = (span or slice(None)).indices(x.shape[1])
    out = torch.empty((len(x), stop - start, len(weight)), dtype=x.dtype)
    taps = weight[:, 0].T.contiguous()
    shift = torch.zeros(len(weight)) if bias is None else bias
    arrays = (x.contiguous().numpy(), taps.numpy(), shift.numpy(), reverse, start, out.numpy())
    run_chunks(_convolve, out.shape[0] * out.shape[1], *arrays, grain=_TOKENS_PER_TASK)
    return out


@dataclass(frozen=True)
class TokenScan:
    """A selective scan with softplus steps, as ``selective_scan`` computes it, on channels-last tokens.

    All tensors are in float32 on the CPU.

    Attributes:
        A: ``(C, N)``, negative.
        D: ``(C,)``, the skip connection.
        delta_bias: ``(C,)``, added to the step sizes before the softplus.
        reverse: Scan from the last token to the first.
    """

    A: Tensor
    D: Tensor
    delta_bias: Tensor
    reverse: bool = False

    def start(self, batch: int) -> Tensor:
        """Return the state before the first token of ``batch`` sequences."""
        channels, size = self.A.shape
        blocks, states = -(-channels // _LANES), size + -size % _UNROLL
        return torch.zeros(batch * blocks, states * _LANES)

    def run(
        self, u: Tensor, delta: Tensor, tokens: Tensor, state: Tensor, out: Tensor, first: int, add: bool
    ) -> None:
        """Scan a span of tokens; the state is updated in place.

        Args:
            u: ``(B, T, C)``.
            delta: Step sizes before bias and softplus, like ``u``.
            tokens: B and C of every token, ``(B, T, 2 N)``.
            state: Result of :meth:`start`, or as the span before left it.
            out: ``(B, L, C)``, contiguous; the result is written there.
            first: Place in ``out`` of the first token of the span.
            add: Add the result to what ``out`` holds.
        """
        size = self.A.shape[1]
        padding = -size % _UNROLL
        if padding:  # states that stay zero
            tokens = F.pad(tokens.unflatten(-1, (2, size)), (0, padding)).flatten(-2)
        rates = F.pad(self.A.T / math.log(2), (0, 0, 0, padding)).contiguous()
        operands = (u, delta, self.delta_bias, rates, tokens, self.D)
        arrays = (operand.numpy() for operand in operands)
        places = (self.reverse, add, state.numpy(), out.numpy(), first)
        size += padding
        scratch = partial(_allocate_block, (2 * size + _ROWS) * _LANES)
        run_chunks(_scan_kernel(size), len(state), *arrays, *places, pieces=2, scratch=scratch)


def _allocate_block(values: int) -> tuple[np.ndarray]:
    return (np.empty(values, np.float32),)
