"""Heads for backbones that end in change maps themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from rsfoundation.registry import MODELS


@MODELS.register_module()
class IdentityHead(BaseDecodeHead):
    """Takes the selected map as the logits.

    Args:
        **kwargs: As for mmseg's ``BaseDecodeHead``; ``channels`` is 1.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(channels=1, **{"threshold": 0.5, **kwargs})  # mmseg's default is 0.3
        self.conv_seg = nn.Identity()  # no weights, and none in the published checkpoints

    def init_weights(self) -> None:
        """Do nothing: there are no weights."""

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the map at ``in_index``."""
        return self._transform_inputs(inputs)


@MODELS.register_module()
class DSIdentityHead(IdentityHead):
    """Supervises several maps at once; predicts nothing.

    Args:
        **kwargs: As for mmseg's ``BaseDecodeHead``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(input_transform="multiple_select", **kwargs)

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """Return the losses of every selected map, named ``aux_{i}_<loss>``.

        Args:
            seg_logits: One map of logits per selected level.
            batch_data_samples: Samples with labels.
        """
        return {
            f"aux_{index}_{name}": value
            for index, logits in enumerate(seg_logits)
            for name, value in super(DSIdentityHead, self).loss_by_feat(logits, batch_data_samples).items()
        }
