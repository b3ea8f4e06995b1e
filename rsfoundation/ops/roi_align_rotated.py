"""Rotation-invariant RoIAlign of ReDet (Han et al. 2021, arXiv 2103.07733).

After pooling, the orientation channels are turned by the angle of the region: between the two nearest
whole turns they are interpolated.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from torch import Tensor
from torch.autograd.function import once_differentiable

from rsfoundation.ops.checks import OperatorInputError, check_finite, check_last_dim
from rsfoundation.ops.kernels.runtime import clamp, convert, kernel, straight, where
from rsfoundation.ops.roi_align import RoiGrid, grid_sizes, pool_samples, spread_samples

_IMAGE, _CX, _CY, _WIDTH, _HEIGHT, _COS, _SIN = range(7)


@straight
def _taps(
    regions: Any, grids: Any, steps: Any, size: Any, bins: Any, n: Any, bin_: tuple[Any, Any], sample: Any
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return where the four pixels of a bilinear sample lie, and their weights over the samples of a bin.

    The weights of a sample outside the map are zero.
    """
    across_h, across_w = grids[n, 0], grids[n, 1]
    iy, ix = sample // across_w, sample % across_w
    image, cx, cy, width, height, cos, sin = (regions[n, column] for column in range(7))

    def real(value: Any) -> Any:
        return convert(value, cos.kind)

    bin_h, bin_w = height / real(bins.shape[1]), width / real(bins.shape[2])
    v = real(bin_[0]) * bin_h - height * 0.5 + (real(iy) + 0.5) * bin_h / real(across_h)
    u = real(bin_[1]) * bin_w - width * 0.5 + (real(ix) + 0.5) * bin_w / real(across_w)
    y, x = v * cos - u * sin + cy, v * sin + u * cos + cx
    outside = (y < -1.0) | (y > real(size[0])) | (x < -1.0) | (x > real(size[1]))
    share = where(outside, 0.0, 1.0 / real(across_h * across_w))
    y, x = clamp(y, 0.0, real(size[0] - 1)), clamp(x, 0.0, real(size[1] - 1))
    top, left = convert(y, types.int64), convert(x, types.int64)
    down, right = y - real(top), x - real(left)
    low = convert(image, types.int64) * steps[0] + top * steps[1] + left * steps[2]
    below, beside = where(top < size[0] - 1, steps[1], 0), where(left < size[1] - 1, steps[2], 0)
    up, before = 1.0 - down, 1.0 - right
    weights = (up * before * share, up * right * share, down * before * share, down * right * share)
    return (low, low + beside, low + below, low + below + beside), weights


@straight
def _add(
    bins: Any, n: Any, bin_: tuple[Any, Any], c: Any, pixels: Any, steps: Any, taps: tuple[Any, Any]
) -> None:
    """Add a channel of a sample to its bin."""
    (p0, p1, p2, p3), (w0, w1, w2, w3) = taps
    at = c * steps[3]
    bins[n, bin_[0], bin_[1], c] += (
        w0 * pixels[p0 + at] + w1 * pixels[p1 + at] + w2 * pixels[p2 + at] + w3 * pixels[p3 + at]
    )


@straight
def _add_back(
    bins: Any, n: Any, bin_: tuple[Any, Any], c: Any, pixels: Any, steps: Any, taps: tuple[Any, Any]
) -> None:
    """Add the gradient of a channel of a bin to the pixels of a sample."""
    at, slope = c * steps[3], bins[n, bin_[0], bin_[1], c]
    for place, weight in zip(*taps, strict=True):
        pixels[place + at] += weight * slope


@kernel
def pool(
    pixels: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    regions: np.ndarray,
    grids: np.ndarray,
    bins: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Fill ``bins[start:stop]`` with the mean of the samples of each bin."""
    _, rows, columns, channels = bins.shape
    for n in range(start, stop):
        for row in range(rows):
            for column in range(columns):
                for c in range(channels):
                    bins[n, row, column, c] = 0
                for sample in range(grids[n, 0] * grids[n, 1]):
                    taps = _taps(regions, grids, steps, size, bins, n, (row, column), sample)
                    for c in range(channels):
                        _add(bins, n, (row, column), c, pixels, steps, taps)


@kernel
def spread(
    pixels: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    regions: np.ndarray,
    grids: np.ndarray,
    bins: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of ``pool`` to channels ``start..stop`` of ``pixels``, from that of its bins."""
    count, rows, columns, _ = bins.shape
    for n in range(count):
        for row in range(rows):
            for column in range(columns):
                for sample in range(grids[n, 0] * grids[n, 1]):
                    taps = _taps(regions, grids, steps, size, bins, n, (row, column), sample)
                    for c in range(start, stop):
                        _add_back(bins, n, (row, column), c, pixels, steps, taps)


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


def riroi_pool(
    features: Tensor, rois: Tensor, size: tuple[int, int], orientations: int, grid: RoiGrid
) -> Tensor:
    """Pool regions and align their orientation channels.

    Args:
        features: ``(batch, channels * orientations, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels.
        size: Bins along height and width.
        orientations: Directions that each channel comes in.
        grid: How regions are sampled; ReDet does not align pixel centres.

    Returns:
        ``(n, channels * orientations, *size)``.
    """
    _check_riroi(features.shape[1], orientations)
    pooled = pool_rotated(features, rois, size, grid)
    return _turn(pooled, rois, orientations, forth=True)


def riroi_spread(grad: Tensor, rois: Tensor, shape: torch.Size, orientations: int, grid: RoiGrid) -> Tensor:
    """Return the gradient of the features of ``riroi_pool``, whose shape is ``shape``."""
    _check_riroi(shape[1], orientations)
    return spread_rotated(_turn(grad, rois, orientations, forth=False), rois, shape, grid)


def _check_riroi(channels: int, orientations: int) -> None:
    if channels % orientations:
        raise OperatorInputError(f"riroi_align_rotated: {channels} channels in {orientations} orientations")


def _turn(bins: Tensor, rois: Tensor, orientations: int, forth: bool) -> Tensor:
    """Turn orientation channels by the angles of the regions; back is the transpose of forth."""
    turns = rois[:, 5].to(bins) * orientations / (2 * math.pi)
    whole = turns.floor()
    places = torch.arange(orientations, device=bins.device)
    back = whole.long()[:, None] if forth else -whole.long()[:, None]
    stacked = bins.unflatten(1, (-1, orientations))
    share = (turns - whole)[:, None, None, None, None]
    near, next_to = (
        stacked.gather(2, ((places - back + step) % orientations)[:, None, :, None, None].expand_as(stacked))
        for step in (0, 1 if forth else -1)
    )
    return ((1 - share) * near + share * next_to).flatten(1, 2)
