"""RoIAlign over rotated regions, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim
from rsfoundation.ops.roi_sampling import RoiGrid, grid_sizes, pool_samples, spread_samples


def pool_rotated(features: Tensor, rois: Tensor, output_size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Average bilinear samples in each bin of each rotated region.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels.
        output_size: Bins along height and width.
        grid: How regions are sampled.

    Returns:
        ``(n, channels, *output_size)``.

    Raises:
        OperatorInputError: Wrong shapes, NaN or infinity, or a negative size with ``aligned``.
    """
    _check(rois, features.shape[0], grid)
    if features.device.type != "cpu":
        return pool_samples(features, rois, output_size, grid)
    from rsfoundation.ops.kernels.roi_rotated import pool

    kind = _kernel_type(features)
    maps = features.detach().to(kind)
    last = _worth_transposing(rois, output_size, grid, maps.shape)
    maps = maps.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    bins = torch.empty(len(rois), *output_size, features.shape[1], dtype=kind)
    _run(pool, len(rois), maps, rois, grid, bins, grain=8, pieces=8)
    return bins.permute(0, 3, 1, 2).to(features.dtype)


def spread_rotated(grad: Tensor, rois: Tensor, feature_shape: torch.Size, grid: RoiGrid) -> Tensor:
    """Return the gradient of the features ``(batch, channels, height, width)``.

    Args:
        grad: Gradient of the output, ``(n, channels, rows, columns)``.
        rois: As in the forward pass.
        feature_shape: Shape of the features.
        grid: As in the forward pass.
    """
    _check(rois, feature_shape[0], grid)
    if grad.device.type != "cpu":
        return spread_samples(grad, rois, feature_shape, grid)
    from rsfoundation.ops.kernels.roi_rotated import spread

    kind = _kernel_type(grad)
    size = (int(grad.shape[2]), int(grad.shape[3]))
    last = _worth_transposing(rois, size, grid, feature_shape)
    layout = torch.channels_last if last else torch.contiguous_format
    out = torch.zeros(feature_shape, dtype=kind).contiguous(memory_format=layout)
    bins = grad.detach().to(kind).permute(0, 2, 3, 1).contiguous()
    _run(spread, feature_shape[1], out, rois, grid, bins)
    return out.to(grad.dtype)


def _run(
    kernel: Callable[..., None],
    count: int,
    maps: Tensor,
    rois: Tensor,
    grid: RoiGrid,
    bins: Tensor,
    grain: int = 1,
    pieces: int = 1,
) -> None:
    """Run a kernel on dense ``maps`` (batch, channels, height, width) and ``bins``."""
    from rsfoundation.ops.kernels.threads import run_chunks

    table = rois.detach().to(maps.dtype)
    grids = grid_sizes(table, (bins.shape[1], bins.shape[2]), grid)
    sizes = table[:, 3:5] * grid.spatial_scale
    sizes = sizes if grid.aligned else sizes.clamp(min=1.0)
    centres = table[:, 1:3] * grid.spatial_scale - (0.5 if grid.aligned else 0.0)
    theta = -table[:, 5:] if grid.clockwise else table[:, 5:]
    regions = torch.cat([table[:, :1], centres, sizes, theta.cos(), theta.sin()], 1)
    steps = torch.tensor([maps.stride(axis) for axis in (0, 2, 3, 1)])
    pixels = maps.as_strided((maps.numel(),), (1,))
    tensors = (pixels, steps, torch.tensor(maps.shape[2:]), regions, grids, bins)
    run_chunks(kernel, count, *(tensor.numpy() for tensor in tensors), grain=grain, pieces=pieces)


def _kernel_type(tensor: Tensor) -> torch.dtype:
    """Half types are computed in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _check(rois: Tensor, batch: int, grid: RoiGrid) -> None:
    check_last_dim("roi_align_rotated", rois, 6)
    check_finite("roi_align_rotated", rois)
    if len(rois) and not (int(rois[:, 0].min()) >= 0 and int(rois[:, 0].max()) < batch):
        raise OperatorInputError(f"roi_align_rotated: image index outside the batch of {batch}")
    if grid.aligned and len(rois) and float(rois[:, 3:5].min()) < 0:
        raise OperatorInputError("roi_align_rotated: aligned regions need sizes of zero or more")


def _worth_transposing(rois: Tensor, size: tuple[int, int], grid: RoiGrid, shape: torch.Size) -> bool:
    """Channels last costs a copy of the maps, and pays once the taps outnumber a part of the pixels."""
    if grid.sampling_ratio > 0:
        samples = len(rois) * math.prod(size) * grid.sampling_ratio**2
    else:
        samples = int((rois[:, 3] * rois[:, 4]).sum() * grid.spatial_scale**2) + len(rois) * math.prod(size)
    return 8 * samples > shape[0] * shape[2] * shape[3]


class _RoIAlignRotated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, rois: Tensor, output_size: tuple[int, int], grid: RoiGrid
    ) -> Tensor:
        ctx.save_for_backward(rois)
        ctx.feature_shape, ctx.grid = features.shape, grid
        return pool_rotated(features, rois, output_size, grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (rois,) = ctx.saved_tensors
        return spread_rotated(grad, rois, ctx.feature_shape, ctx.grid), None, None, None


def roi_align_rotated(features: Tensor, rois: Tensor, output_size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Like ``pool_rotated``, and differentiable for the features."""
    return _RoIAlignRotated.apply(features, rois, output_size, grid)
