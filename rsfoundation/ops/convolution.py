"""Convolutions whose gradients are faster than the CPU library's on processors that other programs use.

oneDNN's gradient of the weights has its threads wait for each other more often than the products need. Next
to one busy program a step of a small network takes 1.4 to 1.6 times as long with it; on a quiet machine a
step is 2 to 5 % faster with it (docs/speed.md).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def pointwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Mix the channels of every position.

    In training in float32 on several CPU threads, the gradients of a channels-last map are computed here:
    that of the map as a transposed convolution, that of the weights as one matrix product; second
    derivatives are an error then. Otherwise this is torch's, which does the same in one thread; the forward
    always is.

    Args:
        x: ``(N, C, H, W)``.
        weight: ``(out, C, 1, 1)``.
        bias: ``(out,)``.

    Returns:
        ``(N, out, H, W)``.
    """
    if _ours(x, weight) and x.stride(1) == 1 and torch.get_num_threads() > 1:
        return _PointwiseConv2d.apply(x.contiguous(memory_format=torch.channels_last), weight, bias)
    return F.conv2d(x, weight, bias)


def narrow_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve a map of few channels with zeros around it, so that it keeps its size.

    In training in float32 on a CPU, both gradients are computed as convolutions: that of the weights
    convolves the map with its slopes. Second derivatives are an error then. Otherwise this is torch's.

    Args:
        x: ``(N, C, H, W)``.
        weight: ``(out, C, height, width)`` with odd sides.
        bias: ``(out,)``.

    Returns:
        ``(N, out, H, W)``.
    """
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    if _ours(x, weight):
        return _NarrowConv2d.apply(x, weight, bias, padding)
    return F.conv2d(x, weight, bias, padding=padding)


def _ours(x: Tensor, weight: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and (x.requires_grad or weight.requires_grad)
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


class _PointwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        slopes = slopes.contiguous(memory_format=torch.channels_last)
        rows = slopes.permute(0, 2, 3, 1).flatten(0, 2)
        return (
            F.conv_transpose2d(slopes, weight) if of_x else None,
            (rows.t() @ x.permute(0, 2, 3, 1).flatten(0, 2)).view(weight.shape) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


class _NarrowConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, bias, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        turned = weight.flip(2, 3).transpose(0, 1)
        return (
            F.conv2d(slopes, turned, padding=ctx.padding) if of_x else None,
            _kernel_slopes(x, slopes, ctx.padding) if of_weight else None,
            slopes.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _kernel_slopes(x: Tensor, slopes: Tensor, padding: tuple[int, int]) -> Tensor:
    """Return the slopes of the weights: images take the place of channels, and slopes that of a kernel."""
    planes, kernel = x.transpose(0, 1).contiguous(), slopes.transpose(0, 1).contiguous()
    return F.conv2d(planes, kernel, padding=padding).transpose(0, 1)
