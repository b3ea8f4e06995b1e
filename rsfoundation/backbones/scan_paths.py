"""The directions in which a state space block reads its tokens, and how they are combined."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

PathType = Literal[
    "forward",
    "forward_reverse_mean",
    "forward_reverse_gate",
    "forward_reverse_shuffle_gate",
    "forward_reverse_shuffle_mean",
]


def path_gates(path_type: PathType, width: int, depth: int) -> nn.ModuleList:
    """Return one linear gate per block, or none; each is a Sequential because its key is ``i.0``."""
    if not path_type.endswith("gate"):
        return nn.ModuleList()
    paths = 1 + ("reverse" in path_type) + ("shuffle" in path_type)
    return nn.ModuleList(nn.Sequential(nn.Linear(paths * width, paths, bias=False)) for _ in range(depth))


def mix_along_paths(
    tokens: torch.Tensor,
    path_type: PathType,
    mixer: Callable[[torch.Tensor], torch.Tensor],
    gate: nn.Module | None,
) -> torch.Tensor:
    """Run a causal mixer along every path as one batch, put the tokens back in order, combine.

    Args:
        tokens: ``(B, L, C)``.
        path_type: The paths. A ``shuffle`` path follows a random order drawn here, on the CPU generator.
        mixer: Takes and returns ``(paths * B, L, C)``.
        gate: Takes the token means of all paths side by side, ``(B, paths * C)``, and returns one logit
            per path; the mean of the paths is taken when None.

    Returns:
        ``(B, L, C)``.
    """
    paths, order = [tokens], None
    if "reverse" in path_type:
        paths.append(tokens.flip(1))
    if "shuffle" in path_type:
        order = torch.randperm(tokens.shape[1]).to(tokens.device)
        paths.append(tokens[:, order])
    mixed = list(mixer(torch.cat(paths)).chunk(len(paths)))
    if "reverse" in path_type:
        mixed[1] = mixed[1].flip(1)
    if order is not None:
        mixed[2] = mixed[2][:, order.argsort()]
    if gate is None:
        return torch.stack(mixed).mean(0)
    weights = gate(torch.cat([path.mean(1) for path in mixed], dim=-1)).softmax(-1)
    return torch.einsum("pblc,bp->blc", torch.stack(mixed), weights)
