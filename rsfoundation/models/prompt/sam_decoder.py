"""The mask decoder of Segment Anything (arXiv 2304.02643), under Hugging Face's names."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.layers import LN2d
from rsfoundation.registry import MODELS

_FINAL_NORM_EPS = 1e-5


class SAMCrossAttention(nn.Module):
    """Multi-head attention of one set of tokens to another, narrower inside than outside.

    Args:
        channels: Channels of all tokens.
        inner: Channels of queries, keys and values.
        heads: Number of heads.
    """

    def __init__(self, channels: int, inner: int, heads: int) -> None:
        super().__init__()
        if inner % heads:
            raise ConfigError(f"{heads} heads do not divide {inner} channels", where="SAMMaskDecoder")
        self.heads = heads
        self.q_proj = nn.Linear(channels, inner)
        self.k_proj = nn.Linear(channels, inner)
        self.v_proj = nn.Linear(channels, inner)
        self.out_proj = nn.Linear(inner, channels)

    def forward(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: ``(B, L, C)``.
            key: ``(B, K, C)``.
            value: ``(B, K, C)``.
            mask: Added to the scores, broadcast to ``(B, heads, L, K)``.

        Returns:
            ``(B, L, C)``.
        """
        parts = (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class SAMTokenMLP(nn.Module):
    """Linear layer, ReLU, linear layer.

    Args:
        channels: Channels of the tokens.
        hidden: Channels between the layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        return self.lin2(F.relu(self.lin1(x)))


class SAMTwoWayBlock(nn.Module):
    """Self-attention of the prompt tokens, attention to the image, MLP, and attention of the image to them.

    Args:
        channels: Channels of all tokens.
        hidden: Hidden channels of the MLP.
        heads: Heads of every attention.
        downsample: Channels per channel of queries, keys and values of the cross attentions.
        eps: Of the norms.
        first: Whether this is the first block, whose self-attention has neither positions nor a residual.
    """

    def __init__(
        self, channels: int, hidden: int, heads: int, downsample: int, eps: float, first: bool
    ) -> None:
        super().__init__()
        inner = channels // downsample
        self.first = first
        self.self_attn = SAMCrossAttention(channels, channels, heads)
        self.layer_norm1 = nn.LayerNorm(channels, eps=eps)
        self.cross_attn_token_to_image = SAMCrossAttention(channels, inner, heads)
        self.layer_norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = SAMTokenMLP(channels, hidden)
        self.layer_norm3 = nn.LayerNorm(channels, eps=eps)
        self.layer_norm4 = nn.LayerNorm(channels, eps=eps)
        self.cross_attn_image_to_token = SAMCrossAttention(channels, inner, heads)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        token_positions: torch.Tensor,
        image_positions: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update both sets of tokens.

        Args:
            tokens: ``(B, L, C)``.
            image: ``(B, K, C)``.
            token_positions: Added to the tokens where they are queries or keys.
            image_positions: Added to the image likewise.
            mask: Added to the scores of the attention of tokens to the image.

        Returns:
            Tokens and image.
        """
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            query = tokens + token_positions
            tokens = tokens + self.self_attn(query, query, tokens)
        tokens = self.layer_norm1(tokens)
        key = image + image_positions
        attended = self.cross_attn_token_to_image(tokens + token_positions, key, image, mask)
        tokens = self.layer_norm2(tokens + attended)
        tokens = self.layer_norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(key, tokens + token_positions, tokens)
        return tokens, self.layer_norm4(image)


class SAMTwoWayTransformer(nn.Module):
    """Two-way blocks, then one more attention of the tokens to the image.

    Args:
        channels: Channels of all tokens.
        hidden: Hidden channels of the MLPs.
        depth: Number of blocks.
        heads: Heads of every attention.
        downsample: See :class:`SAMTwoWayBlock`.
        eps: Of the norms of the blocks.
    """

    def __init__(
        self, channels: int, hidden: int, depth: int, heads: int, downsample: int, eps: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SAMTwoWayBlock(channels, hidden, heads, downsample, eps, index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = SAMCrossAttention(channels, channels // downsample, heads)
        self.layer_norm_final_attn = nn.LayerNorm(channels, eps=_FINAL_NORM_EPS)

    def forward(
        self,
        tokens: torch.Tensor,
        image: torch.Tensor,
        image_positions: torch.Tensor,
        mask: torch.Tensor | None,
        target: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Update tokens ``(B, L, C)`` and image ``(B, K, C)``.

        Args:
            tokens: The tokens, which are their own positions.
            image: The image.
            image_positions: Positions of the image, ``(B, K, C)``.
            mask: See :class:`SAMTwoWayBlock`.
            target: Added to the tokens before every block; before the first also to their positions, as
                transformers does (it adds in place, to a tensor that is both).
        """
        positions = tokens = tokens if target is None else tokens + target
        for index, layer in enumerate(self.layers):
            tokens = tokens if target is None or index == 0 else tokens + target
            tokens, image = layer(tokens, image, positions, image_positions, mask)
        attended = self.final_attn_token_to_image(tokens + positions, image + image_positions, image)
        return self.layer_norm_final_attn(tokens + attended), image


class SAMFeedForward(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        channels: Channels of the input.
        hidden: Channels between.
        out_channels: Channels of the result.
        depth: Number of layers, at least two.
    """

    def __init__(self, channels: int, hidden: int, out_channels: int, depth: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(channels, hidden)
        self.proj_out = nn.Linear(hidden, out_channels)
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth - 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(..., out_channels)``."""
        x = F.relu(self.proj_in(x))
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.proj_out(x)


@MODELS.register_module()
class SAMMaskDecoder(nn.Module):
    """Masks and their estimated IoU from an image embedding and prompts.

    Built from the fields of a Hugging Face ``SamMaskDecoderConfig``. Nothing in it depends on values of the
    inputs, so a GPU is never waited for. (transformers 4.x drops sparse prompts whose sum is exactly 0, which
    needs such a wait; 5.x and this class do not.)

    Args:
        hidden_size: Channels of all embeddings.
        mlp_dim: Hidden channels of the MLPs of the transformer.
        num_hidden_layers: Two-way blocks.
        num_attention_heads: Heads of every attention.
        attention_downsample_rate: Channels per channel of queries, keys and values of cross attentions.
        num_multimask_outputs: Masks M of an ambiguous prompt, besides the single one.
        iou_head_depth: Layers of the IoU head.
        iou_head_hidden_dim: Hidden channels of the IoU head.
        layer_norm_eps: Of the norms of the blocks.
    """

    def __init__(
        self,
        hidden_size: int = 256,
        mlp_dim: int = 2048,
        num_hidden_layers: int = 2,
        num_attention_heads: int = 8,
        attention_downsample_rate: int = 2,
        num_multimask_outputs: int = 3,
        iou_head_depth: int = 3,
        iou_head_hidden_dim: int = 256,
        layer_norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        width = hidden_size
        self.num_mask_tokens = num_multimask_outputs + 1
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(self.num_mask_tokens, width)
        self.transformer = SAMTwoWayTransformer(
            width, mlp_dim, num_hidden_layers, num_attention_heads, attention_downsample_rate, layer_norm_eps
        )
        self.upscale_conv1 = nn.ConvTranspose2d(width, width // 4, 2, 2)
        self.upscale_conv2 = nn.ConvTranspose2d(width // 4, width // 8, 2, 2)
        self.upscale_layer_norm = LN2d(width // 4, eps=1e-6)
        self.output_hypernetworks_mlps = nn.ModuleList(
            SAMFeedForward(width, width, width // 8, 3) for _ in range(self.num_mask_tokens)
        )
        self.iou_prediction_head = SAMFeedForward(
            width, iou_head_hidden_dim, self.num_mask_tokens, iou_head_depth
        )

    def forward(
        self,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        sparse_prompt_embeddings: torch.Tensor | None,
        dense_prompt_embeddings: torch.Tensor,
        multimask_output: bool = False,
        attention_similarity: torch.Tensor | None = None,
        target_embedding: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode ``P`` prompts for each of ``N`` images.

        Args:
            image_embeddings: ``(N, C, h, w)``.
            image_positional_embeddings: ``(N, C, h, w)`` or ``(1, C, h, w)``.
            sparse_prompt_embeddings: ``(N, P, tokens, C)``; None for one prompt of a mask alone.
            dense_prompt_embeddings: ``(N, C, h, w)``.
            multimask_output: Return the masks of an ambiguous prompt instead of the single one.
            attention_similarity: Added to the scores of the attention of tokens to the image,
                ``(N * P, heads, L, h * w)`` or what broadcasts to it.
            target_embedding: Added to the tokens before every block, ``(N * P, L, C)`` or broadcast.

        Returns:
            Mask logits ``(N, P, masks, 4 h, 4 w)`` and IoU ``(N, P, masks)``; one mask, or M of them.
        """
        count, _, rows, columns = image_embeddings.shape
        prompts = 1 if sparse_prompt_embeddings is None else sparse_prompt_embeddings.shape[1]
        tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens = tokens.expand(count * prompts, -1, -1)
        if sparse_prompt_embeddings is not None:
            tokens = torch.cat([tokens, sparse_prompt_embeddings.flatten(0, 1).to(tokens.dtype)], dim=1)
        image = (image_embeddings + dense_prompt_embeddings).flatten(2).transpose(1, 2)
        positions = image_positional_embeddings.flatten(2).transpose(1, 2)
        if len(positions) > 1:
            positions = positions.repeat_interleave(prompts, 0)
        image = image.repeat_interleave(prompts, 0)
        tokens, image = self.transformer(tokens, image, positions, attention_similarity, target_embedding)
        masks = self._masks(tokens[:, 1 : 1 + self.num_mask_tokens], image, rows, columns, multimask_output)
        chosen = slice(1, None) if multimask_output else slice(0, 1)
        iou = self.iou_prediction_head(tokens[:, 0])[:, chosen]
        return masks.unflatten(0, (count, prompts)), iou.unflatten(0, (count, prompts))

    def _masks(
        self, tokens: torch.Tensor, image: torch.Tensor, rows: int, columns: int, multimask: bool
    ) -> torch.Tensor:
        """Return ``(B, masks, 4 h, 4 w)`` from mask tokens ``(B, M + 1, C)`` and image ``(B, h * w, C)``."""
        upscaled = self.upscale_conv1(image.transpose(1, 2).unflatten(2, (rows, columns)))
        upscaled = F.gelu(self.upscale_layer_norm(upscaled))
        upscaled = F.gelu(self.upscale_conv2(upscaled))
        # Kernels of all masks, so that every network gets a gradient (of zero) in distributed training.
        kernels = [mlp(tokens[:, index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)]
        chosen = torch.stack(kernels, dim=1)[:, slice(1, None) if multimask else slice(0, 1)]
        return (chosen @ upscaled.flatten(2)).unflatten(2, upscaled.shape[2:])
