"""Rotation-invariant RoIAlign of ReDet (Han et al. 2021, arXiv 2103.07733).

After pooling, the orientation channels are turned by the angle of the region: between the two nearest
whole turns they are interpolated.
"""

import math

import torch
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError
from rsfoundation.ops.roi_align_rotated import pool_rotated, spread_rotated
from rsfoundation.ops.roi_sampling import RoiGrid


def riroi_pool(
    features: Tensor, rois: Tensor, size: tuple[int, int], orientations: int, grid: RoiGrid
) -> Tensor:
    """Pool regions and align their orientation channels.

    Args:
        features: ``(batch, channels * orientations, height, width)``.
        rois: ``(n, 6)`` of image index, cx, cy, w, h, theta (radians), in input pixels.
        size: Bins along height and width.
        orientations: Directions that each channel comes in.
        grid: How regions are sampled; ReDet does not align pixel centres.

    Returns:
        ``(n, channels * orientations, *size)``.
    """
    _check(features.shape[1], orientations)
    pooled = pool_rotated(features, rois, size, grid)
    return _turn(pooled, rois, orientations, forth=True)


def riroi_spread(grad: Tensor, rois: Tensor, shape: torch.Size, orientations: int, grid: RoiGrid) -> Tensor:
    """Return the gradient of the features of ``riroi_pool``, whose shape is ``shape``."""
    _check(shape[1], orientations)
    return spread_rotated(_turn(grad, rois, orientations, forth=False), rois, shape, grid)


def _check(channels: int, orientations: int) -> None:
    if channels % orientations:
        raise OperatorInputError(f"riroi_align_rotated: {channels} channels in {orientations} orientations")


def _turn(bins: Tensor, rois: Tensor, orientations: int, forth: bool) -> Tensor:
    """Turn orientation channels by the angles of the regions; back is the transpose of forth."""
    turns = rois[:, 5].to(bins) * orientations / (2 * math.pi)
    whole = turns.floor()
    places = torch.arange(orientations, device=bins.device)
    back = whole.long()[:, None] if forth else -whole.long()[:, None]
    stacked = bins.unflatten(1, (-1, orientations))
    share = (turns - whole)[:, None, None, None, None]
    near, next_to = (
        stacked.gather(2, ((places - back + step) % orientations)[:, None, :, None, None].expand_as(stacked))
        for step in (0, 1 if forth else -1)
    )
    return ((1 - share) * near + share * next_to).flatten(1, 2)
