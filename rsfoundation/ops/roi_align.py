"""RoIAlign over upright regions ``(x1, y1, x2, y2)``: average by torchvision, maximum by torch."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from rsfoundation.ops.checks import check_last_dim, finite_rows

_AVERAGE_POOLING = 1  # mmcv's number for it
_VALUES_AT_ONCE = 1 << 26  # gathered values held at once: 256 MB of float32


class RoiGrid(NamedTuple):
    """How regions are sampled.

    Attributes:
        spatial_scale: Feature pixels per input pixel.
        sampling_ratio: Samples per bin along each side; 0 for one per feature pixel, rounded up.
        aligned: Pixel centres are at half integers, and small regions keep their size.
        clockwise: Positive angles turn clockwise in image axes.
    """

    spatial_scale: float
    sampling_ratio: int = 0
    aligned: bool = True
    clockwise: bool = True


_OUTSIDE = {5: (0, -10000, -10000, -9992, -9992), 6: (0, -10000, -10000, 8, 8, 0)}


def move_non_finite_outside(name: str, rois: Tensor) -> Tensor:
    """Return regions with those that hold NaN or infinity moved outside of every map: their bins are zero.

    torchvision's CPU operator reads memory at random for them.

    Args:
        name: The operator, for the log.
        rois: ``(n, 5)`` upright or ``(n, 6)`` rotated regions, image index first.
    """
    outside = rois.new_tensor(_OUTSIDE[int(rois.shape[1])])
    return torch.where(finite_rows(name, rois)[:, None], rois, outside)


class _Taps(NamedTuple):
    """Bilinear taps: flat pixel ``(s, 4)``, weight ``(s, 4)``, output bin ``(s,)``."""

    pixel: Tensor
    weight: Tensor
    bin: Tensor


def pool_samples(features: Tensor, rois: Tensor, size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Average samples of rotated regions in plain torch.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels; all finite.
        size: Bins along height and width.
        grid: How regions are sampled.
    """
    batch, channels, height, width = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(-1, channels)
    out = flat.new_zeros(len(rois) * size[0] * size[1], channels)
    for taps in _tap_blocks(rois, size, grid, (batch, height, width), channels):
        for corner in range(4):
            values = flat[taps.pixel[:, corner]] * taps.weight[:, corner, None].to(flat)
            out.index_add_(0, taps.bin, values)
    return out.view(len(rois), *size, channels).permute(0, 3, 1, 2).contiguous()


def spread_samples(grad: Tensor, rois: Tensor, feature_shape: torch.Size, grid: RoiGrid) -> Tensor:
    """Return the gradient of ``pool_samples`` for the features.

    Args:
        grad: Gradient of the bins, ``(n, channels, rows, columns)``.
        rois: As in the forward pass.
        feature_shape: Shape of the features.
        grid: As in the forward pass.
    """
    batch, channels, height, width = feature_shape
    size = (int(grad.shape[2]), int(grad.shape[3]))
    flat = grad.permute(0, 2, 3, 1).reshape(-1, channels)
    out = flat.new_zeros(batch * height * width, channels)
    for taps in _tap_blocks(rois, size, grid, (batch, height, width), channels):
        for corner in range(4):
            out.index_add_(0, taps.pixel[:, corner], flat[taps.bin] * taps.weight[:, corner, None].to(flat))
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()


def _tap_blocks(
    rois: Tensor, size: tuple[int, int], grid: RoiGrid, shape: tuple[int, int, int], channels: int
) -> list[_Taps]:
    """Split regions so that the samples of one block times the channels fit the memory bound."""
    if not len(rois):
        return []
    counts = grid_sizes(rois, size, grid).prod(1) * (size[0] * size[1])
    blocks = (counts.cumsum(0) * channels // _VALUES_AT_ONCE).tolist()
    starts = [0] + [i for i in range(1, len(blocks)) if blocks[i] != blocks[i - 1]] + [len(blocks)]
    return [_taps(rois, start, stop, size, grid, shape) for start, stop in pairwise(starts)]


def _extents(rois: Tensor, grid: RoiGrid) -> Tensor:
    """Return height and width ``(n, 2)`` in feature pixels."""
    extents = rois[:, [4, 3]] * grid.spatial_scale
    return extents if grid.aligned else extents.clamp(min=1.0)


def grid_sizes(rois: Tensor, size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Return samples per bin along height and width, ``(n, 2)``.

    Args:
        rois: ``(n, 6)``, rotated regions.
        size: Bins along height and width.
        grid: How regions are sampled.
    """
    if grid.sampling_ratio > 0:
        return torch.full((len(rois), 2), grid.sampling_ratio, device=rois.device)
    bins = rois.new_tensor(size)
    return (_extents(rois, grid) / bins).float().ceil().long()


def _taps(
    rois: Tensor, start: int, stop: int, size: tuple[int, int], grid: RoiGrid, shape: tuple[int, int, int]
) -> _Taps:
    """List the taps of regions ``start..stop``; bins are numbered over all regions."""
    part = rois[start:stop]
    grids = grid_sizes(part, size, grid)
    per_bin = grids.prod(1)
    owner = torch.repeat_interleave(
        torch.arange(len(part), device=rois.device), per_bin * (size[0] * size[1])
    )
    first = (per_bin * (size[0] * size[1])).cumsum(0) - per_bin * (size[0] * size[1])
    rank = torch.arange(len(owner), device=rois.device) - first[owner]
    cell, sample = rank // per_bin[owner], rank % per_bin[owner]
    row, column = cell // size[1], cell % size[1]
    iy, ix = sample // grids[owner, 1], sample % grids[owner, 1]

    extents = _extents(part, grid)
    steps = extents / rois.new_tensor(size)
    v = -extents[owner, 0] / 2 + row * steps[owner, 0] + (iy + 0.5) * steps[owner, 0] / grids[owner, 0]
    u = -extents[owner, 1] / 2 + column * steps[owner, 1] + (ix + 0.5) * steps[owner, 1] / grids[owner, 1]
    theta = (-part[:, 5] if grid.clockwise else part[:, 5])[owner]
    shift = 0.5 if grid.aligned else 0.0
    y = v * theta.cos() - u * theta.sin() + part[owner, 2] * grid.spatial_scale - shift
    x = v * theta.sin() + u * theta.cos() + part[owner, 1] * grid.spatial_scale - shift
    pixel, weight = bilinear_taps(y, x, shape[1], shape[2])
    pixel = pixel + (part[owner, 0].long() * shape[1] * shape[2])[:, None]
    bins = (owner + start) * (size[0] * size[1]) + cell
    return _Taps(pixel, weight / per_bin[owner, None], bins)


def bilinear_taps(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the flat pixels ``(s, 4)`` and weights ``(s, 4)`` of bilinear samples.

    Samples beyond one pixel outside the map, and those that are NaN, weigh nothing; others are clamped to it.

    Args:
        y: ``(s,)``, rows.
        x: ``(s,)``, columns.
        height: Rows of the map.
        width: Columns of the map.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y = torch.where(inside, y, 0).clamp(0, height - 1)  # NaN would be no index
    x = torch.where(inside, x, 0).clamp(0, width - 1)
    y_low, x_low = y.floor(), x.floor()
    down, right = y - y_low, x - x_low
    top, left = y_low.long(), x_low.long()
    bottom, far = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    pixel = torch.stack(
        [top * width + left, top * width + far, bottom * width + left, bottom * width + far], 1
    )
    weight = torch.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right], 1)
    return pixel, weight * inside[:, None]


class MaxPooled(NamedTuple):
    """Largest sample of each bin and where it was taken (feature pixels; -1 where a bin is empty)."""

    values: Tensor
    y: Tensor
    x: Tensor


def roi_align_average(features: Tensor, rois: Tensor, size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Average the samples of each bin; differentiable.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 5)`` of image index, x1, y1, x2, y2 in input pixels; with NaN or infinity, bins are zero.
        size: Bins along height and width.
        grid: How regions are sampled; ``clockwise`` has no meaning here.

    Returns:
        ``(n, channels, *size)``.
    """
    check_last_dim("roi_align", rois, 5)
    rois = move_non_finite_outside("roi_align", rois)
    maps = features.to(_wide(features))
    pooled = torchvision.ops.roi_align(
        maps, rois.to(maps), size, grid.spatial_scale, grid.sampling_ratio, grid.aligned
    )
    return pooled.to(features.dtype)


def roi_align_average_backward(
    grad: Tensor, rois: Tensor, feature_shape: torch.Size, grid: RoiGrid
) -> Tensor:
    """Return the gradient of ``roi_align_average`` for the features.

    Args:
        grad: Gradient of the bins, ``(n, channels, rows, columns)``.
        rois: As in the forward pass, like all below.
        feature_shape: Shape of the features.
        grid: How regions are sampled.
    """
    rois = move_non_finite_outside("roi_align", rois)
    size = (int(grad.shape[2]), int(grad.shape[3]))
    flow = grad.to(_wide(grad))
    of_maps = torch.ops.torchvision._roi_align_backward(
        flow, rois.to(flow), grid.spatial_scale, *size, *feature_shape, grid.sampling_ratio, grid.aligned
    )
    return of_maps.to(grad.dtype)


def _wide(tensor: Tensor) -> torch.dtype:
    """Half types are computed in float32: torchvision has no bfloat16, and regions need the digits."""
    return torch.promote_types(tensor.dtype, torch.float32)


def roi_align_max(features: Tensor, rois: Tensor, size: tuple[int, int], grid: RoiGrid) -> MaxPooled:
    """Take the largest sample of each bin.

    Args:
        features: As in ``roi_align_average``, like all below.
        rois: Regions.
        size: Bins along height and width.
        grid: How regions are sampled.

    Returns:
        Fields of shape ``(n, channels, *size)``.
    """
    check_last_dim("roi_align", rois, 5)
    rois = move_non_finite_outside("roi_align", rois)
    shape = (len(rois), features.shape[1], *size)
    best = MaxPooled(*(features.new_full(shape, fill) for fill in (-10000.0, -1.0, -1.0)))
    for n, roi in enumerate(rois.to(features)):
        _fill_max(best, n, features[int(roi[0])], _sample_positions(roi, size, grid), size)
    return best


def roi_align_max_backward(
    grad: Tensor, rois: Tensor, pooled: MaxPooled, feature_shape: torch.Size
) -> Tensor:
    """Return the gradient of ``roi_align_max`` for the features.

    Args:
        grad: Gradient of the bins, ``(n, channels, rows, columns)``.
        rois: As in the forward pass.
        pooled: The result of ``roi_align_max``.
        feature_shape: Shape of the features.
    """
    rois = move_non_finite_outside("roi_align", rois)
    batch, channels, height, width = feature_shape
    out = grad.new_zeros(batch * channels * height * width)
    taken = pooled.y.flatten() != -1
    pixel, weight = bilinear_taps(pooled.y.flatten()[taken], pooled.x.flatten()[taken], height, width)
    plane = (rois[:, :1].long() * channels + torch.arange(channels, device=grad.device))[:, :, None, None]
    plane = plane.expand(grad.shape).flatten()[taken] * (height * width)
    values = grad.flatten()[taken][:, None] * weight
    out.index_add_(0, (pixel + plane[:, None]).flatten(), values.flatten())
    return out.view(feature_shape)


def _sample_positions(roi: Tensor, size: tuple[int, int], grid: RoiGrid) -> tuple[Tensor, Tensor]:
    """Return the sampled rows ``(rows, gh)`` and columns ``(columns, gw)`` of one region."""
    shift = 0.5 if grid.aligned else 0.0
    corners = roi[1:] * grid.spatial_scale - shift
    lines = []
    for start, end, bins in ((corners[1], corners[3], size[0]), (corners[0], corners[2], size[1])):
        extent = end - start if grid.aligned else (end - start).clamp(min=1.0)
        count = grid.sampling_ratio if grid.sampling_ratio > 0 else int(torch.ceil((extent / bins).float()))
        step = extent / bins
        cells = torch.arange(bins, device=roi.device, dtype=roi.dtype)[:, None] * step
        lines.append(
            start
            + cells
            + (torch.arange(count, device=roi.device, dtype=roi.dtype) + 0.5) * step / max(count, 1)
        )
    return lines[0], lines[1]


def _fill_max(
    best: MaxPooled, n: int, image: Tensor, lines: tuple[Tensor, Tensor], size: tuple[int, int]
) -> None:
    (rows, grid_h), (columns, grid_w) = lines[0].shape, lines[1].shape
    if grid_h * grid_w == 0:
        return
    y = lines[0][:, None, :, None].expand(rows, columns, grid_h, grid_w)
    x = lines[1][None, :, None, :].expand(rows, columns, grid_h, grid_w)
    pixel, weight = bilinear_taps(y.flatten(), x.flatten(), *image.shape[1:])
    samples = (image.flatten(1)[:, pixel] * weight).sum(-1).view(len(image), *size, grid_h * grid_w)
    value, index = samples.max(-1)
    best.values[n] = value
    best.y[n] = y.flatten(2).expand(len(image), -1, -1, -1).gather(-1, index[..., None])[..., 0]
    best.x[n] = x.flatten(2).expand(len(image), -1, -1, -1).gather(-1, index[..., None])[..., 0]


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_roi_align_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` and, for maximum pooling, the two argmax tensors."""
    grid, size = RoiGrid(spatial_scale, sampling_ratio, aligned), (aligned_height, aligned_width)
    if pool_mode == _AVERAGE_POOLING:
        output.copy_(roi_align_average(features, rois, size, grid))
        return
    pooled = roi_align_max(features, rois, size, grid)
    for target, source in zip((output, argmax_y, argmax_x), pooled, strict=True):
        target.copy_(source)


def _mmcv_roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``grad_input``."""
    shape = grad_input.shape
    if pool_mode == _AVERAGE_POOLING:
        grid = RoiGrid(spatial_scale, sampling_ratio, aligned)
        grad = roi_align_average_backward(grad_output, rois, shape, grid)
    else:
        pooled = MaxPooled(grad_output, argmax_y, argmax_x)
        grad = roi_align_max_backward(grad_output, rois, pooled, shape)
    grad_input.copy_(grad)


def _mmcv_roi_pool_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``output`` and ``argmax``, by torchvision's operator."""
    size = (pooled_height, pooled_width)
    pooled, places = torch.ops.torchvision.roi_pool(
        features, move_non_finite_outside("roi_pool", rois).to(features), spatial_scale, *size
    )
    output.copy_(pooled)
    argmax.copy_(places)


def _mmcv_roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Fill ``grad_input``."""
    size = (pooled_height, pooled_width)
    rois = move_non_finite_outside("roi_pool", rois)
    where = (rois.to(grad_output), argmax, spatial_scale, *size, *grad_input.shape)
    grad_input.copy_(torch.ops.torchvision._roi_pool_backward(grad_output.contiguous(), *where))
