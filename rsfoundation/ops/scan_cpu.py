"""The selective scan on the CPU: compiled kernels, rows shared out over threads."""

import torch
from torch import Tensor

from rsfoundation.ops.kernels import scan
from rsfoundation.ops.kernels.threads import run_chunks
from rsfoundation.ops.scan_core import CHUNK, ScanGrad, ScanInput, ScanOutput


def _rows(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten(0, 1)


def forward(data: ScanInput, state: Tensor) -> ScanOutput:
    """Scan from ``state`` (images, channels, n)."""
    images, channels, length = data.u.shape
    last = state.clone(memory_format=torch.contiguous_format)
    y = torch.empty_like(data.u, memory_format=torch.contiguous_format)
    chunks = -(-length // CHUNK)
    marks = data.u.new_empty(images, channels, chunks, data.a.shape[1])
    arrays = (_rows(data.u), _rows(data.dt), data.a.contiguous(), data.b.contiguous(), data.c.contiguous())
    results = (last.flatten(0, 1), y.flatten(0, 1), marks.flatten(0, 1))
    numbers = [tensor.numpy() for tensor in (*arrays, *results)]
    run_chunks(scan.forward, images * channels, *numbers, data.reverse, grain=4, pieces=4)
    return ScanOutput(y, last, marks)


def backward(data: ScanInput, marks: Tensor, grad_y: Tensor, grad_state: Tensor, want_y: bool) -> ScanGrad:
    """Return the gradients; ``grad_state`` is that of the last state."""
    images, channels, _ = data.u.shape
    rows = images * channels
    parts = max(1, min(torch.get_num_threads(), rows))
    flow = grad_state.clone(memory_format=torch.contiguous_format)
    y = torch.empty_like(data.u, memory_format=torch.contiguous_format) if want_y else data.u.new_empty(0, 0)
    grad_u, grad_dt = (torch.empty_like(data.u, memory_format=torch.contiguous_format) for _ in range(2))
    grad_a = data.a.new_zeros(rows, data.a.shape[1])
    grad_b, grad_c = (data.b.new_zeros(parts, *data.b.shape) for _ in range(2))
    edges = torch.arange(parts + 1) * rows // parts
    arrays = (_rows(data.u), _rows(data.dt), data.a.contiguous(), data.b.contiguous(), data.c.contiguous())
    given = (*arrays, _rows(marks), _rows(grad_y), flow.flatten(0, 1))
    results = (y.flatten(0, 1) if want_y else y, grad_u.flatten(0, 1), grad_dt.flatten(0, 1))
    numbers = [tensor.numpy() for tensor in (*given, *results, grad_a, grad_b, grad_c, edges)]
    run_chunks(scan.backward, parts, *numbers, data.reverse)
    grad_a = grad_a.view(images, channels, -1).sum(0)
    return ScanGrad(y, grad_u, grad_dt, grad_a, grad_b.sum(0), grad_c.sum(0), flow)
