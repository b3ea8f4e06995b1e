"""The Mamba mixer between its projections, on channels-last tokens, for inference on a CPU.

``selective_scan`` takes channels-first sequences and has gradients. Here tokens stay as the linear layers
around them have them, and lanes of a vector are channels: a step needs no sum across lanes, and nothing is
transposed. Both functions work on a span of tokens, so that a long sequence is mixed piece by piece within
the cache; the state goes from one piece to the next.

A kernel scans a block of channels over the tokens; its states and decay rates stay in the first cache. All it
works on is one array, at offsets known when it is compiled, so that the compiler sees that nothing overlaps.

Importing this module loads numba.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.kernels.runtime import fused_kernel, inlined, log1p
from rsfoundation.ops.kernels.threads import run_chunks

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
            tokens = torch.nn.functional.pad(tokens.unflatten(-1, (2, size)), (0, padding)).flatten(-2)
        rates = torch.nn.functional.pad(self.A.T / math.log(2), (0, 0, 0, padding)).contiguous()
        operands = (u, delta, self.delta_bias, rates, tokens, self.D)
        arrays = (operand.numpy() for operand in operands)
        places = (self.reverse, add, state.numpy(), out.numpy(), first)
        size += padding
        scratch = partial(_allocate, (2 * size + _ROWS) * _LANES)
        run_chunks(_scan_kernel(size), len(state), *arrays, *places, pieces=2, scratch=scratch)


def _allocate(values: int) -> tuple[np.ndarray]:
    return (np.empty(values, np.float32),)
