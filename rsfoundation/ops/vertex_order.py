"""Order of the corners of an overlap polygon, for mmcv's differentiable rotated IoU."""

import torch
from torch import Tensor

_SLOTS = 9  # an overlap of two rectangles has at most 8 corners, and the first is repeated
_CROSSINGS = 8  # candidates from here on are edge crossings: zero where invalid
_SAME = 1e-6  # corners nearer than this, relative to the polygon, are one


def sort_vertices(vertices: Tensor, mask: Tensor) -> Tensor:
    """Return the indices of the valid corners by angle, the first once more, then padding.

    Coincident corners appear once: the area formula would otherwise run out of slots when two boxes
    share corners.

    Args:
        vertices: ``(b, n, m, 2)`` candidates, centred on the polygon.
        mask: ``(b, n, m)``, which are valid.

    Returns:
        ``(b, n, 9)`` int32; padding is the first invalid crossing, which is the origin.
    """
    angle = torch.atan2(vertices[..., 1], vertices[..., 0]).masked_fill(~mask, torch.inf)
    order = angle.argsort(dim=-1, stable=True)
    ranked = vertices.gather(2, order[..., None].expand_as(vertices))
    valid = mask.gather(2, order) & ~_repeats(ranked, mask)
    order = order.gather(2, (~valid).to(torch.uint8).argsort(dim=-1, stable=True))[..., :_SLOTS]
    count = valid.sum(-1, keepdim=True).clamp(max=_SLOTS - 1)
    slot = torch.arange(_SLOTS, device=mask.device).expand_as(order)
    padding = (~mask[..., _CROSSINGS:]).to(torch.uint8).argmax(-1, keepdim=True) + _CROSSINGS
    closed = torch.where(slot == count, order[..., :1], torch.where(slot < count, order, padding))
    return torch.where(count < 3, padding, closed).int()


def _repeats(ranked: Tensor, mask: Tensor) -> Tensor:
    """Tell which corners coincide with the one before; the last is compared with the first as well."""
    scale = ranked.masked_fill(~mask.any(-1)[..., None, None], 0).abs().amax((-2, -1), keepdim=True)
    near = ((ranked - ranked.roll(1, 2)).abs() <= _SAME * scale).all(-1)
    near[..., 0] = False
    last = mask.sum(-1, keepdim=True) - 1
    closing = (ranked[..., :1, :] - ranked).abs().amax(-1) <= _SAME * scale[..., 0]
    slot = torch.arange(ranked.shape[2], device=mask.device)
    return near | (closing & (slot == last) & (last > 0))
