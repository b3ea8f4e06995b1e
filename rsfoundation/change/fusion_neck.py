"""Fusing the feature pyramids of two dates level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from rsfoundation.errors import ConfigError
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
                cure=f"choose among {', '.join(_POLICIES)}",
            )
        self.policy = policy
        self.out_indices = tuple(out_indices)

    @staticmethod
    def fusion(x1: Tensor, x2: Tensor, policy: str) -> Tensor:
        """Fuse one level of both dates."""
        return _POLICIES[policy](x1, x2)

    def forward(self, x1: Sequence[Tensor], x2: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse the pyramids ``x1`` (first date) and ``x2``."""
        return tuple(self.fusion(x1[index], x2[index], self.policy) for index in self.out_indices)
