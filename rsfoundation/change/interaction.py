"""Layers through which the features of two dates meet inside a backbone (Changer, arXiv 2209.08290)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from rsfoundation.errors import ConfigError
from rsfoundation.registry import MODELS

Pair = tuple[Tensor, Tensor]


@MODELS.register_module()
class TwoIdentity(BaseModule):
    """Leaves both dates alone: the layer of a stage without interaction."""

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return the inputs."""
        return x1, x2


class _Exchange(BaseModule):
    """Swaps every ``int(1 / p)``-th slice of an axis between the dates, from the first one on.

    Args:
        p: Share of slices to swap, in ``(0, 1]``.

    Raises:
        ConfigError: The share is out of range.
    """

    axis: int

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 < p <= 1:
            raise ConfigError(
                f"an exchange of a share of {p} makes no sense",
                where="interaction_cfg",
                cure="choose 0 < p <= 1, or None for a stage without interaction",
            )
        self.step = int(1 / p)

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return both dates, slices swapped."""
        shape = [1] * x1.dim()
        shape[self.axis] = -1
        swapped = (torch.arange(x1.size(self.axis), device=x1.device) % self.step == 0).view(shape)
        return torch.where(swapped, x2, x1), torch.where(swapped, x1, x2)


@MODELS.register_module()
class ChannelExchange(_Exchange):
    """Swaps channels ``(B, C, H, W)``."""

    axis = 1


@MODELS.register_module()
class SpatialExchange(_Exchange):
    """Swaps whole columns of ``(B, C, H, W)``."""

    axis = 3


@MODELS.register_module()
class Aggregation_distribution(BaseModule):
    """Gates the channels of each date by what both dates show on average.

    Args:
        channels: Channels of one date.
        num_paths: Dates; two.
        attn_channels: Width of the bottleneck; a sixteenth of ``channels``, at least 8, when not given.
        act_cfg: Activation of the bottleneck.
        norm_cfg: Norm of the bottleneck.
    """

    def __init__(
        self,
        channels: int,
        num_paths: int = 2,
        attn_channels: int | None = None,
        act_cfg: dict = dict(type="ReLU"),  # noqa: B006 (read only)
        norm_cfg: dict = dict(type="BN", requires_grad=True),  # noqa: B006 (read only)
    ) -> None:
        super().__init__()
        hidden = max(attn_channels or channels // 16, 8)
        self.fc_reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = build_norm_layer(norm_cfg, hidden)[1]
        self.act = build_activation_layer(act_cfg)
        self.fc_select = nn.Conv2d(hidden, channels * num_paths, 1, bias=False)

    def forward(self, x1: Tensor, x2: Tensor) -> Pair:
        """Return both dates ``(B, C, H, W)``, gated."""
        shared = (x1 + x2).mean(dim=(2, 3), keepdim=True)
        gates = self.fc_select(self.act(self.bn(self.fc_reduce(shared)))).sigmoid()
        gate1, gate2 = gates.chunk(2, dim=1)
        return x1 * gate1, x2 * gate2


def build_interactions(stages: Sequence[dict | None]) -> nn.ModuleList:
    """Build one interaction layer per stage; ``None`` is :class:`TwoIdentity`."""
    return nn.ModuleList(TwoIdentity() if stage is None else MODELS.build(stage) for stage in stages)
