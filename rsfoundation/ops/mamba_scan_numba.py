"""The selective scan on the CPU: the recurrence in kernels, all that is elementwise in torch.

Kernels work on one row (image, channel) and one chunk of tokens at a time, whose decays and states stay in
the first cache. The state of a row enters each chunk from ``marks``, so that the backward pass can replay a
chunk without the states of all steps ever being in memory. Rows take turns block by block: ``b`` and ``c``
of the tokens, which they share, then stay in the second cache. Kernels are made for one size of state, so
that the loops over it have a fixed length.

Arrays that both kernels share: ``u`` and the step sizes ``dt`` are ``(rows, length)``, rows being images
times channels; ``a`` is ``(channels, size)``; ``tokens`` ``(images * groups * length, 2 size)`` holds B
and C, channels being split evenly over groups; ``work`` is what ``_allocate`` returns.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.kernels.runtime import exp, summing_kernel
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
