"""The selective scan, one row (image, channel) at a time, in chunks that stay in the first cache.

The state of a row enters each chunk from ``marks``, so that the backward pass can replay a chunk
without the states of all steps ever being in memory.
"""

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp
from rsfoundation.ops.kernels.jit import summing_kernel
from rsfoundation.ops.scan_core import CHUNK


@summing_kernel
def _replay(
    u: np.ndarray,
    dt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    first: int,
    stride: int,
    state: np.ndarray,
    decay: np.ndarray,
    states: np.ndarray,
) -> None:
    """Fill ``decay`` and ``states`` (steps, n) from token ``first`` on, starting from ``state``."""
    count, size = decay.shape
    for step in range(count):
        for n in range(size):
            decay[step, n] = exp(dt[first + stride * step] * a[n])
    drive = dt[first] * u[first]
    for n in range(size):
        states[0, n] = decay[0, n] * state[n] + drive * b[first, n]
    for step in range(1, count):
        token = first + stride * step
        drive = dt[token] * u[token]
        for n in range(size):
            states[step, n] = decay[step, n] * states[step - 1, n] + drive * b[token, n]


@summing_kernel
def forward(
    u: np.ndarray,
    dt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    state: np.ndarray,
    y: np.ndarray,
    marks: np.ndarray,
    reverse: bool,
    start: int,
    stop: int,
) -> None:
    """Scan rows ``start..stop``.

    Args:
        u: ``(rows, length)``; rows are images times channels.
        dt: ``(rows, length)``, the step sizes.
        a: ``(channels, n)``.
        b: ``(images, groups, length, n)``; channels are split evenly over groups.
        c: Like ``b``.
        state: ``(rows, n)``; on return, the state after the last step.
        y: ``(rows, length)``, written.
        marks: ``(rows, chunks, n)``, written: the state before each chunk.
        reverse: Scan from the last token to the first.
        start: First row.
        stop: Row after the last.
    """
    channels, size = a.shape
    groups, length = b.shape[1], u.shape[1]
    stride = -1 if reverse else 1
    decay, states = np.empty((CHUNK, size), u.dtype), np.empty((CHUNK, size), u.dtype)
    for row in range(start, stop):
        image, channel = row // channels, row % channels
        group = channel * groups // channels
        row_b, row_c = b[image, group], c[image, group]
        for chunk in range(marks.shape[1]):
            count = min(CHUNK, length - chunk * CHUNK)
            first = length - 1 - chunk * CHUNK if reverse else chunk * CHUNK
            marks[row, chunk] = state[row]
            _replay(u[row], dt[row], a[channel], row_b, first, stride, state[row], decay[:count], states)
            for step in range(count):
                total = u.dtype.type(0)
                for n in range(size):
                    total += states[step, n] * row_c[first + stride * step, n]
                y[row, first + stride * step] = total
            state[row] = states[count - 1]


@summing_kernel
def backward(
    u: np.ndarray,
    dt: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    marks: np.ndarray,
    grad_y: np.ndarray,
    grad_state: np.ndarray,
    y: np.ndarray,
    grad_u: np.ndarray,
    grad_dt: np.ndarray,
    grad_a: np.ndarray,
    grad_b: np.ndarray,
    grad_c: np.ndarray,
    edges: np.ndarray,
    reverse: bool,
    start: int,
    stop: int,
) -> None:
    """Go back over the rows ``edges[part]..edges[part + 1]`` for each part in ``start..stop``.

    Args:
        u: As in ``forward``, like all up to ``marks``.
        dt: See ``u``.
        a: See ``u``.
        b: See ``u``.
        c: See ``u``.
        marks: What ``forward`` left there.
        grad_y: ``(rows, length)``.
        grad_state: ``(rows, n)``: on entry of the last state, on return of the first.
        y: ``(rows, length)``, filled with the result of ``forward`` again; not when empty.
        grad_u: ``(rows, length)``, written.
        grad_dt: ``(rows, length)``, written.
        grad_a: ``(rows, n)``, added to.
        grad_b: ``(parts, *b.shape)``, added to: rows of one image share ``b``, so each part has its own.
        grad_c: Like ``grad_b``.
        edges: Row numbers between which the parts lie.
        reverse: As in ``forward``.
        start: First part.
        stop: Part after the last.
    """
    channels, size = a.shape
    groups, length = b.shape[1], u.shape[1]
    stride = -1 if reverse else 1
    kind = u.dtype.type
    decay, states = np.empty((CHUNK, size), u.dtype), np.empty((CHUNK + 1, size), u.dtype)
    for part in range(start, stop):
        for row in range(edges[part], edges[part + 1]):
            image, channel = row // channels, row % channels
            group = channel * groups // channels
            row_a, row_b, row_c = a[channel], b[image, group], c[image, group]
            out_b, out_c = grad_b[part, image, group], grad_c[part, image, group]
            flow, sum_a = grad_state[row], grad_a[row]
            for chunk in range(marks.shape[1] - 1, -1, -1):
                count = min(CHUNK, length - chunk * CHUNK)
                first = length - 1 - chunk * CHUNK if reverse else chunk * CHUNK
                states[0] = marks[row, chunk]
                _replay(u[row], dt[row], row_a, row_b, first, stride, states[0], decay[:count], states[1:])
                for step in range(count - 1, -1, -1):
                    t = first + stride * step
                    slope, step_size, value = grad_y[row, t], dt[row, t], u[row, t]
                    drive = step_size * value
                    through_decay, through_drive, total = kind(0), kind(0), kind(0)
                    for n in range(size):
                        g = flow[n] + slope * row_c[t, n]
                        total += states[step + 1, n] * row_c[t, n]
                        out_c[t, n] += slope * states[step + 1, n]
                        out_b[t, n] += g * drive
                        through_drive += g * row_b[t, n]
                        flow[n] = g * decay[step, n]
                        log_decay = flow[n] * states[step, n]
                        through_decay += log_decay * row_a[n]
                        sum_a[n] += log_decay * step_size
                    grad_u[row, t] = step_size * through_drive
                    grad_dt[row, t] = value * through_drive + through_decay
                    if y.size > 0:
                        y[row, t] = total
