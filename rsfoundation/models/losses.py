"""Our own losses: oriented boxes compared as Gaussians, change masks, and classes of pixels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsfoundation.registry import MODELS

_SMALLEST = 1e-2  # pixels: sides below it count as it, so that no variance is zero


def symmetric_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of both Kullback-Leibler divergences of boxes read as Gaussians (arXiv 2106.01883).

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


_LossWeight = Tensor | None  # mmseg's heads pass the weights of a pixel sampler; these losses take none


@MODELS.register_module()
class BCLLoss(nn.Module):
    """Batch-balanced contrastive loss of distance maps (STANet, 10.3390/rs12101662).

    Distances of unchanged pixels shrink, those of changed pixels grow to ``margin``; each kind is averaged
    over its own pixels. Ignored pixels add nothing, but count in the average of the unchanged ones, as
    published.

    Args:
        margin: Distance from which changed pixels cost nothing.
        loss_weight: Factor of the result.
        ignore_index: Label that is left out, unless the head names another one.
        eps: Added to both counts of pixels. 255 gives the values of Open-CD's module, which passes the
            ignored label in the place of this number.
        loss_name: Name in the log; it must contain ``loss``.
    """

    def __init__(
        self,
        margin: float = 2.0,
        loss_weight: float = 1.0,
        ignore_index: int = 255,
        eps: float = 1e-4,
        loss_name: str = "bcl_loss",
    ) -> None:
        super().__init__()
        self.margin, self.loss_weight, self.ignore_index, self.eps = margin, loss_weight, ignore_index, eps
        self.loss_name = loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int | None = None
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Distances ``(B, 1, H, W)``, not negative.
            target: Labels ``(B, H, W)`` of 0 and 1.
            weight: Not used.
            ignore_index: Label that is left out; the one of the constructor when not given.
        """
        ignored = self.ignore_index if ignore_index is None else ignore_index
        distance, counted = pred.squeeze(1), target.ne(ignored).to(pred.dtype)
        changed = (target == 1).to(pred.dtype) * counted
        unchanged = 1 - changed
        pull = (unchanged * distance.square() * counted).sum() / (unchanged.sum() + self.eps)
        push = (changed * (self.margin - distance).clamp(min=0).square()).sum() / (changed.sum() + self.eps)
        return self.loss_weight * (pull + push)


@MODELS.register_module()
class BatchDiceLoss(nn.Module):
    """Dice loss of one-channel logits with sums over the whole batch (A2Net).

    Args:
        loss_weight: Factor of the result.
        eps: Added to numerator and denominator.
        loss_name: Name in the log; it must contain ``loss``.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 1e-5, loss_name: str = "loss_dice") -> None:
        super().__init__()
        self.loss_weight, self.eps, self.loss_name = loss_weight, eps, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int = 255
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Logits ``(B, 1, H, W)``.
            target: Labels ``(B, H, W)`` of 0 and 1.
            weight: Not used.
            ignore_index: Label of pixels that are left out.
        """
        counted = target.ne(ignore_index).to(pred.dtype)
        probability = pred.squeeze(1).sigmoid() * counted
        changed = (target == 1).to(pred.dtype) * counted
        overlap, total = (probability * changed).sum(), probability.sum() + changed.sum()
        return self.loss_weight * (1 - (2 * overlap + self.eps) / (total + self.eps))


@MODELS.register_module()
class ImageDiceLoss(nn.Module):
    """Dice loss of softmax probabilities: one ratio per image over all classes, averaged (CLAFA).

    Args:
        loss_weight: Factor of the result.
        eps: Added to numerator and denominator.
        loss_name: Name in the log; it must contain ``loss``.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 1e-5, loss_name: str = "loss_dice") -> None:
        super().__init__()
        self.loss_weight, self.eps, self.loss_name = loss_weight, eps, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int = 255
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Logits ``(B, C, H, W)``.
            target: Labels ``(B, H, W)``.
            weight: Not used.
            ignore_index: Label of pixels that are left out.
        """
        counted = target.ne(ignore_index)
        labels = F.one_hot(target.where(counted, 0), pred.shape[1]).permute(0, 3, 1, 2)
        mask = counted[:, None].to(pred.dtype)
        probability, truth = pred.softmax(dim=1) * mask, labels * mask
        overlap = (probability * truth).flatten(1).sum(dim=1)
        total = (probability + truth).flatten(1).sum(dim=1)
        return self.loss_weight * (1 - (2 * overlap + self.eps) / (total + self.eps)).mean()


@MODELS.register_module()
class SoftmaxFocalLoss(nn.Module):
    """Focal loss of softmax probabilities, averaged over the pixels (arXiv 1708.02002).

    Args:
        alpha: Weight of each class.
        gamma: How fast well-classified pixels lose weight.
        loss_weight: Factor of the result.
        loss_name: Name in the log; it must contain ``loss``.
    """

    alpha: Tensor

    def __init__(
        self,
        alpha: Sequence[float] = (0.25, 0.75),
        gamma: float = 2.0,
        loss_weight: float = 1.0,
        loss_name: str = "loss_focal",
    ) -> None:
        super().__init__()
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float32), persistent=False)
        self.gamma, self.loss_weight, self.loss_name = gamma, loss_weight, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int = 255
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Logits ``(B, C, H, W)``, as many classes as ``alpha``.
            target: Labels ``(B, H, W)``.
            weight: Not used.
            ignore_index: Label of pixels that are left out.
        """
        counted = target.ne(ignore_index)
        labels = target.where(counted, 0)
        log_probability = pred.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
        focus = (1 - log_probability.exp()).pow(self.gamma) * self.alpha.to(pred)[labels]
        losses = -focus * log_probability * counted
        return self.loss_weight * losses.sum() / counted.sum().clamp(min=1)


@MODELS.register_module()
class SoftCrossEntropyLoss(nn.Module):
    """Cross-entropy with smoothed labels, ``(1 - s) * nll + s / C * sum(-log p)``, as UNetFormer trains.

    Ignored pixels add nothing, but count in the mean, as published.

    Args:
        smoothing: Share ``s`` of the label that is spread over all classes.
        loss_weight: Factor of the result.
        loss_name: Name in the log; it must contain ``loss``.
    """

    def __init__(self, smoothing: float = 0.05, loss_weight: float = 1.0, loss_name: str = "loss_ce") -> None:
        super().__init__()
        self.smoothing, self.loss_weight, self.loss_name = smoothing, loss_weight, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int = 255
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Logits ``(B, C, H, W)``.
            target: Labels ``(B, H, W)``.
            weight: Not used.
            ignore_index: Label of pixels that are left out.
        """
        counted = target.ne(ignore_index)
        log_probability = pred.log_softmax(dim=1)
        likelihood = log_probability.gather(1, target.where(counted, 0)[:, None])[:, 0]
        spread = log_probability.mean(dim=1)
        losses = -(1 - self.smoothing) * likelihood - self.smoothing * spread
        return self.loss_weight * (losses * counted).mean()


@MODELS.register_module()
class BatchClassDiceLoss(nn.Module):
    """Dice loss of softmax probabilities: one ratio per class over the whole batch, averaged (UNetFormer).

    A class that is nowhere in the batch adds nothing, but counts in the mean, as published.

    Args:
        smooth: Added to numerator and denominator.
        loss_weight: Factor of the result.
        loss_name: Name in the log; it must contain ``loss``.
    """

    def __init__(self, smooth: float = 0.05, loss_weight: float = 1.0, loss_name: str = "loss_dice") -> None:
        super().__init__()
        self.smooth, self.loss_weight, self.loss_name = smooth, loss_weight, loss_name

    def forward(
        self, pred: Tensor, target: Tensor, weight: _LossWeight = None, ignore_index: int = 255
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            pred: Logits ``(B, C, H, W)``.
            target: Labels ``(B, H, W)``.
            weight: Not used.
            ignore_index: Label of pixels that are left out.
        """
        counted = target.ne(ignore_index)
        labels = target.where(counted, 0).flatten()
        precise = torch.promote_types(pred.dtype, torch.float32)  # sums over a batch overflow float16
        kept = counted.flatten().to(precise)
        probability = pred.softmax(dim=1, dtype=precise)
        truth = kept.new_zeros(pred.shape[1]).index_add_(0, labels, kept)
        overlap = probability.gather(1, labels.view_as(target)[:, None]).flatten() * kept
        overlap = kept.new_zeros(pred.shape[1]).index_add(0, labels, overlap)
        predicted = (probability * counted[:, None]).sum(dim=(0, 2, 3))
        losses = 1 - (2 * overlap + self.smooth) / (predicted + truth + self.smooth)
        return self.loss_weight * (losses * (truth > 0)).mean()
