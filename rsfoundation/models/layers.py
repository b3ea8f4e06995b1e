"""Layers that backbones and encoders share: fast convolutions and linear layers, attention, MLP, norms.

Tokens are ``(N, H, W, C)`` or ``(N, L, C)``, the memory layout of a channels-last map. Batch norms are folded
into weights at every call: that costs one pass over the weights, and a cached result can never be out of
date. Where the map is smaller than the weights, the norm is applied to the map.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from rsfoundation.ops import depthwise_conv2d, narrow_conv2d, pointwise_conv2d
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
    return all(type(layer) in (nn.Linear, nn.Conv1d, nn.Conv2d, FastConv2d) for layer in layers)


def init_truncated(layer: nn.Linear | nn.Conv2d) -> None:
    """Draw the weight of a layer from a truncated normal of deviation 0.02, and set its bias to zero."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


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
    if torch.compiler.is_compiling():  # asked first: the size of an exported graph must not be read
        return layer(x)
    onednn = x.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.get_num_threads() > 1
    fast = onednn and is_plain(layer) and layer.in_features <= _MAX_IN_FEATURES and x.numel() > _MIN_VALUES
    if not fast:
        return layer(x)
    column = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
    out = pointwise_conv2d(column, layer.weight[:, :, None, None], layer.bias)
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


# The C library returns larger allocations to the system at once, and every page of the next one costs a page
# fault. Maps are computed in chunks of channels below that size, which also stay in the last-level cache.
_CHUNK_BYTES = 8 << 20
_CHUNK_CHANNELS = 64

Affine = tuple[torch.Tensor, torch.Tensor]


def norm_affine(norm: nn.Module) -> Affine | None:
    """Return scale and shift per channel of a batch norm on running statistics; ``None`` for other norms."""
    if not isinstance(norm, _BatchNorm) or norm.training or not norm.affine:
        return None
    if norm.running_mean is None or norm.running_var is None:
        return None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def weight_and_bias(conv: nn.Conv2d) -> Affine:
    """Return both parameters of a convolution, the bias as zeros where it has none."""
    bias = conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias
    return conv.weight, bias


def convolve(conv: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Run a convolution with other weights.

    Args:
        conv: Gives stride, padding, dilation and groups.
        x: ``(N, C, H, W)``.
        weight: In place of the convolution's.
        bias: Likewise.
    """
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def conv_norm(conv: nn.Module, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Convolution, then norm; a batch norm is folded into the weights at inference if that is less work.

    Args:
        conv: The convolution; one that is wrapped (by an adapter, say) is called, not read.
        norm: Any norm.
        x: ``(N, C, H, W)``.
    """
    affine = norm_affine(norm) if is_inference(norm) and is_plain(conv) else None
    if affine is None or not isinstance(conv, nn.Conv2d) or not _folding_pays(conv, x):
        return norm(conv(x))
    weight, bias = weight_and_bias(conv)
    scale, shift = affine
    return convolve(conv, x, weight * scale[:, None, None, None], bias * scale + shift)


def _folding_pays(conv: nn.Conv2d, x: torch.Tensor) -> bool:
    """Return whether a convolution has fewer weights than results for ``x``."""
    pixels = x.numel() // x.shape[1] // math.prod(conv.stride)
    return conv.weight[0].numel() <= pixels


def folded_pointwise(conv: nn.Conv2d, affine: Affine) -> Affine:
    """Return weight and bias of a 1x1 convolution that also does the affine step before it.

    Args:
        conv: A plain 1x1 convolution.
        affine: Scale and shift per input channel.
    """
    weight, bias = weight_and_bias(conv)
    scale, shift = affine
    return weight * scale[:, None, None], torch.addmv(bias, weight[:, :, 0, 0], shift)


def norm_conv(norm: nn.Module, conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Norm, then 1x1 convolution; a batch norm is folded into the weights at inference.

    Args:
        norm: Any norm.
        conv: The convolution; one that is wrapped is called, not read.
        x: ``(N, C, H, W)``.
    """
    affine = norm_affine(norm) if is_inference(norm) and is_plain(conv) else None
    if affine is None or not isinstance(conv, nn.Conv2d):
        return conv(norm(x))
    return convolve(conv, x, *folded_pointwise(conv, affine))


def chunk_channels(x: torch.Tensor, channels: int) -> int:
    """Return how many channels of a map like ``x`` to compute at a time.

    On an accelerator all of them; on a CPU as many as stay in its cache.

    Args:
        x: ``(N, C, H, W)``.
        channels: Channels to compute in all.
    """
    if x.device.type != "cpu":
        return channels
    in_cache = _CHUNK_BYTES // (x.shape[0] * x.shape[2] * x.shape[3] * x.element_size())
    return min(channels, max(_CHUNK_CHANNELS, in_cache // _CHUNK_CHANNELS * _CHUNK_CHANNELS))


class DepthwiseConv2d(nn.Conv2d):
    """A depth-wise convolution that keeps the size, with faster gradients on a CPU for kernels beyond 3x3.

    Args:
        channels: Channels of the map.
        kernel: Height and width, odd numbers.
    """

    def __init__(self, channels: int, kernel: tuple[int, int]) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(channels, channels, kernel, padding=padding, groups=channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``(N, C, H, W)``."""
        return depthwise_conv2d(x, self.weight, self.bias)


_NARROW = 16  # most products of input and output channels of a narrow convolution


class FastConv2d(nn.Conv2d):
    """``nn.Conv2d`` with gradients for shared CPUs where it is 1x1, or has few channels and keeps the size.

    It takes ``nn.Conv2d``'s arguments: peft makes adapters of a layer by its class.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``(N, C, H, W)``."""
        same = tuple(side // 2 for side in self.kernel_size) == self.padding
        simple = self.stride == self.dilation == (1, 1) and self.groups == 1 and self.padding_mode == "zeros"
        if simple and self.kernel_size == (1, 1) and same:
            return pointwise_conv2d(x, self.weight, self.bias)
        odd = all(side % 2 for side in self.kernel_size)
        if simple and same and odd and self.in_channels * self.out_channels <= _NARROW:
            return narrow_conv2d(x, self.weight, self.bias)
        return super().forward(x)


def use_fast_convolutions(model: nn.Module) -> int:
    """Give every plain ``nn.Conv2d`` of a model :class:`FastConv2d`'s gradients; return how many there were.

    Necks and heads of the toolboxes make their layers themselves. Weights, hooks and names stay.
    """
    plain = [module for module in model.modules() if type(module) is nn.Conv2d]
    for module in plain:
        module.__class__ = FastConv2d  # the same attributes: only the forward differs
    return len(plain)


def depthwise_half(conv: nn.Conv2d, x: torch.Tensor, half: int) -> torch.Tensor:
    """Compute every second output channel of a convolution that makes two channels of each input channel.

    CPU libraries have a fast kernel only for one output channel per input channel.

    Args:
        conv: A convolution with as many groups as ``x`` has channels and twice as many output channels.
        x: ``(N, C, H, W)``.
        half: First output channel, 0 or 1.
    """
    weight, bias = weight_and_bias(conv)
    weight, bias = weight[half::2], bias[half::2]
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, x.shape[1])


def dilated_depthwise(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Depth-wise convolution of odd kernel, stride 1, padding that keeps the size, and dilation ``d``.

    CPU libraries have no fast kernel for it, but it is the undilated one on each of the ``d * d`` phases
    of the map (every ``d``-th row and column), which together are one batch.

    Args:
        conv: The convolution.
        x: ``(N, C, H, W)``.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not is_plain(conv):
        return conv(x)
    step = conv.dilation[0]
    count, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -width % step, 0, -height % step))
    rows, columns = padded.shape[1] // step, padded.shape[2] // step
    phases = padded.view(count, rows, step, columns, step, channels).permute(2, 4, 0, 1, 3, 5)
    phases = phases.reshape(-1, rows, columns, channels).permute(0, 3, 1, 2)
    phases = depthwise_conv2d(phases, conv.weight, conv.bias)
    joined = phases.permute(0, 2, 3, 1).view(step, step, count, rows, columns, channels)
    joined = joined.permute(2, 3, 0, 4, 1, 5).reshape(count, rows * step, columns * step, channels)
    return joined[:, :height, :width].permute(0, 3, 1, 2)
