"""Losses as ``mmcv.ops`` calls them; an empty ``weight`` means none."""

from torch import Tensor

from rsfoundation.ops.focal_loss import sigmoid_focal, sigmoid_focal_slope, softmax_focal, softmax_focal_slope


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
