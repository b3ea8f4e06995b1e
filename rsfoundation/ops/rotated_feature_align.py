"""Feature alignment of R3Det (Yang et al. 2019): each pixel gathers features where its refined box is."""

import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.roi_sampling import bilinear_taps


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
