"""RTMDet's neck over backbones that start at stride 4."""

from collections.abc import Sequence
from typing import Any

import mmdet.models.necks as mmdet_necks
from torch import Tensor

from rsfoundation.registry import MODELS


@MODELS.register_module()
class CSPNeXtPAFPN(mmdet_necks.CSPNeXtPAFPN):
    """``mmdet.CSPNeXtPAFPN`` that leaves out the first maps, as ``start_level`` of mmdet's FPN does.

    Args:
        in_channels: Channels of all maps of the backbone.
        start_level: First map taken.
        **kwargs: Those of the neck.
    """

    def __init__(self, in_channels: Sequence[int], start_level: int = 0, **kwargs: Any) -> None:
        super().__init__(in_channels=list(in_channels)[start_level:], **kwargs)
        self.start_level = start_level

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return one map per level taken, ``(N, out_channels, H, W)``."""
        return super().forward(tuple(inputs[self.start_level :]))
