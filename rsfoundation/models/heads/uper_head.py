"""mmseg's UPerNet head, for batches of one image too."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads import UPerHead as MMSegUPerHead
from torch import Tensor, nn

from rsfoundation.registry import MODELS


class _SingleValueBatchNorm(nn.BatchNorm2d):
    """A batch norm that takes its running statistics where there is a single value per channel."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.shape[0] * x.shape[2] * x.shape[3] > 1:
            return super().forward(x)
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


@MODELS.register_module()
class UPerHead(MMSegUPerHead):
    """mmseg's ``UPerHead``, which also trains where a batch has one image.

    Its pooling to 1x1 leaves one value per channel then, of which no batch norm can take the variance: torch
    stops with "Expected more than 1 value per channel", often at the last batch of an epoch. That norm
    normalises such a batch by its running statistics, and does not change them.

    Args:
        **kwargs: As for mmseg's ``UPerHead``. Names of weights are equal.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for branch in self.psp_modules:
            conv = branch[1]
            if conv.with_norm and type(conv.norm) is nn.BatchNorm2d:
                norm = _SingleValueBatchNorm(conv.norm.num_features, conv.norm.eps, conv.norm.momentum)
                norm.requires_grad_(conv.norm.weight.requires_grad)
                setattr(conv, conv.norm_name, norm)
