"""Upsampling by content-aware reassembly (Wang et al. 2019, arXiv 1905.02188)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from rsfoundation.ops.checks import OperatorInputError


def carafe(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    """Weigh the neighbourhood of each source pixel anew for every pixel it becomes; differentiable.

    Args:
        features: ``(n, channels, h, w)``; beyond its border it is zero.
        masks: ``(n, groups * kernel * kernel, h * scale, w * scale)``; channels are split over groups.
        kernel: Odd width of the neighbourhood.
        groups: Groups of channels that share their weights.
        scale: Pixels that a source pixel becomes, along each side.

    Returns:
        ``(n, channels, h * scale, w * scale)``.

    Raises:
        OperatorInputError: Shapes that do not fit.
    """
    batch, channels, height, width = features.shape
    wanted = (batch, groups * kernel**2, height * scale, width * scale)
    if masks.shape != wanted or channels % groups or kernel % 2 == 0:
        found = (
            f"features {tuple(features.shape)}, masks {tuple(masks.shape)}, kernel {kernel}, groups {groups}"
        )
        raise OperatorInputError(f"carafe: {found} do not fit; masks should be {wanted}")
    patches = F.unfold(features, kernel, padding=kernel // 2)
    patches = patches.view(batch, groups, channels // groups, kernel**2, height, width)
    weights = masks.view(batch, groups, kernel**2, height, scale, width, scale)
    out = torch.einsum("ngckhw,ngkhiwj->ngchiwj", patches, weights)
    return out.reshape(batch, channels, height * scale, width * scale)


def carafe_backward(
    features: Tensor, masks: Tensor, grad: Tensor, kernel: int, groups: int, scale: int
) -> tuple[Tensor, ...]:
    """Return the gradients of features and masks."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (features, masks)]
        out = carafe(leaves[0], leaves[1], kernel, groups, scale)
        return torch.autograd.grad(out, leaves, grad)
