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

import numpy as np

from rsfoundation.ops.kernels.fast_math import exp
from rsfoundation.ops.kernels.jit import summing_kernel
from rsfoundation.ops.scan_core import CHUNK

_BLOCK = 8  # chunks that a row scans before the next row has its turn
_DECAY = CHUNK + 1  # rows of `work`: the state before the chunk, CHUNK states, then CHUNK decays


def scratch(size: int, kind: type) -> tuple[np.ndarray]:
    """Allocate what one call of a kernel works in."""
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
        """Scan rows ``start..stop``: write ``y`` (rows, length), the state before each chunk
        ``marks`` (rows, chunks, size), and over ``state`` (rows, size), the one after the last step.
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
                                total, through_decay, through_drive = rise - rise, rise - rise, rise - rise
                                for n in range(size):
                                    s, c = work[k + 1, n], tokens[first + t, size + n]
                                    total += s * c
                                    g = flow[row, n] + rise * c
                                    grad_tokens[part, first + t, size + n] += rise * s
                                    grad_tokens[part, first + t, n] += g * drive
                                    through_drive += g * tokens[first + t, n]
                                    g *= work[_DECAY + k, n]
                                    flow[row, n] = g
                                    of_exponent = g * work[k, n]
                                    through_decay += of_exponent * a[channel, n]
                                    grad_a[row, n] += of_exponent * step
                                grads[0, row, t] = step * through_drive
                                grads[1, row, t] = u[row, t] * through_drive + through_decay
                                grads[2, row, t] = total

    return backward
