"""The neck of RSPrompter and RS4D: aggregate the encoder's outputs, then split them into levels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule

from rsfoundation.registry import MODELS


@MODELS.register_module()
class RSFPN(BaseModule):
    """A feature aggregator followed by a feature splitter.

    Args:
        feature_aggregator: Config of a module from many maps to one.
        feature_spliter: Config of a module from one map to levels (the published spelling, which is in
            the checkpoint keys); without it the aggregated map is the only level.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        feature_aggregator: Mapping[str, Any],
        feature_spliter: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.feature_aggregator = MODELS.build(feature_aggregator)
        self.feature_spliter = MODELS.build(feature_spliter) if feature_spliter else None

    def forward(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return the levels ``(B, C, h_i, w_i)`` of an encoder's outputs, finest first."""
        x = self.feature_aggregator(inputs)
        return (x,) if self.feature_spliter is None else self.feature_spliter(x)
