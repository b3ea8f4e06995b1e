"""ResNet-50 as pre-trained on remote-sensing scenes by RSP (arXiv 2204.02825): stride on the 3x3 layer."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmcv.cnn.bricks import DropPath
from torch import nn
from torch.nn import functional as F

from rsfoundation.models.backbones.base import BATCH_NORM, Backbone, NormCfg, drop_path_rates, read_arch
from rsfoundation.models.layers import conv_norm
from rsfoundation.registry import MODELS

DEPTHS = {"50": (3, 4, 6, 3)}
_EXPANSION = 4
_STEM = 64


class Bottleneck(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolution with norms, added to the input or its projection.

    Args:
        in_channels: Channels of the input.
        width: Channels of the 3x3 convolution; the result has four times as many.
        stride: Stride of the 3x3 convolution and of the projection.
        drop_path: Stochastic depth.
        norm_cfg: Batch norm, as MMCV reads it.
    """

    def __init__(
        self, in_channels: int, width: int, stride: int, drop_path: float, norm_cfg: NormCfg
    ) -> None:
        super().__init__()
        out = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, width)[1]
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = build_norm_layer(norm_cfg, width)[1]
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = build_norm_layer(norm_cfg, out)[1]
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out:
            # As published, this norm stays an ordinary one whatever norm_cfg says.
            shortcut = nn.Conv2d(in_channels, out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, 4 * width, H / stride, W / stride)``."""
        y = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        y = F.relu(conv_norm(self.conv2, self.bn2, y), inplace=True)
        y = self.drop_path(conv_norm(self.conv3, self.bn3, y))
        y += x if self.downsample is None else conv_norm(self.downsample[0], self.downsample[1], x)
        return F.relu(y, inplace=True)


@MODELS.register_module()
class RSPResNet(Backbone):
    """ResNet whose keys are torchvision's; all four layer outputs, without further norms.

    Args:
        depth: 50.
        in_channels: Bands of the image.
        out_indices: Stages to return, counted from 0.
        drop_path_rate: Stochastic depth of the last block; earlier ones rise to it linearly from 0.
        norm_cfg: Batch norm, as MMCV reads it; the norms of projection shortcuts stay ordinary.
        frozen_stages, norm_eval, with_cp, init_cfg: See :class:`rsfoundation.models.backbones.base.Backbone`.

    Raises:
        ConfigError: Unknown ``depth``, or stages that do not exist.
    """

    def __init__(
        self,
        depth: int = 50,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        norm_cfg: NormCfg = BATCH_NORM,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: Any = None,
    ) -> None:
        depths = read_arch("RSPResNet", str(depth), DEPTHS)
        widths = [_STEM * 2**stage for stage in range(len(depths))]
        super().__init__(
            [width * _EXPANSION for width in widths], out_indices, frozen_stages, norm_eval, with_cp, init_cfg
        )
        self.conv1 = nn.Conv2d(in_channels, _STEM, 7, 2, 3, bias=False)
        self.bn1 = build_norm_layer(norm_cfg, _STEM)[1]
        channels = _STEM
        rates = drop_path_rates(drop_path_rate, depths)
        for stage, width in enumerate(widths):
            layer = []
            for index, rate in enumerate(rates[stage]):
                stride = 2 if stage > 0 and index == 0 else 1
                layer.append(Bottleneck(channels, width, stride, rate, norm_cfg))
                channels = width * _EXPANSION
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.freeze()

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the stem (from 0 on), then layers."""
        if self.frozen_stages >= 0:
            yield from (self.conv1, self.bn1)
        for stage in range(self.frozen_stages):
            yield getattr(self, f"layer{stage + 1}")

    def init_scratch(self) -> None:
        """Convolutions normal by fan-out, for ReLU."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def run_stem(self, image: torch.Tensor) -> torch.Tensor:
        """Return the pooled map of the stem at a quarter of the size."""
        x = image.contiguous(memory_format=torch.channels_last)
        x = F.relu(conv_norm(self.conv1, self.bn1, x), inplace=True)
        return F.max_pool2d(x, 3, 2, 1)

    def run_stage(self, index: int, features: torch.Tensor) -> torch.Tensor:
        """Return the map of a layer.

        Args:
            index: Stage, counted from 0.
            features: Result of the stem or of the stage before.
        """
        x = features
        for block in getattr(self, f"layer{index + 1}"):
            x = self.run_block(block, x)
        return x
