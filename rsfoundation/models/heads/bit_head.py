"""The decode head of BIT, the bi-temporal image transformer (arXiv 2103.00208), with Open-CD's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from rsfoundation.registry import MODELS

_LN = dict(type="LN", requires_grad=True)
_POOLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "max": F.adaptive_max_pool2d,
    "avg": F.adaptive_avg_pool2d,
}


class CrossAttention(BaseModule):
    """Multi-head attention of a sequence over another.

    Logits are scaled by the input width, not by the width of a head, as published.

    Args:
        channels: Width of both sequences.
        embed_dims: Inner width, all heads together.
        num_heads: Number of heads.
        drop_rate: Dropout after the output.
    """

    def __init__(self, channels: int, embed_dims: int, num_heads: int, drop_rate: float) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, channels**-0.5
        self.to_q = nn.Linear(channels, embed_dims, bias=False)
        self.to_k = nn.Linear(channels, embed_dims, bias=False)
        self.to_v = nn.Linear(channels, embed_dims, bias=False)
        self.fc_out = nn.Sequential(nn.Linear(embed_dims, channels), nn.Dropout(drop_rate))

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        """Attend from ``x`` ``(B, N, C)`` to ``reference`` ``(B, L, C)``.

        Args:
            x: ``(B, N, C)``.
            reference: ``(B, L, C)``.
        """
        query = self._heads(self.to_q(x))
        key, value = self._heads(self.to_k(reference)), self._heads(self.to_v(reference))
        attended = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.fc_out(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """Split ``(B, N, E)`` into ``(B, heads, N, E / heads)``."""
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class _Block(BaseModule):
    """Pre-norm attention and feed-forward, each added to its input."""

    def __init__(
        self, channels: int, embed_dims: int, num_heads: int, drop_rate: float, norm_cfg: dict
    ) -> None:
        super().__init__()
        self.attn = CrossAttention(channels, embed_dims, num_heads, drop_rate)
        self.ff = nn.Sequential(
            nn.Linear(channels, embed_dims),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Linear(embed_dims, channels),
            nn.Dropout(drop_rate),
        )
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]

    def feed(self, x: Tensor) -> Tensor:
        """Apply the feed-forward half."""
        return x + self.ff(self.norm2(x))


class EncoderBlock(_Block):
    """Self-attention among the tokens of both dates."""

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, L, C)``."""
        normed = self.norm1(x)
        return self.feed(x + self.attn(normed, normed))


class DecoderBlock(_Block):
    """Attention of pixels to tokens; tokens have a norm of their own.

    Args:
        channels: Width of pixels and tokens.
        embed_dims: Inner width of attention and feed-forward.
        num_heads: Heads.
        drop_rate: Dropout.
        norm_cfg: Norm of pixels and tokens.
    """

    def __init__(
        self, channels: int, embed_dims: int, num_heads: int, drop_rate: float, norm_cfg: dict
    ) -> None:
        super().__init__(channels, embed_dims, num_heads, drop_rate, norm_cfg)
        self.norm1_ = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Transform pixels ``(B, N, C)`` by tokens ``(B, L, C)``.

        Args:
            x: Pixels ``(B, N, C)``.
            tokens: ``(B, L, C)``.
        """
        return self.feed(x + self.attn(self.norm1(x), self.norm1_(tokens)))


@MODELS.register_module()
class BITHead(BaseDecodeHead):
    """A few tokens per date attend to each other, pixels attend to the tokens, then dates are compared.

    Args:
        in_channels: Channels of one date; the input holds both, concatenated.
        channels: Width of pixels and tokens.
        embed_dims: Inner width of attention and feed-forward.
        enc_depth: Blocks among the tokens.
        enc_with_pos: Whether tokens get a learnt position.
        dec_depth: Blocks from pixels to tokens.
        num_heads: Heads.
        drop_rate: Dropout in the blocks.
        pool_size: Side of the token grid without tokenizer.
        pool_mode: ``max`` or ``avg``, without tokenizer.
        use_tokenizer: Whether tokens are learnt weighted sums of the pixels.
        token_len: Tokens per date with tokenizer.
        pre_upsample: Factor before the transformer.
        upsample_size: Factor before classification.
        norm_cfg: Norm of the blocks.
        **kwargs: As for mmseg's ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: int = 256,
        channels: int = 32,
        embed_dims: int = 64,
        enc_depth: int = 1,
        enc_with_pos: bool = True,
        dec_depth: int = 8,
        num_heads: int = 8,
        drop_rate: float = 0.0,
        pool_size: int = 2,
        pool_mode: str = "max",
        use_tokenizer: bool = True,
        token_len: int = 4,
        pre_upsample: int = 2,
        upsample_size: int = 4,
        norm_cfg: dict = _LN,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, channels, norm_cfg=norm_cfg, **kwargs)
        self.pool_size, self.pool = pool_size, _POOLS[pool_mode]
        self.upsample_size = upsample_size
        self.pre_process = nn.Sequential(
            nn.Upsample(scale_factor=pre_upsample, mode="bilinear", align_corners=self.align_corners),
            ConvModule(in_channels, channels, 3, padding=1),
        )
        self.conv_att = ConvModule(channels, token_len, 1) if use_tokenizer else None
        tokens = token_len if use_tokenizer else pool_size**2
        self.enc_pos_embedding = nn.Parameter(torch.randn(1, 2 * tokens, channels)) if enc_with_pos else None
        sizes = (channels, embed_dims, num_heads, drop_rate, norm_cfg)
        self.encoder = nn.ModuleList(EncoderBlock(*sizes) for _ in range(enc_depth))
        self.decoder = nn.ModuleList(DecoderBlock(*sizes) for _ in range(dec_depth))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits ``(B, classes, H, W)`` at ``pre_upsample * upsample_size`` times the input's size."""
        maps = [self.pre_process(date) for date in self._transform_inputs(inputs).chunk(2, dim=1)]
        tokens = self._encode(torch.cat([self._tokens(x) for x in maps], dim=1)).chunk(2, dim=1)
        before, after = (self._decode(x, mine) for x, mine in zip(maps, tokens, strict=True))
        difference = F.interpolate(
            (before - after).abs(),
            scale_factor=self.upsample_size,
            mode="bilinear",
            align_corners=self.align_corners,
        )
        return self.cls_seg(difference)

    def _tokens(self, x: Tensor) -> Tensor:
        """Summarise a map ``(B, C, H, W)`` as tokens ``(B, L, C)``."""
        if self.conv_att is None:
            return self.pool(x, self.pool_size).flatten(2).transpose(1, 2)
        weights = self.conv_att(x).flatten(2).softmax(dim=-1)
        return weights @ x.flatten(2).transpose(1, 2)

    def _encode(self, tokens: Tensor) -> Tensor:
        if self.enc_pos_embedding is not None:
            tokens = tokens + self.enc_pos_embedding
        for block in self.encoder:
            tokens = block(tokens)
        return tokens

    def _decode(self, x: Tensor, tokens: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2)
        for block in self.decoder:
            pixels = block(pixels, tokens)
        return pixels.transpose(1, 2).reshape(x.shape)
