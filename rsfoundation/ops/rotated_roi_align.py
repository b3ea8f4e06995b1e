"""RoIAlign over rotated regions, and the rotation-invariant one of ReDet (Han et al. 2021, arXiv 2103.07733).

ReDet's turns the orientation channels by the angle of the region after pooling: between the two nearest
whole turns they are interpolated.

Arrays that both kernels share: ``pixels`` is the flat memory of feature maps whose steps from image to
image, row to row, column to column and channel to channel are ``steps``; ``size`` is their height, width and
number; ``regions`` ``(n, 7)`` holds image index, centre x, y, width, height (feature pixels), cosine and
sine; ``grids`` ``(n, 2)`` the samples per bin along height and width; ``bins`` ``(n, rows, columns,
channels)`` belongs to the pooled regions. The innermost loop runs over channels, which vectorises when they
are contiguous and still works when they are not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rsfoundation.ops.checks import OperatorInputError, check_last_dim
from rsfoundation.ops.kernels.runtime import inlined, kernel
from rsfoundation.ops.kernels.threads import run_chunks
from rsfoundation.ops.roi_align import (
    RoiGrid,
    grid_sizes,
    move_non_finite_outside,
    pool_samples,
    spread_samples,
)

_REGIONS_AT_ONCE = 20  # of 49 bins and 256 channels: 16 MB of gathered values, which stay in the cache
_BLOCK = 64  # channels that a thread adds to at once: their sums are whole lines of the cache
_GRAIN = 1 << 23  # fewest products worth a thread: about a millisecond
_IMAGE, _CX, _CY, _WIDTH, _HEIGHT, _COS, _SIN = range(7)


@inlined
def _taps(
    regions: np.ndarray,
    grids: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    bins: np.ndarray,
    n: int,
    row: int,
    column: int,
    sample: int,
) -> tuple[int, int, int, int, float, float, float, float]:
    """Return the positions in memory of the four pixels of a bilinear sample, and their weights over a bin.

    Positions are computed in the type of the features, as mmcv does it, so that both pick the same pixels.
    The weights of a sample outside the map are zero.
    """
    kind = regions.dtype.type
    one, half = kind(1.0), kind(0.5)
    across_h, across_w = grids[n, 0], grids[n, 1]
    width, height, cos, sin = regions[n, _WIDTH], regions[n, _HEIGHT], regions[n, _COS], regions[n, _SIN]
    bin_h, bin_w = height / kind(bins.shape[1]), width / kind(bins.shape[2])
    v = kind(row) * bin_h - height * half + (kind(sample // across_w) + half) * bin_h / kind(across_h)
    u = kind(column) * bin_w - width * half + (kind(sample % across_w) + half) * bin_w / kind(across_w)
    y, x = v * cos - u * sin + regions[n, _CY], v * sin + u * cos + regions[n, _CX]
    outside = y < -one or y > kind(size[0]) or x < -one or x > kind(size[1])
    share = kind(0.0) if outside else one / kind(across_h * across_w)
    y, x = min(max(y, kind(0.0)), kind(size[0] - 1)), min(max(x, kind(0.0)), kind(size[1] - 1))
    top, left = int(y), int(x)
    down, right = y - kind(top), x - kind(left)
    first = int(regions[n, _IMAGE]) * steps[0] + top * steps[1] + left * steps[2]
    below, after = steps[1] if top < size[0] - 1 else 0, steps[2] if left < size[1] - 1 else 0
    w0, w1 = (one - down) * (one - right) * share, (one - down) * right * share
    w2, w3 = down * (one - right) * share, down * right * share
    return first, first + after, first + below, first + below + after, w0, w1, w2, w3


@kernel
def _pool(
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
    step = steps[3]
    for n in range(start, stop):
        for row in range(rows):
            for column in range(columns):
                sums = bins[n, row, column]
                for c in range(channels):
                    sums[c] = 0
                for sample in range(grids[n, 0] * grids[n, 1]):
                    p0, p1, p2, p3, w0, w1, w2, w3 = _taps(
                        regions, grids, steps, size, bins, n, row, column, sample
                    )
                    if step == 1:  # slices, which the compiler knows to be contiguous
                        a, b = pixels[p0 : p0 + channels], pixels[p1 : p1 + channels]
                        d, e = pixels[p2 : p2 + channels], pixels[p3 : p3 + channels]
                        for c in range(channels):
                            sums[c] += w0 * a[c] + w1 * b[c] + w2 * d[c] + w3 * e[c]
                        continue
                    for c in range(channels):
                        at = c * step
                        sums[c] += (
                            w0 * pixels[p0 + at]
                            + w1 * pixels[p1 + at]
                            + w2 * pixels[p2 + at]
                            + w3 * pixels[p3 + at]
                        )


@kernel
def _spread(
    pixels: np.ndarray,
    steps: np.ndarray,
    size: np.ndarray,
    regions: np.ndarray,
    grids: np.ndarray,
    bins: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Add the gradient of ``_pool`` to parts ``start..stop`` of ``pixels``, from that of its bins.

    A part is an image's block of channels; images are counted first.
    """
    count, rows, columns, channels = bins.shape
    step, images = steps[3], size[2]
    for part in range(start, stop):
        first = part // images * _BLOCK
        last = min(first + _BLOCK, channels)
        for n in range(count):
            if int(regions[n, _IMAGE]) != part % images:
                continue
            for row in range(rows):
                for column in range(columns):
                    slopes = bins[n, row, column, first:last]
                    for sample in range(grids[n, 0] * grids[n, 1]):
                        p0, p1, p2, p3, w0, w1, w2, w3 = _taps(
                            regions, grids, steps, size, bins, n, row, column, sample
                        )
                        if step == 1:
                            for place, weight in ((p0, w0), (p1, w1), (p2, w2), (p3, w3)):
                                target = pixels[place + first : place + last]
                                for c in range(last - first):
                                    target[c] += weight * slopes[c]
                            continue
                        for c in range(last - first):
                            at = (first + c) * step
                            pixels[p0 + at] += w0 * slopes[c]
                            pixels[p1 + at] += w1 * slopes[c]
                            pixels[p2 + at] += w2 * slopes[c]
                            pixels[p3 + at] += w3 * slopes[c]


def pool_rotated(features: Tensor, rois: Tensor, output_size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Average bilinear samples in each bin of each rotated region.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels; bins of regions with
            NaN or infinity are zero.
        output_size: Bins along height and width.
        grid: How regions are sampled.

    Returns:
        ``(n, channels, *output_size)``.

    Raises:
        OperatorInputError: Wrong shapes; on a CPU also an image index outside of the batch, or a negative
            size with ``aligned``. Elsewhere values are not looked at, and must be right.
    """
    rois = _checked(rois, features.shape[0], grid)
    if features.device.type != "cpu":
        return pool_samples(features, rois, output_size, grid)

    kind = _kernel_type(features)
    maps = features.detach().to(kind)
    last = _worth_transposing(rois, output_size, grid, maps.shape)
    maps = maps.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    bins = torch.empty(len(rois), *output_size, features.shape[1], dtype=kind)
    _run(_pool, len(rois), maps, rois, grid, bins, pieces=8)
    return bins.permute(0, 3, 1, 2).to(features.dtype)


def spread_rotated(grad: Tensor, rois: Tensor, feature_shape: torch.Size, grid: RoiGrid) -> Tensor:
    """Return the gradient of the features ``(batch, channels, height, width)``.

    Args:
        grad: Gradient of the output, ``(n, channels, rows, columns)``.
        rois: As in the forward pass.
        feature_shape: Shape of the features.
        grid: As in the forward pass.
    """
    rois = _checked(rois, feature_shape[0], grid)
    if grad.device.type != "cpu":
        return spread_samples(grad, rois, feature_shape, grid)

    kind = _kernel_type(grad)
    size = (int(grad.shape[2]), int(grad.shape[3]))
    last = _worth_transposing(rois, size, grid, feature_shape)
    layout = torch.channels_last if last else torch.contiguous_format
    out = torch.zeros(feature_shape, dtype=kind).contiguous(memory_format=layout)
    bins = grad.detach().to(kind).permute(0, 2, 3, 1).contiguous()
    parts = feature_shape[0] * math.ceil(feature_shape[1] / _BLOCK)
    _run(_spread, parts, out, rois, grid, bins, pieces=2)
    return out.to(grad.dtype)


def _run(
    kernel: Callable[..., None],
    count: int,
    maps: Tensor,
    rois: Tensor,
    grid: RoiGrid,
    bins: Tensor,
    pieces: int,
) -> None:
    """Run a kernel on dense ``maps`` (batch, channels, height, width) and ``bins``."""
    table = rois.detach().to(maps.dtype)
    grids = grid_sizes(table, (bins.shape[1], bins.shape[2]), grid)
    sizes = table[:, 3:5] * grid.spatial_scale
    sizes = sizes if grid.aligned else sizes.clamp(min=1.0)
    centres = table[:, 1:3] * grid.spatial_scale - (0.5 if grid.aligned else 0.0)
    theta = -table[:, 5:] if grid.clockwise else table[:, 5:]
    regions = torch.cat([table[:, :1], centres, sizes, theta.cos(), theta.sin()], 1)
    steps = torch.tensor([maps.stride(axis) for axis in (0, 2, 3, 1)])
    pixels = maps.as_strided((maps.numel(),), (1,))
    size = torch.tensor([*maps.shape[2:], len(maps)])
    tensors = (pixels, steps, size, regions, grids, bins)
    products = 4 * int(grids.prod(1).sum()) * math.prod(bins.shape[1:])
    grain = math.ceil(_GRAIN * count / max(products, 1))
    run_chunks(kernel, count, *(tensor.numpy() for tensor in tensors), grain=grain, pieces=pieces)


def _kernel_type(tensor: Tensor) -> torch.dtype:
    """Half types are computed in float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _checked(rois: Tensor, batch: int, grid: RoiGrid) -> Tensor:
    """Return regions that the kernels can take; raise for wrong shapes, and on a CPU for wrong values."""
    check_last_dim("roi_align_rotated", rois, 6)
    rois = move_non_finite_outside("roi_align_rotated", rois)
    if rois.device.type != "cpu":  # to look at values is to wait for the device
        return rois
    if len(rois) and not (int(rois[:, 0].min()) >= 0 and int(rois[:, 0].max()) < batch):
        raise OperatorInputError(f"roi_align_rotated: image index outside the batch of {batch}")
    if grid.aligned and len(rois) and float(rois[:, 3:5].min()) < 0:
        raise OperatorInputError("roi_align_rotated: aligned regions need sizes of zero or more")
    return rois


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
    """Average bilinear samples in each bin of each rotated region; differentiable for the features.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels.
        output_size: Bins along height and width.
        grid: How regions are sampled.

    Returns:
        ``(n, channels, *output_size)``.
    """
    return _RoIAlignRotated.apply(features, rois, output_size, grid)


def pool_levels(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    grids: Sequence[RoiGrid],
) -> Tensor:
    """Average bilinear samples of rotated regions, each from its own level; shapes depend on no value.

    For exported graphs: gathers, products and sums of torch alone. Models that run in PyTorch take
    :func:`roi_align_rotated`.

    Args:
        features: ``(1, channels, height, width)`` per level.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels; all finite.
        levels: ``(n,)``, the level of each region.
        output_size: Bins along height and width.
        grids: How regions are sampled, per level; alike but for the scale.

    Returns:
        ``(n, channels, *output_size)``.

    Raises:
        OperatorInputError: A number of samples that depends on the region.
    """
    grid = grids[0]
    if grid.sampling_ratio < 1:
        raise OperatorInputError("roi_align_rotated: a graph needs a fixed sampling_ratio, found 0")
    channels = int(features[0].shape[1])
    flat = torch.cat([maps[0].flatten(1) for maps in features], 1).transpose(0, 1).contiguous()
    areas = [maps.shape[2] * maps.shape[3] for maps in features]
    table = torch.stack(
        [
            torch.tensor([one.spatial_scale for one in grids], dtype=rois.dtype),
            torch.tensor([maps.shape[2] for maps in features], dtype=rois.dtype),
            torch.tensor([maps.shape[3] for maps in features], dtype=rois.dtype),
        ],
        dim=1,
    )[levels]
    starts = torch.tensor([sum(areas[:index]) for index in range(len(areas))])[levels]
    scale, height, width = (column[:, None] for column in table.unbind(1))
    y, x = _sample_positions(rois, scale, output_size, grid)
    inside = ((y >= -1) & (y <= height) & (x >= -1) & (x <= width)).to(rois)
    y = torch.minimum(y.clamp(min=0), height - 1)
    x = torch.minimum(x.clamp(min=0), width - 1)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    below, after = torch.minimum(top + 1, height - 1), torch.minimum(left + 1, width - 1)
    pixels = [row * width + column for row in (top, below) for column in (left, after)]
    weights = [v * u * inside for v in (1 - down, down) for u in (1 - right, right)]
    bins = output_size[0] * output_size[1]
    taps = 4 * grid.sampling_ratio**2
    index = torch.stack(pixels, -1).long() + starts[:, None, None]
    weight = torch.stack(weights, -1).view(-1, bins, 1, taps) / grid.sampling_ratio**2
    index = index.view(-1, bins, taps)
    # some regions at a time: the gathered values of all would take gigabytes
    pooled = [
        torch.matmul(part, flat[where])[:, :, 0]
        for part, where in zip(weight.split(_REGIONS_AT_ONCE), index.split(_REGIONS_AT_ONCE), strict=True)
    ]
    return torch.cat(pooled).transpose(1, 2).reshape(-1, channels, *output_size)


def _sample_positions(
    rois: Tensor, scale: Tensor, output_size: tuple[int, int], grid: RoiGrid
) -> tuple[Tensor, Tensor]:
    """Return rows and columns ``(n, bins * samples)`` in pixels of each region's level, bin by bin."""
    side = grid.sampling_ratio
    extents = rois[:, 3:5] * scale
    extents = extents if grid.aligned else extents.clamp(min=1.0)
    offsets = [
        (torch.arange(bins * side, dtype=rois.dtype) + 0.5) / (bins * side) - 0.5 for bins in output_size
    ]
    rows, columns = torch.meshgrid(*offsets, indexing="ij")
    # samples of one bin next to each other
    rows, columns = (
        part.view(output_size[0], side, output_size[1], side).transpose(1, 2).reshape(1, -1)
        for part in (rows, columns)
    )
    v, u = rows * extents[:, 1:], columns * extents[:, :1]
    theta = -rois[:, 5:] if grid.clockwise else rois[:, 5:]
    cos, sin = theta.cos(), theta.sin()
    centres = rois[:, 1:3] * scale - (0.5 if grid.aligned else 0.0)
    return v * cos - u * sin + centres[:, 1:], v * sin + u * cos + centres[:, :1]


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
    """Return the gradient of ``riroi_pool`` for the features.

    Args:
        grad: Gradient of the bins.
        rois: As in the forward pass.
        shape: Shape of the features.
        orientations: As in the forward pass.
        grid: As in the forward pass.
    """
    _check_riroi(shape[1], orientations)
    return spread_rotated(_turn(grad, rois, orientations, forth=False), rois, shape, grid)


def _check_riroi(channels: int, orientations: int) -> None:
    if channels % orientations:
        raise OperatorInputError(f"riroi_align_rotated: {channels} channels in {orientations} orientations")


def _turn(bins: Tensor, rois: Tensor, orientations: int, forth: bool) -> Tensor:
    """Turn orientation channels by the angles of the regions; back is the transpose of forth."""
    turns = torch.nan_to_num(rois[:, 5].to(bins), posinf=0.0, neginf=0.0) * orientations / (2 * math.pi)
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


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_roi_align_rotated_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Fill ``output``."""
    grid = RoiGrid(spatial_scale, sampling_ratio, aligned, clockwise)
    size = (pooled_height, pooled_width)
    output.copy_(pool_rotated(features, rois, size, grid))


def _mmcv_roi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> None:
    """Fill ``grad_input``."""
    grid = RoiGrid(spatial_scale, sampling_ratio, aligned, clockwise)
    shape = grad_input.shape
    grad_input.copy_(spread_rotated(grad_output, rois, shape, grid))


def _mmcv_riroi_align_rotated_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Fill ``output``."""
    grid = RoiGrid(spatial_scale, num_samples, aligned=False, clockwise=clockwise)
    output.copy_(riroi_pool(features, rois, (pooled_height, pooled_width), num_orientations, grid))


def _mmcv_riroi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Fill ``grad_input``."""
    grid = RoiGrid(spatial_scale, num_samples, aligned=False, clockwise=clockwise)
    grad_input.copy_(riroi_spread(grad_output, rois, grad_input.shape, num_orientations, grid))
