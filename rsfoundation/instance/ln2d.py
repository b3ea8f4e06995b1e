"""Channel normalisation of feature maps."""

import torch
from torch import nn

from rsfoundation.registry import MODELS


@MODELS.register_module()
class LN2d(nn.Module):
    """LayerNorm over the channels of an NCHW map, at each position by itself.

    Not a subclass of ``nn.LayerNorm``: mmcv names a norm inside a ConvModule after its class, and the
    published checkpoints call this one ``norm_layer``. ``build_norm_layer`` sets eps to 1e-5 unless the
    config gives one.

    Args:
        normalized_shape: Channels C.
        eps: Added to the (biased) variance.
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x (B, C, H, W)`` over C."""
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        x = (x - mean) * torch.rsqrt(variance + self.eps)
        return x * self.weight[:, None, None] + self.bias[:, None, None]
