"""Multi-scale deformable attention (Zhu et al. 2020, arXiv 2010.04159)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def deform_attention(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted samples of all levels; differentiable.

    Args:
        value: ``(batch, keys, heads, width)``; keys are the pixels of all levels in order.
        shapes: ``(levels, 2)`` heights and widths.
        locations: ``(batch, queries, heads, levels, points, 2)``, x and y in [0, 1] of each level.
        weights: ``(batch, queries, heads, levels, points)``.

    Returns:
        ``(batch, queries, heads * width)``.
    """
    batch, _, heads, width = value.shape
    queries = locations.shape[1]
    sizes = [(int(height), int(columns)) for height, columns in shapes.tolist()]
    total = value.new_zeros(batch * heads, width, queries)
    for level, keys in enumerate(value.split([height * columns for height, columns in sizes], 1)):
        maps = keys.permute(0, 2, 3, 1).reshape(batch * heads, width, *sizes[level])
        grid = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        samples = F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        share = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)
        total = total + (samples * share[:, None]).sum(-1)
    return total.view(batch, heads * width, queries).transpose(1, 2)


def deform_attention_backward(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor, grad: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of value, locations and weights."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in (value, locations, weights)]
        out = deform_attention(leaves[0], shapes, leaves[1], leaves[2])
        return torch.autograd.grad(out, leaves, grad)
