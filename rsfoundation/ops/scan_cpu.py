"""The selective scan on the CPU: compiled kernels, rows shared out over threads."""

import numpy as np
import torch
from torch import Tensor

from rsfoundation.ops.kernels import scan
from rsfoundation.ops.kernels.threads import run_chunks
from rsfoundation.ops.scan_core import Direction, Operands, ScanGrad, ScanOutput, new_output


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan from ``state`` (batch, channels, n); everything in one floating type."""
    result = new_output(operands.u, operands.A.shape[1])
    result.state.copy_(state)
    arrays = [_rows(tensor) for tensor in (result.state, result.out, result.marks)]
    count = operands.u.shape[0] * operands.u.shape[1]
    run_chunks(scan.forward, count, *_arrays(operands), *direction, *arrays, grain=4, pieces=2)
    return result


def backward(
    operands: Operands, direction: Direction, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> ScanGrad:
    """Return the gradients; ``grad_state`` is that of the last state."""
    u, a, b = operands.u, operands.A, operands.B
    batch, channels, _ = u.shape
    rows = batch * channels
    parts = max(1, min(torch.get_num_threads(), rows))
    flow = grad_state.clone(memory_format=torch.contiguous_format)
    grad_u, grad_delta = u.new_empty(u.shape), u.new_empty(u.shape)
    grad_z = u.new_empty(u.shape if operands.z is not None else (batch, channels, 0))
    grad_a, sums = u.new_zeros(rows, a.shape[1]), u.new_zeros(rows, 2)
    grad_b, grad_c = (b.new_zeros(parts, *b.transpose(2, 3).shape) for _ in range(2))
    edges = torch.arange(parts + 1) * rows // parts
    perrow = [_rows(t) for t in (marks, grad_out, flow, grad_u, grad_delta, grad_z)]
    totals = [tensor.numpy() for tensor in (grad_a, grad_b, grad_c, sums, edges)]
    run_chunks(scan.backward, parts, *_arrays(operands), *direction, *perrow, *totals)
    of_skip, of_bias = sums.view(batch, channels, 2).sum(0).unbind(1)
    grads = (
        grad_u,
        grad_delta,
        grad_a.view(batch, channels, -1).sum(0),
        grad_b.sum(0).transpose(2, 3),
        grad_c.sum(0).transpose(2, 3),
        None if operands.D is None else of_skip,
        None if operands.z is None else grad_z,
        None if operands.bias is None else of_bias,
    )
    return ScanGrad(grads, flow)


def _rows(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().flatten(0, 1).numpy()


def _arrays(operands: Operands) -> list[np.ndarray]:
    """Return the operands as the kernels take them: tokens before states, empty for absent."""
    u, delta, a, b, c, d, z, bias = operands
    gate = _rows(u[..., :0] if z is None else z)
    tokens = [tensor.transpose(2, 3).contiguous().numpy() for tensor in (b, c)]
    skip, shift = (u.new_empty(0) if tensor is None else tensor.contiguous() for tensor in (d, bias))
    return [_rows(u), _rows(delta), a.contiguous().numpy(), *tokens, skip.numpy(), gate, shift.numpy()]
