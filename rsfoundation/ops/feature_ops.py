"""Operators on feature maps: CARAFE, deformable attention, rotated alignment, masked convolution."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.roi_align import bilinear_taps


def carafe(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Upsample: each new pixel is a weighted sum over a neighbourhood of its source pixel; differentiable.

    Args:
        features: ``(n, channels, h, w)``; beyond its border it is zero.
        masks: ``(n, groups * kernel * kernel, h * scale, w * scale)``; channels are split over groups.
        kernel: Odd width of the neighbourhood.
        groups: Groups of channels that share their weights.
        scale: Factor of upsampling, along each side.

    Returns:
        ``(n, channels, h * scale, w * scale)``.

    Raises:
        OperatorInputError: Shapes that do not fit.
    """
    batch, channels, height, width = features.shape
    wanted = (batch, groups * kernel**2, height * scale, width * scale)
    if masks.shape != wanted or channels % groups or kernel % 2 == 0:
        found = (
            f"features {tuple(features.shape)}, masks {tuple(masks.shape)}, kernel {kernel}, groups {groups}"
        )
        raise OperatorInputError(f"carafe: {found} do not fit; masks should be {wanted}")
    patches = F.unfold(features, kernel, padding=kernel // 2)
    patches = patches.view(batch, groups, channels // groups, kernel**2, height, width)
    weights = masks.view(batch, groups, kernel**2, height, scale, width, scale)
    out = torch.einsum("ngckhw,ngkhiwj->ngchiwj", patches, weights)
    return out.reshape(batch, channels, height * scale, width * scale)


def carafe_backward(
    features: Tensor, masks: Tensor, grad: Tensor, kernel: int, groups: int, scale: int
) -> tuple[Tensor, ...]:
    """Return the gradients of features and masks.

    Args:
        features: As in ``carafe``, like all but ``grad``.
        masks: Weights.
        grad: Gradient of the result.
        kernel: Width of the neighbourhood.
        groups: Groups of channels.
        scale: Factor of upsampling.
    """
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (features, masks)]
        out = carafe(leaves[0], leaves[1], kernel, groups, scale)
        return torch.autograd.grad(out, leaves, grad)


def deform_attention(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted samples of all levels; differentiable.

    Args:
        value: ``(batch, keys, heads, width)``; keys are the pixels of all levels in order.
        shapes: ``(levels, 2)`` heights and widths.
        locations: ``(batch, queries, heads, levels, points, 2)``, x and y in [0, 1] of each level.
        weights: ``(batch, queries, heads, levels, points)``.

    Returns:
        ``(batch, queries, heads * width)``.
    """
    batch, _, heads, width = value.shape
    queries = locations.shape[1]
    sizes = [(int(height), int(columns)) for height, columns in shapes.tolist()]
    total = value.new_zeros(batch * heads, width, queries)
    for level, keys in enumerate(value.split([height * columns for height, columns in sizes], 1)):
        maps = keys.permute(0, 2, 3, 1).reshape(batch * heads, width, *sizes[level])
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total = total + (samples * share[:, None]).sum(-1)
    return total.view(batch, heads * width, queries).transpose(1, 2)


def deform_attention_backward(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of value, locations and weights.

    Args:
        value: As in ``deform_attention``, like all but ``grad``.
        shapes: Heights and widths.
        locations: Sampled points.
        weights: Their weights.
        grad: Gradient of the result.
    """
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
        out = deform_attention(leaves[0], shapes, leaves[1], leaves[2])
        return torch.autograd.grad(out, leaves, grad)


def rotated_feature_align(features: Tensor, boxes: Tensor, spatial_scale: float, points: int = 1) -> Tensor:
    """Add to each pixel the bilinear samples at the centre (and corners) of its box; differentiable.

    As in mmcv, the first coordinate of a box is taken as the row and the second as the column.

    Args:
        features: ``(n, channels, h, w)``.
        boxes: ``(n, h, w, 5)`` in input pixels, angle in radians.
        spatial_scale: Feature pixels per input pixel.
        points: 1 for the centre, 5 for centre and corners.

    Returns:
        Like ``features``.
    """
    batch, channels, height, width = features.shape
    if boxes.shape != (batch, height, width, 5) or points not in (1, 5):
        shapes = f"features {tuple(features.shape)}, boxes {tuple(boxes.shape)}, points {points}"
        raise OperatorInputError(f"rotated_feature_align: {shapes}")
    pixel, weight = _taps(boxes, spatial_scale, points)
    flat = features.permute(0, 2, 3, 1).reshape(-1, channels)
    out = flat
    for corner in range(4):
        for point in range(points):
            out = out + flat[pixel[:, point, corner]] * weight[:, point, corner, None].to(flat)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


def rotated_feature_align_backward(grad: Tensor, boxes: Tensor, spatial_scale: float, points: int) -> Tensor:
    """Return the gradient of the features.

    Args:
        grad: Gradient of the result.
        boxes: As in ``rotated_feature_align``, like all below.
        spatial_scale: Feature pixels per input pixel.
        points: 1 or 5.
    """
    batch, channels, height, width = grad.shape
    pixel, weight = _taps(boxes, spatial_scale, points)
    flat = grad.permute(0, 2, 3, 1).reshape(-1, channels)
    out = flat.clone()
    for corner in range(4):
        for point in range(points):
            out.index_add_(0, pixel[:, point, corner], flat * weight[:, point, corner, None].to(flat))
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)


def _taps(boxes: Tensor, spatial_scale: float, points: int) -> tuple[Tensor, Tensor]:
    """Return pixels over the whole batch and weights, each ``(n h w, points, 4)``."""
    batch, height, width, _ = boxes.shape
    y, x, w, h = (boxes[..., :4].reshape(-1, 4) * spatial_scale).unbind(1)
    theta = boxes[..., 4].reshape(-1)
    wx, wy = theta.cos() * w / 2, theta.sin() * w / 2
    hx, hy = -theta.sin() * h / 2, theta.cos() * h / 2
    xs = torch.stack([x, x + wx + hx, x - wx + hx, x - wx - hx, x + wx - hx], 1)[:, :points]
    ys = torch.stack([y, y + wy + hy, y - wy + hy, y - wy - hy, y + wy - hy], 1)[:, :points]
    pixel, weight = bilinear_taps(ys.flatten(), xs.flatten(), height, width)
    # The legacy ONNX exporter cannot take a size times a plain 1, so nothing here is counted by points.
    first = torch.arange(batch, device=boxes.device)[:, None, None] * (height * width)
    return (pixel.view(batch, -1, 4) + first).view(-1, points, 4), weight.view(-1, points, 4)


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
    """Return the gradient of the filters: of each entry, the sum over its rotated positions.

    Args:
        grad: ``(out * rotations, in * orientations, h, w)``.
        indices: As in ``rotate_filters``.
        filter_shape: Shape of the filters.
    """
    planes, inputs = filter_shape[:2]
    target = indices.flatten(0, 2).long() - 1
    spread = grad.reshape(planes, target.shape[1], inputs, -1).permute(0, 2, 3, 1)
    return spread.gather(2, target.expand(planes, inputs, -1, -1)).sum(-1).view(filter_shape)


def _places(like: Tensor) -> Tensor:
    return torch.arange(len(like), device=like.device)[:, None].expand_as(like)


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
    """Write the values of some pixels into an image.

    Args:
        values: ``(channels, count)``.
        rows: ``(count,)``.
        columns: ``(count,)``.
        image: ``(1, channels, h, w)``, written.
    """
    image[0, :, rows, columns] = values


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_carafe_forward(
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
    """Fill ``output``, and ``rfeatures`` with the features that the backward pass gets."""
    rfeatures.copy_(features)
    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))


def _mmcv_carafe_backward(
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
    _mmcv_carafe_naive_backward(
        grad_output, rfeatures, masks, grad_input, grad_masks, kernel_size, group_size, scale_factor
    )


def _mmcv_carafe_naive_forward(
    features: Tensor, masks: Tensor, output: Tensor, kernel_size: int, group_size: int, scale_factor: int
) -> None:
    """Fill ``output``."""
    output.copy_(carafe(features, masks, kernel_size, group_size, scale_factor))


def _mmcv_carafe_naive_backward(
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
    grads = carafe_backward(features, masks, grad_output, kernel_size, group_size, scale_factor)
    grad_input.copy_(grads[0])
    grad_masks.copy_(grads[1])


def _mmcv_ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_loc: Tensor,
    attn_weight: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values; level starts follow from the shapes."""
    return deform_attention(value, spatial_shapes, sampling_loc, attn_weight)


def _mmcv_ms_deform_attn_backward(
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


def _mmcv_rotated_feature_align_forward(
    features: Tensor, best_bboxes: Tensor, output: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill ``output``. R3Det passes its boxes as one row of 5 per pixel of the batch."""
    output.copy_(rotated_feature_align(features, _per_pixel(best_bboxes, features), spatial_scale, points))


def _mmcv_rotated_feature_align_backward(
    grad_output: Tensor, best_bboxes: Tensor, grad_input: Tensor, spatial_scale: float, points: int
) -> None:
    """Fill ``grad_input``."""
    boxes = _per_pixel(best_bboxes, grad_output)
    grad_input.copy_(rotated_feature_align_backward(grad_output, boxes, spatial_scale, points))


def _per_pixel(boxes: Tensor, maps: Tensor) -> Tensor:
    """Return boxes as ``(n, h, w, 5)`` where there is one for each pixel."""
    shape = (len(maps), *maps.shape[2:], 5)
    return boxes.reshape(shape) if boxes.numel() == math.prod(shape) else boxes


def _mmcv_active_rotated_filter_forward(filters: Tensor, indices: Tensor, output: Tensor) -> None:
    """Fill ``output``."""
    output.copy_(rotate_filters(filters, indices))


def _mmcv_active_rotated_filter_backward(grad_output: Tensor, indices: Tensor, grad_input: Tensor) -> None:
    """Fill ``grad_input``."""
    grad_input.copy_(rotate_filters_backward(grad_output, indices, grad_input.shape))


def _mmcv_masked_im2col_forward(
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


def _mmcv_masked_col2im_forward(
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
