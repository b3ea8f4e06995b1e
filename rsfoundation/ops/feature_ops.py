"""Further operators on feature maps: CARAFE, rotated feature alignment."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.roi_align import bilinear_taps


def carafe(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Weigh the neighbourhood of each source pixel anew for every pixel it becomes; differentiable.

    Args:
        features: ``(n, channels, h, w)``; beyond its border it is zero.
        masks: ``(n, groups * kernel * kernel, h * scale, w * scale)``; channels are split over groups.
        kernel: Odd width of the neighbourhood.
        groups: Groups of channels that share their weights.
        scale: Pixels that a source pixel becomes, along each side.

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
    """Return the gradients of features and masks."""
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
    """Return the gradients of value, locations and weights."""
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
    """Return the gradient of the features."""
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
    image = torch.arange(batch, device=boxes.device).repeat_interleave(height * width * points)
    pixel = pixel + (image * height * width)[:, None]
    return pixel.view(-1, points, 4), weight.view(-1, points, 4)
