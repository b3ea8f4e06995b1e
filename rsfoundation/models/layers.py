"""Layers that backbones and encoders share: fast linear layers on a CPU, attention, MLP, channel norm.

Tokens are ``(N, H, W, C)`` or ``(N, L, C)``, the memory layout of a channels-last map.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.registry import MODELS

_MAX_IN_FEATURES = 2048  # oneDNN finds no good blocking for wider 1x1 convolutions: a third of the speed
_MIN_VALUES = 20480  # torch runs smaller 1x1 convolutions by a slow kernel of its own
_CHUNK_BYTES = 8 << 20


def is_inference(module: nn.Module) -> bool:
    """Return whether the eager shortcuts are allowed: evaluation mode, no gradients, no tracing."""
    return not (module.training or torch.is_grad_enabled() or torch.compiler.is_compiling())


def is_plain(*layers: nn.Module) -> bool:
    """Return whether the layers compute what their ``weight`` and ``bias`` say.

    A layer that is wrapped (a LoRA adapter, a parametrization, a quantised layer) computes something else.
    Shortcuts that read the weights must not be taken then: the layer has to be called.
    """
    return all(type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d) for layer in layers)


def linear(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer over the last dimension.

    On a CPU it is run as a 1x1 convolution: that goes to oneDNN, which multiplies two to three times faster
    than the BLAS behind ``torch.nn.functional.linear`` on processors that BLAS is not tuned for.

    Args:
        layer: The layer; one that is wrapped is called as it is.
        x: ``(..., in_features)``.

    Returns:
        ``(..., out_features)``.
    """
    onednn = x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.get_num_threads() > 1
    fast = onednn and is_plain(layer) and layer.in_features <= _MAX_IN_FEATURES and x.numel() > _MIN_VALUES
    if not fast or torch.compiler.is_compiling():
        return layer(x)
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(column, layer.weight[:, :, None, None], layer.bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], layer.out_features)


def multi_head(qkv: torch.Tensor, heads: int, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mix values by attention in several heads.

    Args:
        qkv: Queries, keys and values in one tensor, ``(N, L, 3 * C)``, heads outermost in each.
        heads: Number of heads.
        mask: Added to the scores, broadcast to ``(N, heads, L, L)``.

    Returns:
        ``(N, L, C)``.
    """
    query, key, value = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2)
    if torch.compiler.is_compiling():
        # Exporters replace the fused kernel by one with other strides: the graph has to hold the copy.
        mixed = mixed.clone(memory_format=torch.contiguous_format)
    return mixed.flatten(2)


def add_in_chunks(
    x: torch.Tensor, branch: Callable[[torch.Tensor], torch.Tensor], hidden: int
) -> torch.Tensor:
    """Return ``x + branch(x)``; at inference on a CPU in chunks of tokens that stay in its cache.

    Args:
        x: Tokens ``(..., C)``.
        branch: Works on each token by itself.
        hidden: Widest intermediate result of ``branch`` in channels.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return x + branch(x)
    rows = max(1, _CHUNK_BYTES // (hidden * x.element_size()))
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for chunk, target in zip(x.flatten(0, -2).split(rows), out.flatten(0, -2).split(rows), strict=True):
        torch.add(chunk, branch(chunk), out=target)
    return out


class TokenMLP(nn.Module):
    """Linear layer, GELU, linear layer, dropout after both.

    Args:
        channels: Channels of the tokens.
        hidden: Channels between the two layers.
        drop_rate: Dropout.
    """

    def __init__(self, channels: int, hidden: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        return self.drop(linear(self.fc2, self.drop(F.gelu(linear(self.fc1, x)))))

    def add_to(self, x: torch.Tensor, norm: nn.Module, drop_path: nn.Module) -> torch.Tensor:
        """Return ``x + drop_path(self(norm(x)))``; at inference on a CPU in chunks that stay in its cache.

        Args:
            x: Tokens ``(..., C)``.
            norm: Applied to the tokens first.
            drop_path: Applied to what is added; it does nothing at inference.
        """
        if self.training:
            return x + drop_path(self(norm(x)))
        return add_in_chunks(x, lambda chunk: self(norm(chunk)), self.fc1.out_features)


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
