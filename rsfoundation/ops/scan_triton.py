"""The selective scan on a GPU: launches the Triton kernels."""

from typing import Any

import torch
from torch import Tensor

from rsfoundation.ops.kernels import scan_triton as kernels
from rsfoundation.ops.scan_core import CHUNK, Direction, Operands, ScanGrad, ScanOutput, new_output


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan from ``state`` (batch, channels, n); everything in one floating type."""
    dense = _dense(operands)
    result = new_output(dense.u, dense.A.shape[1])
    result.state.copy_(state)
    if result.marks.numel():
        tensors = (*_pointers(dense), result.state, result.out, result.marks)
        _launch(kernels.forward, dense, direction, tensors)
    return result


def backward(
    operands: Operands, direction: Direction, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> ScanGrad:
    """Return the gradients; ``grad_state`` is that of the last state."""
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
        _launch(kernels.backward, dense, direction, (*given, *taken))
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
    """Return the tensors in the kernels' order; one that is absent is never read, and ``u`` stands in."""
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
