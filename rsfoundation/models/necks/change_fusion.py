"""Fusing the maps of two dates: Open-CD's FeatureFusionNeck and Changer's flow-based fusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS

_POLICIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda before, after: torch.cat([before, after], dim=1),
    "sum": lambda before, after: before + after,
    "diff": lambda before, after: after - before,
    "abs_diff": lambda before, after: (before - after).abs(),
}


@MODELS.register_module()
class FeatureFusionNeck(BaseModule):
    """Parameter-free fusion, Open-CD's ``FeatureFusionNeck``.

    Args:
        policy: ``concat``, ``sum``, ``diff`` (second minus first) or ``abs_diff``.
        in_channels: Accepted for Open-CD's configs; has no effect.
        channels: Accepted for Open-CD's configs; has no effect.
        out_indices: Levels returned, in this order.

    Raises:
        ConfigError: The policy is unknown.
    """

    def __init__(
        self,
        policy: str,
        in_channels: int | Sequence[int] | None = None,
        channels: int | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
    ) -> None:
        super().__init__()
        if policy not in _POLICIES:
            raise ConfigError(
                f"no fusion policy is called '{policy}'",
                where="FeatureFusionNeck.policy",
                fix=f"choose among {', '.join(_POLICIES)}",
            )
        self.policy = policy
        self.out_indices = tuple(out_indices)

    @staticmethod
    def fusion(x1: Tensor, x2: Tensor, policy: str) -> Tensor:
        """Fuse one level of both dates.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
            policy: Name of the policy.
        """
        return _POLICIES[policy](x1, x2)

    def forward(self, x1: Sequence[Tensor], x2: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the pyramids ``x1`` (first date) and ``x2``.

        Args:
            x1: Maps of the first date, one per level.
            x2: Maps of the second date.
        """
        return tuple(self.fusion(x1[index], x2[index], self.policy) for index in self.out_indices)


@MODELS.register_module()
class FDAF(BaseModule):
    """Flow-based dual alignment fusion: each date is warped towards the other, then the other subtracted.

    Args:
        in_channels: Channels of one date.
        **kwargs: ``norm_cfg`` and ``act_cfg`` of Open-CD's configs, which have no effect there either.
    """

    def __init__(self, in_channels: int, **kwargs: Any) -> None:
        super().__init__()
        both = 2 * in_channels
        self.flow_make = nn.Sequential(
            nn.Conv2d(both, both, 5, padding=2, groups=both),
            nn.InstanceNorm2d(both),
            nn.GELU(),
            nn.Conv2d(both, 4, 1, bias=False),
        )

    def forward(
        self, x1: Tensor, x2: Tensor, fusion_policy: str | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the two differences, or their fusion by a policy of :class:`FeatureFusionNeck`.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
            fusion_policy: Name of a policy, or None for both differences.
        """
        flow1, flow2 = self.flow_make(torch.cat([x1, x2], dim=1)).chunk(2, dim=1)
        difference1 = self.warp(x1, flow1) - x2
        difference2 = self.warp(x2, flow2) - x1
        if fusion_policy is None:
            return difference1, difference2
        return FeatureFusionNeck.fusion(difference1, difference2, fusion_policy)

    @staticmethod
    def warp(x: Tensor, flow: Tensor) -> Tensor:
        """Sample ``x`` ``(B, C, H, W)`` where ``flow`` ``(B, 2, H, W)`` points, zero outside.

        The flow is (right, down) in units of half the map, divided by its size, as published:
        about half a pixel per unit.

        Args:
            x: Map to sample.
            flow: Where to sample it.
        """
        height, width = x.shape[2:]
        columns, rows = (_axis(side, x) for side in (width, height))
        right, down = columns + flow[:, 0] / width, rows[:, None] + flow[:, 1] / height
        return F.grid_sample(x, torch.stack([right, down], dim=-1).to(x.dtype), align_corners=True)


def _axis(side: int, like: Tensor) -> Tensor:
    """Return ``side`` positions from -1 to 1.

    ``linspace`` and the side as a constant would fix the size of the map in an exported graph.
    """
    precise = torch.promote_types(like.dtype, torch.float32)  # half precision cannot count far
    steps = torch.arange(side, device=like.device, dtype=precise)
    return steps * 2 / steps[-1:].clamp(min=1) - 1
