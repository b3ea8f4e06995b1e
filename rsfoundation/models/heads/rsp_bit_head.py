"""BIT as trained on RSP's backbones (arXiv 2204.02825), the form of the original BIT (arXiv 2103.00208).

It differs from Open-CD's form (:mod:`rsfoundation.models.heads.bit_head`) in nearest instead of bilinear
enlargement before a bare convolution, token logits without bias and activation, 64 dimensions per head, GELU,
one norm for pixels and tokens, and a classifier of two 3x3 convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.pair_head import PairDecodeHead
from rsfoundation.registry import MODELS

_LOSS = dict(type="mmseg.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)
_POSITIONS = ("learned", None)
Maps = Tensor | Sequence[Tensor]


class _Attention(nn.Module):
    """Multi-head attention whose logits are scaled by the input width; subclasses make q, k and v."""

    def __init__(self, channels: int, heads: int, dim_head: int, drop_rate: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, channels**-0.5
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, channels), nn.Dropout(drop_rate))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from ``(B, N, heads * dim)`` to ``(B, L, heads * dim)``; return ``(B, N, C)``."""
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        attended = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.to_out(attended.transpose(1, 2).flatten(2))


class _SelfAttention(_Attention):
    """Attention among tokens."""

    def __init__(self, channels: int, heads: int, dim_head: int, drop_rate: float) -> None:
        super().__init__(channels, heads, dim_head, drop_rate)
        self.to_qkv = nn.Linear(channels, 3 * heads * dim_head, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attend(*self.to_qkv(tokens).chunk(3, dim=-1))


class _CrossAttention(_Attention):
    """Attention of pixels to tokens."""

    def __init__(self, channels: int, heads: int, dim_head: int, drop_rate: float) -> None:
        super().__init__(channels, heads, dim_head, drop_rate)
        self.to_q, self.to_k, self.to_v = (
            nn.Linear(channels, heads * dim_head, bias=False) for _ in range(3)
        )

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        return self.attend(self.to_q(pixels), self.to_k(tokens), self.to_v(tokens))


class _FeedForward(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, channels: int, hidden: int, drop_rate: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Dropout(drop_rate),
            nn.Linear(hidden, channels),
            nn.Dropout(drop_rate),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _PreNorm(nn.Module):
    """One layer norm for all inputs of a module."""

    def __init__(self, channels: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.fn = fn

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.fn(*(self.norm(x) for x in inputs))


class _Residual(nn.Module):
    """Adds the first input to what a module makes of its inputs."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return x + self.fn(x, *rest)


class _Blocks(nn.Module):
    """Pre-norm residual attention and feed-forward, ``depth`` times."""

    def __init__(
        self, attention: type[_Attention], depth: int, sizes: tuple[int, int, int], hidden: int, drop: float
    ) -> None:
        super().__init__()
        channels = sizes[0]
        self.layers = nn.ModuleList(
            nn.ModuleList(
                _Residual(_PreNorm(channels, module))
                for module in (attention(*sizes, drop), _FeedForward(channels, hidden, drop))
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor, *tokens: Tensor) -> Tensor:
        for block in self.layers:
            attend, feed = block.children()
            x = feed(attend(x, *tokens))
        return x


@MODELS.register_module()
class RSPBITHead(PairDecodeHead):
    """BIT on one map of each date, stride 16 as published.

    Args:
        in_channels: Channels of one date's map.
        channels: Width of pixels and tokens.
        token_len: Tokens per date.
        with_pos: ``learned`` gives the tokens of both dates a learnt position; ``None`` gives none.
        enc_depth: Blocks among the tokens.
        dec_depth: Blocks from pixels to tokens.
        num_heads: Heads.
        dim_head: Width of a head.
        mlp_dim: Inner width of the feed-forward layers.
        drop_rate: Dropout in the blocks.
        num_classes: Classes.
        in_index: Which map of a pyramid is taken, where pyramids come in: 2 is stride 16 of strides 4 to 32.
        loss_decode: Loss; cross entropy by default.
        **kwargs: As for mmseg's ``BaseDecodeHead``.

    Raises:
        ConfigError: ``with_pos`` is unknown.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 32,
        token_len: int = 4,
        with_pos: str | None = "learned",
        enc_depth: int = 1,
        dec_depth: int = 8,
        num_heads: int = 8,
        dim_head: int = 64,
        mlp_dim: int = 64,
        drop_rate: float = 0.0,
        num_classes: int = 2,
        in_index: int = 2,
        loss_decode: Any = _LOSS,
        **kwargs: Any,
    ) -> None:
        if with_pos not in _POSITIONS:
            raise ConfigError(
                f"with_pos is {with_pos!r}, expected one of {_POSITIONS}", where="RSPBITHead.with_pos"
            )
        kwargs = {"out_channels": num_classes, "dropout_ratio": 0.0, **kwargs}
        super().__init__(
            in_channels=in_channels,
            channels=channels,
            num_classes=num_classes,
            in_index=in_index,
            loss_decode=loss_decode,
            **kwargs,
        )
        self.conv_pred = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.conv_a = nn.Conv2d(channels, token_len, 1, bias=False)
        self.pos_embedding = nn.Parameter(torch.randn(1, 2 * token_len, channels)) if with_pos else None
        sizes = (channels, num_heads, dim_head)
        self.transformer = _Blocks(_SelfAttention, enc_depth, sizes, mlp_dim, drop_rate)
        self.transformer_decoder = _Blocks(_CrossAttention, dec_depth, sizes, mlp_dim, drop_rate)
        self.classifier = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, self.out_channels, 3, padding=1),
        )

    def forward(self, first: Maps, second: Maps) -> Tensor:
        """Return logits ``(B, classes, 16h, 16w)``.

        Args:
            first: The map ``(B, C, h, w)`` of the first date, or its pyramid.
            second: That of the second date.
        """
        maps = [self._project(self._select(date)) for date in (first, second)]
        tokens = torch.cat([self._tokens(x) for x in maps], dim=1)
        if self.pos_embedding is not None:
            tokens = tokens + self.pos_embedding
        before, after = (
            self._decode(x, own)
            for x, own in zip(maps, self.transformer(tokens).chunk(2, dim=1), strict=True)
        )
        difference = F.interpolate((before - after).abs(), scale_factor=2, mode="nearest")
        enlarged = F.interpolate(difference, scale_factor=4, mode="bilinear", align_corners=True)
        return self.classifier(enlarged)

    def _select(self, maps: Maps) -> Tensor:
        return maps if isinstance(maps, Tensor) else maps[self.in_index]

    def _project(self, x: Tensor) -> Tensor:
        return self.conv_pred(F.interpolate(x, scale_factor=2, mode="nearest"))

    def _tokens(self, x: Tensor) -> Tensor:
        """Summarise a map ``(B, C, H, W)`` as tokens ``(B, L, C)``: weighted sums of its pixels."""
        weights = self.conv_a(x).flatten(2).softmax(dim=-1)
        return weights @ x.flatten(2).transpose(1, 2)

    def _decode(self, x: Tensor, tokens: Tensor) -> Tensor:
        pixels = self.transformer_decoder(x.flatten(2).transpose(1, 2), tokens)
        return pixels.transpose(1, 2).reshape(x.shape)
