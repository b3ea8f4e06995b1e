"""Nearest neighbours between two sets of points in the plane."""

import torch
from torch import Tensor


def nearest_neighbours(points1: Tensor, points2: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each point of the first set, the squared distance and index of the nearest in the second.

    Args:
        points1: ``(b, n, 2)``.
        points2: ``(b, m, 2)``.

    Returns:
        Two ``(b, n)``.
    """
    squared = (points1[:, :, None] - points2[:, None]).square().sum(-1)
    nearest = squared.min(-1)
    return nearest.values, nearest.indices


def nearest_backward(points1: Tensor, points2: Tensor, index: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of both sets for the distances of ``nearest_neighbours``."""
    chosen = index.long()[..., None].expand_as(points1)
    slope = 2 * grad[..., None] * (points1 - points2.gather(1, chosen))
    return slope, torch.zeros_like(points2).scatter_add_(1, chosen, -slope)
