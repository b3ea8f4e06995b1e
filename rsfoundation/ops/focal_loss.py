"""Focal loss (Lin et al. 2017), of sigmoid and softmax, with hand-written gradients."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.kernels.runtime import exp, fused_kernel, log1p
from rsfoundation.ops.kernels.threads import run_chunks


@fused_kernel
def _sigmoid_and_rate(
    values: np.ndarray,
    sigmoid: np.ndarray,
    rate: np.ndarray,
    loss: float,
    slope: float,
    gamma: float,
    start: int,
    stop: int,
) -> None:
    """Write ``q = 1 / (1 + e^-x)`` and ``s (loss + slope gamma (1 - q)) + slope q``, ``s = log(1 + e^x)``.

    Arrays are flat; items ``start..stop`` are done. ``loss`` and ``slope`` are 1 and 0, or 0 and 1: a sum
    with zeros costs less than a branch, or a second kernel to compile.
    """
    kind = values.dtype.type
    zero, one = kind(0.0), kind(1.0)
    plain, own, spread = kind(loss), kind(slope), kind(slope * gamma)
    for i in range(np.uint64(start), np.uint64(stop)):  # a signed index would not vectorise
        x = values[i]
        small = exp(-abs(x))
        share = one / (small + one)
        rest = small * share
        q, rest = (share, rest) if x > zero else (rest, share)
        softplus = max(x, zero) + log1p(small)
        sigmoid[i] = q if x == x else x
        rate[i] = softplus * (plain + spread * rest) + own * q


_GRAIN = 131072  # fewest elements worth a thread
_LINEAR = 40  # above this the softplus is its argument, in float64 too


def sigmoid_focal(
    logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the loss ``(n, classes)``; not differentiable, see ``sigmoid_focal_slope``.

    Args:
        logits: ``(n, classes)``; half types are computed in float32.
        target: ``(n,)`` class indices; any other value is background.
        gamma: Focusing exponent.
        alpha: Weight of the positive term; the negative one has ``1 - alpha``.
        weight: ``(classes,)``, factor of each row by its target; background rows have factor 1.
    """
    return _weighted(_focal(logits, target, gamma, alpha, 1 - alpha, slope=False), weight, target)


def sigmoid_focal_slope(
    logits: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None = None
) -> Tensor:
    """Return the derivative of ``sigmoid_focal`` for the logits, element by element.

    Args:
        logits: As in ``sigmoid_focal``, like all below.
        target: Class indices.
        gamma: Focusing exponent.
        alpha: Weight of the positive term.
        weight: Factors by class.
    """
    return _weighted(_focal(logits, target, gamma, -alpha, 1 - alpha, slope=True), weight, target)


def _focal(logits: Tensor, target: Tensor, gamma: float, high: float, low: float, slope: bool) -> Tensor:
    """Return the loss or its slope; a logit that should be high counts as one that should be low, negated.

    Every row has a position to write to, background too: finding the others would cost a search, and a
    synchronisation on a GPU.
    """
    (rows, classes), values = logits.shape, logits.detach().reshape(-1)
    values = values if values.dtype == torch.float64 else values.float()
    place = torch.arange(rows if classes else 0, device=logits.device) * classes
    target = target[: len(place)]
    found = (target >= 0) & (target < classes)
    place += torch.where(found, target, 0)
    result = _miss(values, gamma, low, slope)
    wanted = _miss(-values.take(place), gamma, high, slope)
    result.scatter_(0, place, torch.where(found, wanted, result.take(place)))
    return result.view(logits.shape).to(logits)


def _miss(x: Tensor, gamma: float, factor: float, slope: bool) -> Tensor:
    """Return the loss ``factor q^gamma log(1 + e^x)`` of logits that should be low, or its derivative.

    q is the sigmoid. ``1 - q`` is computed as ``e^-softplus``, which keeps its digits where q is close to 1.
    """
    if x.device.type != "cpu":
        q, rate = torch.sigmoid(x), F.softplus(x, threshold=_LINEAR)
        rate = torch.exp(-rate).mul_(rate).mul_(gamma).add_(q) if slope else rate
    else:
        q, rate = torch.empty_like(x), torch.empty_like(x)
        arrays, kind = (x.numpy(), q.numpy(), rate.numpy()), (float(not slope), float(slope))
        run_chunks(_sigmoid_and_rate, len(x), *arrays, *kind, float(gamma), grain=_GRAIN)
    return q.pow_(gamma).mul_(rate).mul_(factor)


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
    """Return the derivative ``(n, classes)`` of ``softmax_focal`` for the logits.

    Args:
        probabilities: As in ``softmax_focal``, like all below.
        target: Class indices.
        gamma: Focusing exponent.
        alpha: Factor of the loss.
        weight: Factors by class.
    """
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


# Under the names and signatures of `mmcv._ext`; see `rsfoundation.ops.mmcv_ext`.


def _mmcv_sigmoid_focal_loss_forward(
    logits: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each element."""
    output.copy_(sigmoid_focal(logits, target, gamma, alpha, weight))


def _mmcv_sigmoid_focal_loss_backward(
    logits: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` with the derivative of each element."""
    grad_input.copy_(sigmoid_focal_slope(logits, target, gamma, alpha, weight))


def _mmcv_softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` with the loss of each row."""
    output.copy_(softmax_focal(softmax, target, gamma, alpha, weight))


def _mmcv_softmax_focal_loss_backward(
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
