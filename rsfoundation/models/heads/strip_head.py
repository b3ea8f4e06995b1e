"""The box head of Strip R-CNN (Yuan et al., arXiv 2501.03775)."""

from typing import Any

import torch
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.gated_conv import StripGate
from rsfoundation.registry import MODELS


@MODELS.register_module()
class StripHead(ConvFCBBoxHead):
    """Three branches that share nothing: class, box without angle, angle.

    Class and angle come from two fully connected layers each. Centre and size keep the map: a 3 x 3
    convolution, then kernels along rows and columns multiplied onto it.

    Args:
        fc_out_channels: Width of the fully connected layers.
        **kwargs: Those of ``mmdet.BBoxHead``. One box for all classes (``reg_class_agnostic``).

    Raises:
        ConfigError: ``reg_class_agnostic`` is not set, or the coder does not encode five numbers.
    """

    def __init__(self, fc_out_channels: int = 1024, **kwargs: Any) -> None:
        super().__init__(
            num_cls_fcs=2,
            num_reg_convs=1,
            fc_out_channels=fc_out_channels,
            conv_out_channels=kwargs.get("in_channels", 256),
            **kwargs,
        )
        if not self.reg_class_agnostic or self.bbox_coder.encode_size != 5:
            raise ConfigError(
                "StripHead predicts one box of five numbers for all classes",
                where="roi_head.bbox_head",
                fix="set reg_class_agnostic=True and a coder such as DeltaXYWHTRBBoxCoder",
            )
        self.strip = StripGate(self.conv_out_channels)
        _, self.angle_fcs, width = self._add_conv_fc_branch(0, 2, self.in_channels)
        self.fc_reg = nn.Linear(self.reg_last_dim, 4)
        self.fc_angle = nn.Linear(width, 1)
        if kwargs.get("init_cfg") is None:
            self.init_cfg += [
                dict(type="Normal", std=0.001, override=dict(name="fc_angle")),
                dict(type="Xavier", distribution="uniform", override=[dict(name="angle_fcs")]),
            ]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores ``(N, classes + 1)`` and deltas ``(N, 5)`` of pooled maps ``(N, C, H, W)``."""
        flat = x.flatten(1)
        classes, angle = flat, flat
        for layer in self.cls_fcs:
            classes = layer(classes).relu()
        for layer in self.angle_fcs:
            angle = layer(angle).relu()
        for conv in self.reg_convs:
            x = conv(x)
        box = self.fc_reg(self.strip(x).flatten(1))
        return self.fc_cls(classes), torch.cat([box, self.fc_angle(angle)], dim=1)
