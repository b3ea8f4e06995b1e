"""RoIAlign over upright regions ``(x1, y1, x2, y2)``: average by torchvision, maximum by torch."""

from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from rsfoundation.ops.checks import check_finite, check_last_dim
from rsfoundation.ops.roi_sampling import RoiGrid, bilinear_taps


class MaxPooled(NamedTuple):
    """Largest sample of each bin and where it was taken (feature pixels; -1 where a bin is empty)."""

    values: Tensor
    y: Tensor
    x: Tensor


def roi_align_average(features: Tensor, rois: Tensor, size: tuple[int, int], grid: RoiGrid) -> Tensor:
    """Average the samples of each bin; differentiable.

    Args:
        features: ``(batch, channels, height, width)``.
        rois: ``(n, 5)`` of image index, x1, y1, x2, y2 in input pixels.
        size: Bins along height and width.
        grid: How regions are sampled; ``clockwise`` has no meaning here.

    Returns:
        ``(n, channels, *size)``.
    """
    check_last_dim("roi_align", rois, 5)
    maps = features.to(_wide(features))
    pooled = torchvision.ops.roi_align(
        maps, rois.to(maps), size, grid.spatial_scale, grid.sampling_ratio, grid.aligned
    )
    return pooled.to(features.dtype)


def roi_align_average_backward(
    grad: Tensor, rois: Tensor, feature_shape: torch.Size, grid: RoiGrid
) -> Tensor:
    """Return the gradient of ``roi_align_average`` for the features."""
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

    Args and shapes as in ``roi_align_average``; each field of the result is ``(n, channels, *size)``.
    """
    check_last_dim("roi_align", rois, 5)
    check_finite("roi_align", rois)
    shape = (len(rois), features.shape[1], *size)
    best = MaxPooled(*(features.new_full(shape, fill) for fill in (-10000.0, -1.0, -1.0)))
    for n, roi in enumerate(rois.to(features)):
        _fill_max(best, n, features[int(roi[0])], _sample_positions(roi, size, grid), size)
    return best


def roi_align_max_backward(
    grad: Tensor, rois: Tensor, pooled: MaxPooled, feature_shape: torch.Size
) -> Tensor:
    """Return the gradient of ``roi_align_max`` for the features; ``pooled`` is its result."""
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
