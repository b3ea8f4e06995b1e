"""Losses of oriented boxes as Gaussians (KLD, Yang et al., NeurIPS 2021), without inverted matrices."""

import torch
from torch import Tensor, nn

from rsfoundation.registry import MODELS

_SMALLEST = 1e-2  # pixels: sides below it count as it, so that no variance is zero


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of both Kullback-Leibler divergences of boxes read as Gaussians.

    The Gaussian of a box has its centre, its axes, and half its sides as deviations. Squares and circles have
    no angle, and turning a box by half a turn or naming its sides the other way changes nothing.

    The divergence is written in the frame of each box: ratios of variances, no determinants. Those of slim
    boxes cancel to zero or below in single precision, and the loss becomes NaN.

    Args:
        first: ``(n, 5)``: cx, cy, w, h in pixels, angle in radians.
        second: The same.

    Returns:
        ``(n,)``, 0 for equal boxes.
    """
    turn = first[:, 4] - second[:, 4]
    along, across = turn.cos().square(), turn.sin().square()
    gap = first[:, :2] - second[:, :2]
    (u, v), (p, q) = _variances(first), _variances(second)
    spread = along * (u / p + v / q + p / u + q / v) + across * (u / q + v / p + q / u + p / v)
    return (spread + _mahalanobis(gap, first[:, 4], u, v) + _mahalanobis(gap, second[:, 4], p, q)) / 4 - 1


def _variances(boxes: Tensor) -> tuple[Tensor, Tensor]:
    half = boxes[:, 2:4].clamp(min=_SMALLEST) / 2
    return half[:, 0].square(), half[:, 1].square()


def _mahalanobis(gap: Tensor, angle: Tensor, along: Tensor, across: Tensor) -> Tensor:
    """Return the squared distance in deviations of a Gaussian with these variances along its axes."""
    cos, sin = angle.cos(), angle.sin()
    x, y = gap[:, 0] * cos + gap[:, 1] * sin, gap[:, 1] * cos - gap[:, 0] * sin
    return x.square() / along + y.square() / across


@MODELS.register_module()
class SymmetricKLDLoss(nn.Module):
    """Regression loss of decoded oriented boxes: ``1 - 1 / (1 + log(1 + divergence))``, between 0 and 1.

    It is continuous in the angle, where deltas of angles are not. For heads with ``reg_decoded_bbox=True``.

    mmrotate's ``GDLoss`` with ``loss_type='jd'`` is the same where it is finite.

    Args:
        loss_weight: Factor of the result.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(
        self, pred: Tensor, target: Tensor, weight: Tensor | None = None, avg_factor: float | None = None
    ) -> Tensor:
        """Return the loss of all boxes.

        Args:
            pred: ``(n, 5)``.
            target: ``(n, 5)``.
            weight: ``(n,)`` or ``(n, 5)``; boxes of weight 0 may have any finite values.
            avg_factor: Divisor of the sum; the number of boxes when not given.
        """
        count = len(pred) if avg_factor is None else avg_factor
        if weight is None:
            weight = pred.new_ones(len(pred))
        weight = weight.mean(-1) if weight.dim() > 1 else weight
        counted = weight > 0
        if not counted.any():
            return pred.sum() * 0
        divergence = symmetric_divergence(pred[counted], target[counted])
        loss = 1 - 1 / (1 + torch.log1p(divergence.clamp(min=0)))
        return self.loss_weight * (loss * weight[counted]).sum() / max(count, 1)
