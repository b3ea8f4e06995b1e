"""The selective scan on the CPU: the recurrence in compiled kernels, what is elementwise in torch."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.kernels import scan
from rsfoundation.ops.kernels.threads import run_chunks
from rsfoundation.ops.scan_core import Direction, Operands, ScanGrad, ScanOutput, new_output

_SOFTPLUS = (1, 20)  # beta, and the threshold above which softplus is the identity


def forward(operands: Operands, direction: Direction, state: Tensor) -> ScanOutput:
    """Scan from ``state`` (batch, channels, n); everything in one floating type."""
    size = operands.A.shape[1]
    result = new_output(operands.u, size)
    result.state.copy_(state)
    _, dt = _steps(operands, direction)
    targets = [_rows(tensor) for tensor in (result.state, result.out, result.marks)]
    args = (*_arrays(operands, dt), direction.reverse, *targets)
    kernel, work = scan.forward_kernel(size), _scratch(size, targets[1])
    run_chunks(kernel, len(targets[1]), *args, grain=4, pieces=2, scratch=work)
    _add_skip(result.out, operands)
    if operands.z is not None:
        result.out.mul_(F.silu(operands.z))
    return result


def backward(
    operands: Operands, direction: Direction, marks: Tensor, grad_out: Tensor, grad_state: Tensor
) -> ScanGrad:
    """Return the gradients; ``grad_state`` is that of the last state."""
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
    run_chunks(scan.backward_kernel(size), parts, *args, scratch=_scratch(size, arrays[0]))
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
    return partial(scan.scratch, size, like.dtype.type)


def _rows(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().flatten(0, 1).numpy()


def _arrays(operands: Operands, dt: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
    """Return u, step sizes, A, tokens and the number of groups as the kernels take them."""
    tokens = torch.cat([operands.B, operands.C], 2).transpose(2, 3).contiguous().flatten(0, 2)
    a, groups = operands.A.contiguous().numpy(), operands.B.shape[1]
    return _rows(operands.u), _rows(dt), a, tokens.numpy(), groups
