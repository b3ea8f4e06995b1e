"""Focal loss (Lin et al. 2017), sigmoid and softmax forms, with hand-written gradients.

Each function returns the loss and its derivative together: the terms they share are computed once.
"""

import torch
from torch import Tensor


def sigmoid_focal(
    logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return loss and derivative, each ``(n, classes)``.

    Args:
        logits: ``(n, classes)``.
        target: ``(n,)`` class indices; any other value is background.
        gamma: Focusing exponent.
        alpha: Weight of the positive term; the negative one has ``1 - alpha``.
        weight: ``(classes,)``, factor of each row by its target; background rows have factor 1.
    """
    classes = torch.arange(logits.shape[1], device=logits.device)
    positive = target[:, None] == classes
    # With s = -logit on the negatives both cases are the same function of q, the wrong probability.
    signed = torch.where(positive, logits, -logits)
    log_p = torch.nn.functional.logsigmoid(signed)
    q = torch.sigmoid(-signed)
    balance = torch.where(positive, alpha, 1.0 - alpha).to(logits)
    if weight is not None and weight.numel():
        balance = balance * _row_weight(weight, target)[:, None]
    focus = q.pow(gamma) * balance
    slope = focus * (gamma * log_p * (1 - q) - q)
    return -focus * log_p, torch.where(positive, slope, -slope)


def softmax_focal(
    probabilities: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return loss ``(n,)`` and its derivative for the logits ``(n, classes)``.

    Args:
        probabilities: ``(n, classes)``, the softmax of the logits.
        target: ``(n,)`` class indices; rows with a negative one count nothing.
        gamma: Focusing exponent.
        alpha: Factor of the loss.
        weight: ``(classes,)``, factor of each row by its target.
    """
    valid = target >= 0
    index = target.clamp(min=0)
    p = probabilities.gather(1, index[:, None])[:, 0]
    log_p = p.clamp(min=torch.finfo(torch.float32).tiny).log()
    factor = alpha * valid.to(p)
    if weight is not None and weight.numel():
        factor = factor * _row_weight(weight, target)
    loss = -factor * (1 - p).pow(gamma) * log_p
    outer = factor * (gamma * (1 - p).pow(gamma - 1) * p * log_p - (1 - p).pow(gamma))
    own = torch.nn.functional.one_hot(index, probabilities.shape[1]).to(p)
    return loss, outer[:, None] * (own - probabilities)


def _row_weight(weight: Tensor, target: Tensor) -> Tensor:
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)
