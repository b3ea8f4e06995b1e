"""TinyCD: a few layers of EfficientNet-B4, mixed between the dates (arXiv 2207.13159)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torchvision.models import EfficientNet_B4_Weights, efficientnet_b4

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS


class _Mix(nn.Module):
    """Interleaves the dates' channels and convolves each pair of them separately."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self._convmix = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, groups=channels),
            nn.PReLU(),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._convmix(torch.stack([x1, x2], dim=2).flatten(1, 2))


class _PixelwiseLinear(nn.Module):
    """1x1 convolutions, each followed by a PReLU, the last one too."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self._linears = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(before, after, 1), nn.PReLU()) for before, after in pairwise(widths))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self._linears(x)


class _MixMask(nn.Module):
    """A one-channel mask of the mixed dates."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self._mixing = _Mix(in_channels, widths[0])
        self._linear = _PixelwiseLinear(widths)

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return self._linear(self._mixing(x1, x2))


class _UpMask(nn.Module):
    """Doubles the size, weighs by a mask, convolves depthwise and pointwise."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self._upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self._convolution = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels),
            nn.PReLU(),
            nn.InstanceNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 1),
            nn.PReLU(),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self._convolution(self._upsample(x) * mask)


@MODELS.register_module()
class TinyCD(BaseModule):
    """285 thousand parameters from the pair to one channel of change at full resolution.

    Args:
        in_channels: Accepted for Open-CD's configs; images have three channels.
        bkbn_name: ``efficientnet_b4``.
        pretrained: Whether a training starts from torchvision's ImageNet weights, which :meth:`init_weights`
            downloads. A model that is built for a checkpoint needs no network.
        output_layer_bkbn: ``3``, the last layer used.
        freeze_backbone: Whether the EfficientNet layers are frozen.

    Raises:
        ConfigError: Another backbone or layer is asked for.
    """

    def __init__(
        self,
        in_channels: int = 3,
        bkbn_name: str = "efficientnet_b4",
        pretrained: bool = True,
        output_layer_bkbn: str = "3",
        freeze_backbone: bool = False,
    ) -> None:
        super().__init__()
        if (bkbn_name, output_layer_bkbn) != ("efficientnet_b4", "3"):
            raise ConfigError(
                f"the decoder fits layer 3 of efficientnet_b4, not layer {output_layer_bkbn} of {bkbn_name}",
                where="TinyCD",
            )
        self._pretrained = pretrained
        self._backbone = nn.ModuleList(efficientnet_b4(weights=None).features[:4])
        self._backbone.requires_grad_(not freeze_backbone)
        self._first_mix = _MixMask(6, [3, 10, 5, 1])
        self._mixing_mask = nn.ModuleList(
            [_MixMask(48, [24, 12, 6, 1]), _MixMask(64, [32, 16, 8, 1]), _Mix(112, 56)]
        )
        self._up = nn.ModuleList([_UpMask(56, 64), _UpMask(64, 64), _UpMask(64, 32)])
        self._classify = _PixelwiseLinear([32, 16, 1])

    def init_weights(self) -> None:
        """Start the EfficientNet layers from ImageNet weights where ``pretrained`` asks for it."""
        super().init_weights()
        if self._pretrained:
            weights = EfficientNet_B4_Weights.DEFAULT.get_state_dict(progress=False, check_hash=True)
            prefix = "features."
            layers = {key[len(prefix) :]: value for key, value in weights.items() if key.startswith(prefix)}
            self._backbone.load_state_dict(
                {key: value for key, value in layers.items() if int(key.split(".")[0]) < len(self._backbone)}
            )

    def forward(self, x1: Tensor, x2: Tensor) -> tuple[Tensor]:
        """Return change scores ``(B, 1, H, W)``.

        Args:
            x1: First date, ``(B, C, H, W)``.
            x2: Second date, likewise.
        """
        features = self._encode(x1, x2)
        x = features[-1]
        for up, mask in zip(self._up, features[-2::-1], strict=True):
            x = up(x, mask)
        return (self._classify(x),)

    def _encode(self, x1: Tensor, x2: Tensor) -> list[Tensor]:
        """Return masks from fine to coarse, and the mixed map of the coarsest layer."""
        features = [self._first_mix(x1, x2)]
        for index, layer in enumerate(self._backbone):
            x1, x2 = layer(x1), layer(x2)
            if index:
                features.append(self._mixing_mask[index - 1](x1, x2))
        return features
