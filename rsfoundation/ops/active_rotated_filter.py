"""Rotated copies of oriented filters (Zhou et al. 2017, used by S2ANet and ReDet)."""

import torch
from torch import Tensor


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
    """Return the gradient of the filters: the sum over rotations of where each entry went."""
    planes, inputs = filter_shape[:2]
    target = indices.flatten(0, 2).long() - 1
    spread = grad.reshape(planes, target.shape[1], inputs, -1).permute(0, 2, 3, 1)
    return spread.gather(2, target.expand(planes, inputs, -1, -1)).sum(-1).view(filter_shape)


def _places(like: Tensor) -> Tensor:
    return torch.arange(len(like), device=like.device)[:, None].expand_as(like)
