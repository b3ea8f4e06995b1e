"""The recurrence of the selective scan, one row (image, channel) and one chunk of tokens at a time.

A chunk's decays and states stay in the first cache. The state of a row enters each chunk from ``marks``,
so that the backward pass can replay a chunk without the states of all steps ever being in memory.
Rows take turns block by block: the tokens' ``b`` and ``c``, which they share, then stay in the second
cache. Kernels are made for one size of state, so that the loops over it have a fixed length.

Arrays that all kernels share: ``u`` and the step sizes ``dt`` are ``(rows, length)``, rows being images
times channels; ``a`` is ``(channels, size)``; ``tokens`` ``(images * groups * length, 2 size)`` holds B
and C, channels being split evenly over groups; ``work`` is what ``scratch`` allocates.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from rsfoundation.ops.kernels.runtime import exp, larger, least, smaller, straight, summing_kernel, where
from rsfoundation.ops.scan_core import CHUNK

_BLOCK = 8  # chunks that a row scans before the next row has its turn
_DECAY = CHUNK + 1  # rows of `work`: the state before the chunk, CHUNK states, then CHUNK decays


def scratch(size: int, kind: type) -> tuple[np.ndarray]:
    """Allocate what one call of a kernel works in."""
    return (np.empty((_DECAY + CHUNK, size), kind),)


@straight
def _rows(image: Any, channels: Any, start: Any, stop: Any) -> tuple[Any, Any]:
    """Return where the rows of an image begin and end that lie within ``start..stop``."""
    return larger(start, image * channels), smaller(stop, (image + 1) * channels)


@straight
def _place(chunk: Any, k: Any, length: Any, reverse: Any) -> Any:
    """Return which token is step ``k`` of a chunk."""
    step = chunk * CHUNK + k
    return where(reverse, length - 1 - step, step)


@straight
def _enter(work: Any, marks: Any, row: Any, chunk: Any, n: Any) -> None:
    work[0, n] = marks[row, chunk, n]


@straight
def _decay(work: Any, k: Any, n: Any, step: Any, a: Any, channel: Any) -> None:
    work[_DECAY + k, n] = exp(step * a[channel, n])


@straight
def _advance(work: Any, k: Any, n: Any, drive: Any, tokens: Any, token: Any) -> Any:
    """Make a step of one number of the state, and return it."""
    state = work[k + _DECAY, n] * work[k, n] + drive * tokens[token, n]
    work[k + 1, n] = state
    return state


@straight
def _return(
    k: Any,
    n: Any,
    size: Any,
    operands: tuple[Any, ...],
    place: tuple[Any, ...],
    step: tuple[Any, ...],
    grads: tuple[Any, ...],
) -> tuple[Any, Any, Any]:
    """Go back over a step of one number of the state: add to ``grads`` what it contributes.

    Returns:
        Its part of ``y``, and of what flows through its decay and its drive.
    """
    (work, a, tokens), (part, row, channel, token), (dt, drive, slope) = operands, place, step
    flow, grad_a, grad_tokens = grads
    state, b, c = work[k + 1, n], tokens[token, n], tokens[token, size + n]
    whole = flow[row, n] + slope * c
    passed = whole * work[k + _DECAY, n]
    of_exponent = passed * work[k, n]
    grad_tokens[part, token, size + n] += slope * state
    grad_tokens[part, token, n] += whole * drive
    flow[row, n] = passed
    grad_a[row, n] += of_exponent * dt
    return state * c, of_exponent * a[channel, n], whole * b


@straight
def _write(grads: Any, u: Any, row: Any, t: Any, step: Any, total: Any, decayed: Any, driven: Any) -> None:
    grads[0, row, t], grads[1, row, t], grads[2, row, t] = step * driven, u[row, t] * driven + decayed, total


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
        """Scan rows ``start..stop``: write ``y`` (rows, length), the state before each chunk
        ``marks`` (rows, chunks, size), and over ``state`` (rows, size), the one after the last step.
        """
        channels, length, chunks = len(a), u.shape[1], marks.shape[1]
        for image in range(start // channels, (stop - 1) // channels + 1):
            for block in range(0, chunks, _BLOCK):
                for row in range(*_rows(image, channels, start, stop)):
                    channel = row - image * channels
                    first = (image * groups + channel * groups // channels) * length
                    for chunk in range(block, least(block + _BLOCK, chunks)):
                        count = least(CHUNK, length - chunk * CHUNK)
                        for n in range(size):
                            marks[row, chunk, n] = state[row, n]
                            _enter(work, marks, row, chunk, n)
                        for k in range(count):
                            step = dt[row, _place(chunk, k, length, reverse)]
                            for n in range(size):
                                _decay(work, k, n, step, a, channel)
                        for k in range(count):
                            t = _place(chunk, k, length, reverse)
                            drive = dt[row, t] * u[row, t]
                            total = drive - drive
                            for n in range(size):
                                s = _advance(work, k, n, drive, tokens, first + t)
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
        """Go back over the rows of the parts ``start..stop``; the rows are cut evenly into parts.

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
            work: See ``scratch``.
            start: First part.
            stop: Part after the last.
        """
        channels, length, chunks, parts = len(a), u.shape[1], marks.shape[1], len(grad_tokens)
        operands, targets = (work, a, tokens), (flow, grad_a, grad_tokens)
        for part in range(start, stop):
            begin, end = len(u) * part // parts, len(u) * (part + 1) // parts
            for image in range(begin // channels, (end - 1) // channels + 1):
                for block in range((chunks - 1) // _BLOCK * _BLOCK, -1, -_BLOCK):
                    for row in range(*_rows(image, channels, begin, end)):
                        channel = row - image * channels
                        first = (image * groups + channel * groups // channels) * length
                        for chunk in range(least(block + _BLOCK, chunks) - 1, block - 1, -1):
                            count = least(CHUNK, length - chunk * CHUNK)
                            for n in range(size):
                                _enter(work, marks, row, chunk, n)
                            for k in range(count):
                                step = dt[row, _place(chunk, k, length, reverse)]
                                for n in range(size):
                                    _decay(work, k, n, step, a, channel)
                            for k in range(count):
                                t = _place(chunk, k, length, reverse)
                                drive = dt[row, t] * u[row, t]
                                for n in range(size):
                                    _advance(work, k, n, drive, tokens, first + t)
                            for k in range(count - 1, -1, -1):
                                t = _place(chunk, k, length, reverse)
                                step, rise = dt[row, t], slope[row, t]
                                drive = step * u[row, t]
                                place, values = (part, row, channel, first + t), (step, drive, rise)
                                total = through_decay = through_drive = rise - rise
                                for n in range(size):
                                    output, decayed, driven = _return(
                                        k, n, size, operands, place, values, targets
                                    )
                                    total += output
                                    through_decay += decayed
                                    through_drive += driven
                                _write(grads, u, row, t, step, total, through_decay, through_drive)

    return backward
