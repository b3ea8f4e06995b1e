"""mmcv's pooling, sampling and loss operators over ours: signatures of ``mmcv._ext``."""

import torch
from torch import Tensor

from rsfoundation.ops.focal_loss import sigmoid_focal, sigmoid_focal_slope, softmax_focal, softmax_focal_slope
from rsfoundation.ops.roi_align import (
    MaxPooled,
    RoiGrid,
    roi_align_average,
    roi_align_average_backward,
    roi_align_max,
    roi_align_max_backward,
)
from rsfoundation.ops.roi_align_rotated import pool_rotated, riroi_pool, riroi_spread, spread_rotated

_MAX, _AVERAGE = 0, 1


def roi_align_forward(
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
    if pool_mode == _AVERAGE:
        output.copy_(roi_align_average(features, rois, size, grid))
        return
    pooled = roi_align_max(features, rois, size, grid)
    for target, source in zip((output, argmax_y, argmax_x), pooled, strict=True):
        target.copy_(source)


def roi_align_backward(
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
    if pool_mode == _AVERAGE:
        grid = RoiGrid(spatial_scale, sampling_ratio, aligned)
        grad = roi_align_average_backward(grad_output, rois, shape, grid)
    else:
        pooled = MaxPooled(grad_output, argmax_y, argmax_x)
        grad = roi_align_max_backward(grad_output, rois, pooled, shape)
    grad_input.copy_(grad)


def roi_align_rotated_forward(
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


def roi_align_rotated_backward(
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


def riroi_align_rotated_forward(
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


def riroi_align_rotated_backward(
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


def roi_pool_forward(
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
    pooled, places = torch.ops.torchvision.roi_pool(features, rois.to(features), spatial_scale, *size)
    output.copy_(pooled)
    argmax.copy_(places)


def roi_pool_backward(
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
    where = (rois.to(grad_output), argmax, spatial_scale, *size, *grad_input.shape)
    grad_input.copy_(torch.ops.torchvision._roi_pool_backward(grad_output.contiguous(), *where))


def sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each element."""
    output.copy_(sigmoid_focal(logits, target, gamma, alpha, weight))


def sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` with the derivative of each element."""
    grad_input.copy_(sigmoid_focal_slope(logits, target, gamma, alpha, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each row."""
    output.copy_(softmax_focal(softmax, target, gamma, alpha, weight))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input``; mmcv's scratch tensor ``buff`` is not needed."""
    grad_input.copy_(softmax_focal_slope(softmax, target, gamma, alpha, weight))


def get_compiler_version() -> str:
    """Say that nothing was compiled."""
    return "none (rsfoundation.ops)"


def get_compiling_cuda_version() -> str:
    """Say that nothing was compiled."""
    return "not available"
