"""Focal loss (Lin et al. 2017), sigmoid and softmax forms, with hand-written gradients.

On the CPU the sigmoid form is a compiled kernel; all else is torch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.kernels.threads import run_chunks

_GRAIN = 16384  # fewest elements worth a thread
_LINEAR = 40  # above this the softplus is its argument, in float64 too


def sigmoid_focal(
    logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the loss ``(n, classes)``; not differentiable, see ``sigmoid_focal_slope``.

    Args:
        logits: ``(n, classes)``.
        target: ``(n,)`` class indices; any other value is background.
        gamma: Focusing exponent.
        alpha: Weight of the positive term; the negative one has ``1 - alpha``.
        weight: ``(classes,)``, factor of each row by its target; background rows have factor 1.
    """
    if logits.device.type == "cpu":
        return _weighted(_on_cpu("losses", logits, target, gamma, alpha, 1 - alpha), weight, target)
    place = _positives(logits, target)
    loss = _miss(logits, gamma, 1 - alpha)
    loss[place] = _miss(-logits[place], gamma, alpha)
    return _weighted(loss, weight, target)


def sigmoid_focal_slope(
    logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the derivative of ``sigmoid_focal`` for the logits, element by element."""
    if logits.device.type == "cpu":
        return _weighted(_on_cpu("slopes", logits, target, gamma, -alpha, 1 - alpha), weight, target)
    place = _positives(logits, target)
    slope = _miss_slope(logits, gamma, 1 - alpha)
    slope[place] = -_miss_slope(-logits[place], gamma, alpha)
    return _weighted(slope, weight, target)


def _on_cpu(kernel: str, logits: Tensor, target: Tensor, gamma: float, high: float, low: float) -> Tensor:
    """Run a compiled kernel over all elements; half types are computed in float32."""
    from rsfoundation.ops.kernels import focal

    kind, classes = torch.float64 if logits.dtype == torch.float64 else torch.float32, logits.shape[1]
    values = torch.empty(logits.shape, dtype=kind).copy_(logits.detach())
    arrays = values.view(-1).numpy(), target.long().contiguous().numpy()
    factors = float(gamma), float(high), float(low)
    run_chunks(
        getattr(focal, kernel), len(values), *arrays, *factors, classes, grain=_GRAIN // max(classes, 1)
    )
    return values.to(logits.dtype)


def _positives(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and classes of the elements that should be high."""
    rows = ((target >= 0) & (target < logits.shape[1])).nonzero()[:, 0]
    return rows, target[rows]


def _miss(x: Tensor, gamma: float, factor: float) -> Tensor:
    """Return the loss of logits that should be low: ``factor q^gamma log(1 + e^x)``, q the sigmoid."""
    return torch.sigmoid(x).pow_(gamma).mul_(F.softplus(x, threshold=_LINEAR)).mul_(factor)


def _miss_slope(x: Tensor, gamma: float, factor: float) -> Tensor:
    q = torch.sigmoid(x)
    inner = F.softplus(x, threshold=_LINEAR).mul_(1 - q).mul_(gamma).add_(q)
    return q.pow_(gamma).mul_(inner).mul_(factor)


def softmax_focal(
    probabilities: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the loss ``(n,)``; not differentiable, see ``softmax_focal_slope``.

    Args:
        probabilities: ``(n, classes)``, the softmax of the logits.
        target: ``(n,)`` class indices; rows with a negative one count nothing.
        gamma: Focusing exponent.
        alpha: Factor of the loss.
        weight: ``(classes,)``, factor of each row by its target.
    """
    p, log_p = _own(probabilities, target)
    return _weighted(-alpha * (target >= 0) * (1 - p).pow(gamma) * log_p, weight, target)


def softmax_focal_slope(
    probabilities: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the derivative ``(n, classes)`` of ``softmax_focal`` for the logits."""
    p, log_p = _own(probabilities, target)
    outer = alpha * (target >= 0) * (gamma * (1 - p).pow(gamma - 1) * p * log_p - (1 - p).pow(gamma))
    own = F.one_hot(target.clamp(min=0), probabilities.shape[1]).to(p)
    return _weighted(outer, weight, target)[:, None] * (own - probabilities)


def _own(probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each row's target, and its logarithm."""
    p = probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]
    return p, p.clamp(min=torch.finfo(torch.float32).tiny).log()


def _weighted(rows: Tensor, weight: Tensor | None, target: Tensor) -> Tensor:
    """Multiply rows by the weight of their target."""
    if weight is None or not weight.numel():
        return rows
    known = (target >= 0) & (target < len(weight))
    factor = torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)
    return rows * factor.view(-1, *[1] * (rows.dim() - 1))
