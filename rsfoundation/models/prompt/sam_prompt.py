"""Prompts of Segment Anything (arXiv 2304.02643) as embeddings, under Hugging Face's names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmengine.utils import to_2tuple
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.layers import LN2d
from rsfoundation.registry import MODELS

# Labels of points. Boxes use the embeddings after these for their two corners.
BACKGROUND, FOREGROUND, NOT_A_POINT, IGNORED = 0, 1, -1, -10


@MODELS.register_module()
class SAMPositionalEmbedding(nn.Module):
    """Random Fourier features of coordinates; the frequencies are a buffer that checkpoints carry.

    Args:
        num_pos_feats: Number of frequencies F; an embedding has 2 F channels.
        scale: Deviation of random frequencies.
    """

    positional_embedding: torch.Tensor

    def __init__(self, num_pos_feats: int = 128, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("positional_embedding", scale * torch.randn(2, num_pos_feats))

    def forward(self, coordinates: torch.Tensor, input_shape: Sequence[int] | None = None) -> torch.Tensor:
        """Embed coordinates.

        Args:
            coordinates: ``(..., 2)``, x and y; in [0, 1] or, with ``input_shape``, in pixels.
            input_shape: Height and width of the image that pixels are divided by.

        Returns:
            ``(..., 2 F)``: sines, then cosines.
        """
        if input_shape is not None:
            coordinates = coordinates / coordinates.new_tensor([input_shape[1], input_shape[0]])
        table = self.positional_embedding
        angles = 2 * math.pi * ((2 * coordinates - 1).to(table.dtype) @ table)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def image_wide(self, size: int | tuple[int, int]) -> torch.Tensor:
        """Return the embedding of every cell centre of a map of ``size`` (rows, columns): (1, 2 F, h, w)."""
        rows, columns = to_2tuple(size)
        table = self.positional_embedding
        y, x = (
            (torch.arange(count, device=table.device, dtype=torch.float32) + 0.5) / count
            for count in (rows, columns)
        )
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return self(centres).permute(2, 0, 1)[None]


class SAMMaskEmbedding(nn.Module):
    """Three convolutions that bring a mask of four times the embedding's size to an embedding.

    Args:
        hidden_size: Channels of the embedding.
        mask_input_channels: Channels before the last convolution.
        layer_norm_eps: Of the norms.
    """

    def __init__(self, hidden_size: int, mask_input_channels: int, layer_norm_eps: float) -> None:
        super().__init__()
        quarter = mask_input_channels // 4
        self.conv1 = nn.Conv2d(1, quarter, 2, 2)
        self.conv2 = nn.Conv2d(quarter, mask_input_channels, 2, 2)
        self.conv3 = nn.Conv2d(mask_input_channels, hidden_size, 1)
        self.layer_norm1 = LN2d(quarter, eps=layer_norm_eps)
        self.layer_norm2 = LN2d(mask_input_channels, eps=layer_norm_eps)

    def forward(self, masks: torch.Tensor) -> torch.Tensor:
        """Return ``(N, hidden_size, h, w)`` for mask logits ``(N, 1, 4 h, 4 w)``."""
        x = F.gelu(self.layer_norm1(self.conv1(masks)))
        x = F.gelu(self.layer_norm2(self.conv2(x)))
        return self.conv3(x)


@MODELS.register_module()
class SAMPromptEncoder(nn.Module):
    """Points, boxes and masks as embeddings; built from the fields of a ``SamPromptEncoderConfig``.

    Coordinates are pixels of the encoder's input image, pixel centres at whole numbers.

    Args:
        hidden_size: Channels of the embeddings.
        image_size: Size of the encoder's input in pixels, a number or (height, width).
        patch_size: Pixels per cell of the image embedding.
        mask_input_channels: See :class:`SAMMaskEmbedding`.
        num_point_embeddings: Kinds of points: background, foreground and both corners of a box.
        layer_norm_eps: Of the norms of the mask embedding.
        shared_embedding: Positional embedding, usually that of the whole SAM; None for an encoder that is
            only used for its mask embeddings.
    """

    def __init__(
        self,
        hidden_size: int = 256,
        image_size: int | tuple[int, int] = 1024,
        patch_size: int = 16,
        mask_input_channels: int = 16,
        num_point_embeddings: int = 4,
        layer_norm_eps: float = 1e-6,
        shared_embedding: SAMPositionalEmbedding | None = None,
    ) -> None:
        super().__init__()
        self.shared_embedding = shared_embedding
        self.mask_embed = SAMMaskEmbedding(hidden_size, mask_input_channels, layer_norm_eps)
        self.no_mask_embed = nn.Embedding(1, hidden_size)
        self.point_embed = nn.ModuleList(nn.Embedding(1, hidden_size) for _ in range(num_point_embeddings))
        self.not_a_point_embed = nn.Embedding(1, hidden_size)
        self.input_shape: tuple[int, int] = to_2tuple(image_size)
        self.patch_size = patch_size

    def forward(
        self,
        input_points: torch.Tensor | None = None,
        input_labels: torch.Tensor | None = None,
        input_boxes: torch.Tensor | None = None,
        input_masks: torch.Tensor | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Embed prompts; ``P`` prompts for each image, each of several points or one box.

        Args:
            input_points: ``(N, P, points, 2)``.
            input_labels: ``(N, P, points)``: 1 foreground, 0 background, -1 no point, -10 ignored.
            input_boxes: ``(N, P, 4)``: x1, y1, x2, y2.
            input_masks: Mask logits ``(N, 1, 4 h, 4 w)``.
            image_size: Height and width of the encoder's input in pixels; the native ones when None.

        Returns:
            Sparse embeddings ``(N, P, tokens, C)``, None without points and boxes, and dense ones
            ``(N, C, h, w)``.

        Raises:
            ConfigError: Points without labels, or no positional embedding.
        """
        sparse = []
        rows, columns = (
            -(-side // self.patch_size) for side in (self.input_shape if image_size is None else image_size)
        )
        size = (rows * self.patch_size, columns * self.patch_size)  # the encoder pads to whole patches
        if input_points is not None:
            if input_labels is None:
                raise ConfigError("points need labels", where="SAMPromptEncoder: input_labels")
            sparse.append(self._embed_points(input_points, input_labels, input_boxes is None, size))
        if input_boxes is not None:
            sparse.append(self._embed_boxes(input_boxes, size))
        if input_masks is not None:
            dense = self.mask_embed(input_masks)
        else:
            count = len(sparse[0]) if sparse else 1
            dense = self.no_mask_embed.weight[:, :, None, None].expand(count, -1, rows, columns)
        return (torch.cat(sparse, dim=2) if sparse else None), dense

    def _positions(self, coordinates: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Embed pixel coordinates ``(..., 2)`` of an image of ``size`` (height, width)."""
        if self.shared_embedding is None:
            raise ConfigError(
                "this prompt encoder was built without a positional embedding and embeds masks only",
                where="SAMPromptEncoder: shared_embedding",
                fix="use SAM or RSSamModel for points and boxes",
            )
        return self.shared_embedding(coordinates + 0.5, size)

    def _kind(self, index: int) -> torch.Tensor:
        """Return the embedding ``(1, C)`` of a kind of points."""
        return self.point_embed[index].get_parameter("weight")

    def _embed_points(
        self, points: torch.Tensor, labels: torch.Tensor, pad: bool, size: tuple[int, int]
    ) -> torch.Tensor:
        if pad:
            points, labels = F.pad(points, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=NOT_A_POINT)
        kinds = labels[..., None]
        embedded = self._positions(points, size)
        embedded = torch.where(kinds == NOT_A_POINT, self.not_a_point_embed.weight, embedded)
        embedded = torch.where(kinds == IGNORED, torch.zeros_like(embedded), embedded)
        for kind in (BACKGROUND, FOREGROUND):
            embedded = torch.where(kinds == kind, embedded + self._kind(kind), embedded)
        return embedded

    def _embed_boxes(self, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        corners = torch.cat([self._kind(2), self._kind(3)])
        return self._positions(boxes.unflatten(-1, (2, 2)), size) + corners
