"""Operators that sample feature maps, as ``mmcv.ops`` calls them.

mmcv's scratch tensors stay as they are. mmcv hands the sizes of deformable convolution over by name.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.deform_conv import DeformedConv, Geometry, fill_input_grads, fill_output, weight_grad
from rsfoundation.ops.feature_ops import carafe, deform_attention, deform_attention_backward
from rsfoundation.ops.feature_ops import carafe_backward as reassembly_backward
from rsfoundation.ops.feature_ops import rotated_feature_align as align
from rsfoundation.ops.feature_ops import rotated_feature_align_backward as align_backward


def gather_patches(
    image: Tensor, rows: Tensor, columns: Tensor, kernel: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the patches around some pixels, ``(channels * kernel area, count)``.

    Args:
        image: ``(1, channels, h, w)``.
        rows: ``(count,)`` of output pixels.
        columns: ``(count,)``.
        kernel: Height and width.
        padding: Zeros added above and below, left and right.
    """
    padded = F.pad(image[0], (padding[1], padding[1], padding[0], padding[0]))
    dy, dx = torch.meshgrid(*(torch.arange(size, device=image.device) for size in kernel), indexing="ij")
    patches = padded[:, rows[None] + dy.reshape(-1, 1), columns[None] + dx.reshape(-1, 1)]
    return patches.flatten(0, 1)


def place_pixels(values: Tensor, rows: Tensor, columns: Tensor, image: Tensor) -> None:
    """Write ``values`` (channels, count) into ``image`` (1, channels, h, w) in place."""
    image[0, :, rows, columns] = values


def rotate_filters(filters: Tensor, indices: Tensor) -> Tensor:
    """Return every filter in every rotation.

    Args:
        filters: ``(out, in, orientations, h, w)``.
        indices: ``(orientations, h, w, rotations)``: where each entry goes, counted from 1.

    Returns:
        ``(out * rotations, in * orientations, h, w)``.
    """
    planes, inputs, orientations, height, width = filters.shape
    target = indices.flatten(0, 2).long() - 1
    source = torch.empty_like(target).scatter_(0, target, _places(target))
    rotated = filters.flatten(2)[:, :, source]  # out, in, entry, rotation
    shape = (planes * target.shape[1], inputs * orientations, height, width)
    return rotated.permute(0, 3, 1, 2).reshape(shape)


def rotate_filters_backward(grad: Tensor, indices: Tensor, filter_shape: torch.Size) -> Tensor:
    """Return the gradient of the filters: the sum over rotations of where each entry went."""
    planes, inputs = filter_shape[:2]
    target = indices.flatten(0, 2).long() - 1
    spread = grad.reshape(planes, target.shape[1], inputs, -1).permute(0, 2, 3, 1)
    return spread.gather(2, target.expand(planes, inputs, -1, -1)).sum(-1).view(filter_shape)


def _places(like: Tensor) -> Tensor:
    return torch.arange(len(like), device=like.device)[:, None].expand_as(like)


def _without_mask(sizes: dict[str, int]) -> Geometry:
    """Read the geometry that mmcv hands to deformable convolution by name."""
    names = ("dH", "dW", "padH", "padW", "dilationH", "dilationW", "group", "deformable_group")
    return Geometry(*(sizes[name] for name in names))


def _with_mask(sizes: dict[str, int]) -> Geometry:
    """Read the geometry that mmcv hands to modulated deformable convolution by name."""
    names = (
        "stride_h",
        "stride_w",
        "pad_h",
        "pad_w",
        "dilation_h",
        "dilation_w",
        "group",
        "deformable_group",
    )
    return Geometry(*(sizes[name] for name in names))


def deform_conv_forward(
    image: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fill ``output``."""
    conv = DeformedConv(image, weight, offset, None, _without_mask(sizes), im2col_step)
    fill_output(conv, None, output)


def deform_conv_backward_input(
    image: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    *,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    conv = DeformedConv(image, weight, offset, None, _without_mask(sizes), im2col_step)
    fill_input_grads(conv, grad_output, grad_input, grad_offset, None)


def deform_conv_backward_parameters(
    image: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    im2col_step: int,
    **sizes: int,
) -> None:
    """Add ``scale`` times the gradient to ``grad_weight``."""
    conv = DeformedConv(image, grad_weight, offset, None, _without_mask(sizes), im2col_step)
    grad_weight.add_(weight_grad(conv, grad_output), alpha=scale)


def modulated_deform_conv_forward(
    image: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill ``output``."""
    conv = DeformedConv(image, weight, offset, mask, _with_mask(sizes))
    fill_output(conv, bias if with_bias else None, output)


def modulated_deform_conv_backward(
    image: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Fill the five gradients."""
    conv = DeformedConv(image, weight, offset, mask, _with_mask(sizes))
    fill_input_grads(conv, grad_output, grad_input, grad_offset, grad_mask)
    grad_weight.copy_(weight_grad(conv, grad_output))
    if with_bias:
        grad_bias.copy_(grad_output.sum((0, 2, 3)))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill ``output``, and ``rfeatures`` with what the backward pass is handed of the features."""
    rfeatures.copy_(features)
    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients."""
    carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
    )


def carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill ``output``."""
    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))


def carafe_naive_backward(
    grad_output: Tensor,
    features: Tensor,
    masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Fill both gradients."""
    grads = reassembly_backward(features, masks, grad_output, kernel_size, group_size, scale_factor)
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values; level starts follow from the shapes."""
    return deform_attention(value, spatial_shapes, sampling_loc, attn_weight)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients."""
    grads = deform_attention_backward(value, spatial_shapes, sampling_loc, attn_weight, grad_output)
    for target, source in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        target.copy_(source)


def rotated_feature_align_forward(
    features: Tensor, best_bboxes: Tensor, output: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill ``output``. R3Det hands its boxes as one row of 5 per pixel of the batch."""
    output.copy_(align(features, _per_pixel(best_bboxes, features), spatial_scale, points))


def rotated_feature_align_backward(
    grad_output: Tensor, best_bboxes: Tensor, grad_input: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill ``grad_input``."""
    boxes = _per_pixel(best_bboxes, grad_output)
    grad_input.copy_(align_backward(grad_output, boxes, spatial_scale, points))


def _per_pixel(boxes: Tensor, maps: Tensor) -> Tensor:
    """Return boxes as ``(n, h, w, 5)`` where there is one for each pixel."""
    shape = (len(maps), *maps.shape[2:], 5)
    return boxes.reshape(shape) if boxes.numel() == math.prod(shape) else boxes


def active_rotated_filter_forward(filters: Tensor, indices: Tensor, output: Tensor) -> None:
    """Fill ``output``."""
    output.copy_(rotate_filters(filters, indices))


def active_rotated_filter_backward(grad_output: Tensor, indices: Tensor, grad_input: Tensor) -> None:
    """Fill ``grad_input``."""
    grad_input.copy_(rotate_filters_backward(grad_output, indices, grad_input.shape))


def masked_im2col_forward(
    image: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Fill ``columns`` (channels * kernel area, pixels)."""
    columns.copy_(gather_patches(image, mask_h_idx, mask_w_idx, (kernel_h, kernel_w), (pad_h, pad_w)))


def masked_col2im_forward(
    columns: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    image: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Write ``columns`` (channels, pixels) into ``image``."""
    place_pixels(columns, mask_h_idx, mask_w_idx, image)
