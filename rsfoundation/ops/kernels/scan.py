"""The selective scan, one row (image, channel) and one chunk of tokens at a time.

A chunk's decays and states stay in the first cache. The state of a row enters each chunk from ``marks``,
so that the backward pass can replay a chunk without the states of all steps ever being in memory.
Rows take turns block by block: the tokens' ``b`` and ``c``, which they share, then stay in the second
cache. Optional arrays are empty when absent.
"""

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp, sigmoid, softplus
from rsfoundation.ops.kernels.jit import summing_kernel
from rsfoundation.ops.scan_core import CHUNK

_BLOCK = 8  # chunks that a row scans before the next row has its turn
_STEP, _DRIVE, _Y, _SLOPE, _GRAD_STEP, _GRAD_U = range(6)  # rows of a chunk's scratch, by local token


@summing_kernel
def _load(
    u: np.ndarray, delta: np.ndarray, bias: np.ndarray, channel: int, soft: bool, scratch: np.ndarray
) -> None:
    """Write the step sizes of a chunk, and their products with ``u``."""
    one = u.dtype.type(1)
    shift = bias[channel] if bias.size > 0 else one - one
    for j in range(len(u)):
        raw = delta[j] + shift
        scratch[_STEP, j] = softplus(raw, one) if soft else raw
    for j in range(len(u)):
        scratch[_DRIVE, j] = scratch[_STEP, j] * u[j]


@summing_kernel
def _replay(
    count: int,
    scratch: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    reverse: bool,
    decay: np.ndarray,
    states: np.ndarray,
) -> None:
    """Fill ``decay`` (steps, n) and ``states`` (1 + steps, n), whose first row holds the state before."""
    size = len(a)
    for step in range(count):
        dt = scratch[_STEP, count - 1 - step if reverse else step]
        for n in range(size):
            decay[step, n] = exp(dt * a[n])
    for step in range(count):
        j = count - 1 - step if reverse else step
        drive = scratch[_DRIVE, j]
        for n in range(size):
            states[step + 1, n] = decay[step, n] * states[step, n] + drive * b[j, n]


@summing_kernel
def _read_out(count: int, states: np.ndarray, c: np.ndarray, reverse: bool, scratch: np.ndarray) -> None:
    """Write ``y`` of a chunk, without skip connection and gate."""
    for step in range(count):
        j = count - 1 - step if reverse else step
        total = c.dtype.type(0)
        for n in range(c.shape[1]):
            total += states[step + 1, n] * c[j, n]
        scratch[_Y, j] = total


@summing_kernel
def _finish(
    u: np.ndarray, skip: np.ndarray, z: np.ndarray, channel: int, scratch: np.ndarray, out: np.ndarray
) -> None:
    """Add the skip connection, apply the gate, and write the output of a chunk."""
    one = u.dtype.type(1)
    factor = skip[channel] if skip.size > 0 else one - one
    for j in range(len(u)):
        out[j] = scratch[_Y, j] + factor * u[j]
    for j in range(len(z)):
        out[j] *= z[j] * sigmoid(z[j], one)


@summing_kernel
def forward(
    u: np.ndarray,
    delta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    skip: np.ndarray,
    z: np.ndarray,
    bias: np.ndarray,
    soft: bool,
    reverse: bool,
    state: np.ndarray,
    out: np.ndarray,
    marks: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Scan rows ``start..stop``.

    Args:
        u: ``(rows, length)``; rows are images times channels.
        delta: Like ``u``.
        a: ``(channels, n)``.
        b: ``(images, groups, length, n)``; channels are split evenly over groups.
        c: Like ``b``.
        skip: ``(channels,)``, or empty.
        z: Like ``u``, or ``(rows, 0)``.
        bias: ``(channels,)``, or empty.
        soft: Whether step sizes are the softplus of ``delta + bias``.
        reverse: Scan from the last token to the first.
        state: ``(rows, n)``; on return, the state after the last step.
        out: Like ``u``, written.
        marks: ``(rows, chunks, n)``, written: the state before each chunk.
        start: First row.
        stop: Row after the last.
    """
    channels, size = a.shape
    groups, length, chunks = b.shape[1], u.shape[1], marks.shape[1]
    scratch = np.empty((3, CHUNK), u.dtype)
    decay, states = np.empty((CHUNK, size), u.dtype), np.empty((CHUNK + 1, size), u.dtype)
    for image in range(start // channels, (stop - 1) // channels + 1):
        for block in range(0, chunks, _BLOCK):
            for row in range(max(start, image * channels), min(stop, (image + 1) * channels)):
                channel = row - image * channels
                group = channel * groups // channels
                states[0] = state[row]
                for chunk in range(block, min(block + _BLOCK, chunks)):
                    count = min(CHUNK, length - chunk * CHUNK)
                    low = length - chunk * CHUNK - count if reverse else chunk * CHUNK
                    high = low + count
                    marks[row, chunk] = states[0]
                    _load(u[row, low:high], delta[row, low:high], bias, channel, soft, scratch)
                    _replay(count, scratch, a[channel], b[image, group, low:high], reverse, decay, states)
                    _read_out(count, states, c[image, group, low:high], reverse, scratch)
                    _finish(u[row, low:high], skip, z[row, low:high], channel, scratch, out[row, low:high])
                    states[0] = states[count]
                state[row] = states[0]


@summing_kernel
def _open_gate(grad_out: np.ndarray, z: np.ndarray, scratch: np.ndarray) -> None:
    """Write the gradient of ``y`` before the gate."""
    one = scratch.dtype.type(1)
    for j in range(len(grad_out)):
        scratch[_SLOPE, j] = grad_out[j]
    for j in range(len(z)):
        scratch[_SLOPE, j] *= z[j] * sigmoid(z[j], one)


@summing_kernel
def _step_back(
    count: int,
    reverse: bool,
    u: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    decay: np.ndarray,
    states: np.ndarray,
    scratch: np.ndarray,
    flow: np.ndarray,
    grad_a: np.ndarray,
    grad_b: np.ndarray,
    grad_c: np.ndarray,
) -> None:
    """Carry ``flow``, the gradient of the state, back through a chunk."""
    zero = scratch.dtype.type(0)
    for step in range(count - 1, -1, -1):
        j = count - 1 - step if reverse else step
        slope, dt, drive = scratch[_SLOPE, j], scratch[_STEP, j], scratch[_DRIVE, j]
        through_decay, through_drive = zero, zero
        for n in range(len(a)):
            g = flow[n] + slope * c[j, n]
            grad_c[j, n] += slope * states[step + 1, n]
            grad_b[j, n] += g * drive
            through_drive += g * b[j, n]
            flow[n] = g * decay[step, n]
            log_decay = flow[n] * states[step, n]
            through_decay += log_decay * a[n]
            grad_a[n] += log_decay * dt
        scratch[_GRAD_U, j] = dt * through_drive
        scratch[_GRAD_STEP, j] = u[j] * through_drive + through_decay


@summing_kernel
def _store_gate(
    u: np.ndarray, skip: np.ndarray, z: np.ndarray, channel: int, scratch: np.ndarray, grad_z: np.ndarray
) -> None:
    """Write the gradient of the gate; on entry ``grad_z`` holds that of the output."""
    one = u.dtype.type(1)
    factor = skip[channel] if skip.size > 0 else one - one
    for j in range(len(z)):
        open_part = sigmoid(z[j], one)
        slope = open_part * (one + z[j] * (one - open_part))
        grad_z[j] *= (scratch[_Y, j] + factor * u[j]) * slope


@summing_kernel
def _store(
    u: np.ndarray,
    delta: np.ndarray,
    skip: np.ndarray,
    bias: np.ndarray,
    channel: int,
    soft: bool,
    scratch: np.ndarray,
    grad_u: np.ndarray,
    grad_delta: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Write the gradients of ``u`` and ``delta``; add those of skip and bias to ``sums``."""
    one = u.dtype.type(1)
    factor = skip[channel] if skip.size > 0 else one - one
    shift = bias[channel] if bias.size > 0 else one - one
    of_skip, of_bias = one - one, one - one
    for j in range(len(u)):
        grad_u[j] = scratch[_GRAD_U, j] + factor * scratch[_SLOPE, j]
        of_skip += scratch[_SLOPE, j] * u[j]
    for j in range(len(u)):
        raw = delta[j] + shift
        rate = sigmoid(raw, one) if soft and raw <= one * 20 else one
        grad_delta[j] = scratch[_GRAD_STEP, j] * rate
        of_bias += grad_delta[j]
    sums[0] += of_skip
    sums[1] += of_bias


@summing_kernel
def backward(
    u: np.ndarray,
    delta: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    skip: np.ndarray,
    z: np.ndarray,
    bias: np.ndarray,
    soft: bool,
    reverse: bool,
    marks: np.ndarray,
    grad_out: np.ndarray,
    flow: np.ndarray,
    grad_u: np.ndarray,
    grad_delta: np.ndarray,
    grad_z: np.ndarray,
    grad_a: np.ndarray,
    grad_b: np.ndarray,
    grad_c: np.ndarray,
    sums: np.ndarray,
    edges: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Go back over the rows ``edges[part]..edges[part + 1]`` for each part in ``start..stop``.

    Args:
        u: As in ``forward``, like all up to ``reverse``.
        delta: See ``u``.
        a: See ``u``.
        b: See ``u``.
        c: See ``u``.
        skip: See ``u``.
        z: See ``u``.
        bias: See ``u``.
        soft: See ``u``.
        reverse: See ``u``.
        marks: What ``forward`` left there.
        grad_out: Like ``u``.
        flow: ``(rows, n)``: on entry the gradient of the last state, on return that of the first.
        grad_u: Like ``u``, written.
        grad_delta: Like ``u``, written.
        grad_z: Like ``z``, written.
        grad_a: ``(rows, n)``, added to.
        grad_b: ``(parts, *b.shape)``, added to: rows of one image share ``b``, so each part has its own.
        grad_c: Like ``grad_b``.
        sums: ``(rows, 2)``, added to: gradients of skip and bias.
        edges: Row numbers between which the parts lie.
        start: First part.
        stop: Part after the last.
    """
    channels, size = a.shape
    groups, length, chunks = b.shape[1], u.shape[1], marks.shape[1]
    scratch = np.empty((6, CHUNK), u.dtype)
    decay, states = np.empty((CHUNK, size), u.dtype), np.empty((CHUNK + 1, size), u.dtype)
    for part in range(start, stop):
        first_row, last_row = edges[part], edges[part + 1]
        for image in range(first_row // channels, (last_row - 1) // channels + 1):
            for block in range((chunks - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
                for row in range(max(first_row, image * channels), min(last_row, (image + 1) * channels)):
                    channel = row - image * channels
                    group = channel * groups // channels
                    for chunk in range(min(block + _BLOCK, chunks) - 1, block - 1, -1):
                        count = min(CHUNK, length - chunk * CHUNK)
                        low = length - chunk * CHUNK - count if reverse else chunk * CHUNK
                        here = slice(low, low + count)
                        row_u, row_z, row_b, row_c = (
                            u[row, here],
                            z[row, here],
                            b[image, group, here],
                            c[image, group, here],
                        )
                        _load(row_u, delta[row, here], bias, channel, soft, scratch)
                        states[0] = marks[row, chunk]
                        _replay(count, scratch, a[channel], row_b, reverse, decay, states)
                        _open_gate(grad_out[row, here], row_z, scratch)
                        if len(row_z) > 0:
                            _read_out(count, states, row_c, reverse, scratch)
                            grad_z[row, here] = grad_out[row, here]
                            _store_gate(row_u, skip, row_z, channel, scratch, grad_z[row, here])
                        _step_back(
                            count,
                            reverse,
                            row_u,
                            a[channel],
                            row_b,
                            row_c,
                            decay,
                            states,
                            scratch,
                            flow[row],
                            grad_a[row],
                            grad_b[part, image, group, here],
                            grad_c[part, image, group, here],
                        )
                        _store(
                            row_u,
                            delta[row, here],
                            skip,
                            bias,
                            channel,
                            soft,
                            scratch,
                            grad_u[row, here],
                            grad_delta[row, here],
                            sums[row],
                        )
