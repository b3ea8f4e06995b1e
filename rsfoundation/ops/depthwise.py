"""Depth-wise convolution, with gradients that CPU libraries have no fast kernel for."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rsfoundation.ops.kernels import DEPTHWISE_LANES as LANES
from rsfoundation.ops.kernels.threads import run_chunks

_GRAIN = 1 << 23  # fewest multiplications worth a thread


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve every channel with a kernel of its own, with zeros around the map so that it keeps its size.

    In training in float32 on a CPU, the gradient of the weights of a channels-last map is computed here, and
    that of the map as another convolution; second derivatives are an error then. Otherwise this is torch's.

    Args:
        x: ``(N, C, H, W)``.
        weight: ``(C, 1, height, width)`` with odd sides.
        bias: ``(C,)``.

    Returns:
        ``(N, C, H, W)``.
    """
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    if _ours(x, weight):
        return _DepthwiseConv2d.apply(x, weight, bias, padding)
    return F.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])


def _ours(x: Tensor, weight: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.shape[1] % LANES == 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        slopes = slopes.contiguous(memory_format=torch.channels_last)
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        return (
            # odd kernels that keep the size: the transposed convolution is that of the turned kernel
            F.conv2d(slopes, weight.flip(2, 3), padding=ctx.padding, groups=x.shape[1]) if of_x else None,
            _weight_gradient(x, slopes, weight) if of_weight else None,
            slopes.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _weight_gradient(x: Tensor, slopes: Tensor, weight: Tensor) -> Tensor:
    from rsfoundation.ops.kernels.backbones import depthwise_weight_gradient

    images, channels, height, width = x.shape
    rows, columns = weight.shape[2:]
    out = x.new_zeros(rows * columns, channels)
    whole = -(-width // 4) * 4
    shapes = ((rows, columns + 1, LANES), (height, (whole + columns) * LANES), (whole * LANES,))
    run_chunks(
        depthwise_weight_gradient,
        channels // LANES,
        x.permute(0, 2, 3, 1).numpy(),
        slopes.permute(0, 2, 3, 1).numpy(),
        out.numpy(),
        grain=_GRAIN // max(1, images * height * width * LANES * rows * columns) + 1,
        scratch=lambda: tuple(np.zeros(shape, np.float32) for shape in shapes),
    )
    return out.t().reshape(weight.shape)
