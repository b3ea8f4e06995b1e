"""UNetFormer's decoder (Wang et al., 10.1016/j.isprsjprs.2022.06.008) as a decode head for any backbone.

The published decoder takes maps whose sides double from level to level; here a level is resized to the next
one's size, which is the same where they double, so that images of any size work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.layers import conv_norm, is_inference, is_plain, norm_affine, norm_conv
from rsfoundation.registry import MODELS

WINDOW = 8  # side of the attention windows, and length of the averages across windows
_LEVELS = 4
_EPS = 1e-8
_NORM = dict(type="BN")
_LOSSES = (
    dict(type="rsfoundation.SoftCrossEntropyLoss", smoothing=0.05),
    dict(type="rsfoundation.BatchClassDiceLoss", smooth=0.05),
)
_AUXILIARY_LOSS = dict(type="rsfoundation.SoftCrossEntropyLoss", smoothing=0.05, loss_weight=0.4)


def reflect_end(x: Tensor, rows: int, columns: int) -> Tensor:
    """Add rows at the bottom and columns on the right, by reflection.

    A map that has fewer rows or columns than asked for is reflected to and fro; one of a single row or
    column repeats it. Torch refuses both.

    Args:
        x: ``(N, C, H, W)``.
        rows: To add.
        columns: To add.
    """
    height, width = x.shape[2:]
    if rows < height and columns < width:
        return F.pad(x, (0, columns, 0, rows), mode="reflect") if rows or columns else x
    return x[:, :, _folded(height, rows, x.device)][..., _folded(width, columns, x.device)]


def _folded(length: int, more: int, device: torch.device) -> Tensor:
    """Return the positions of ``length + more`` pixels of a line that is reflected to and fro."""
    turn = max(2 * (length - 1), 1)
    position = torch.arange(length + more, device=device) % turn
    return torch.minimum(position, turn - position) if length > 1 else torch.zeros_like(position)


class _ConvNorm(nn.Module):
    """A convolution that keeps the size, and a norm."""

    def __init__(self, in_channels: int, channels: int, kernel: int, norm_cfg: dict) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=False)
        self.norm = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(self.conv, self.norm, x)


class _SeparableConvNorm(nn.Module):
    """Depth-wise convolution, norm, 1x1 convolution; an even kernel makes the map a pixel smaller."""

    def __init__(self, channels: int, kernel: int, norm_cfg: dict) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=False)
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return norm_conv(self.norm, self.pointwise, self.depthwise(x))


class GlobalLocalAttention(nn.Module):
    """Attention within windows, averaged across them, plus convolutions.

    Args:
        channels: Channels of the map.
        heads: Number of heads.
        norm_cfg: Norm after convolutions.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, norm_cfg: dict) -> None:
        super().__init__()
        self.heads = heads
        self.local3 = _ConvNorm(channels, channels, 3, norm_cfg)
        self.local1 = _ConvNorm(channels, channels, 1, norm_cfg)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        table = torch.zeros((2 * WINDOW - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        axis = torch.arange(WINDOW)
        rows, columns = (grid.flatten() for grid in torch.meshgrid(axis, axis, indexing="ij"))
        down, right = (place[:, None] - place + WINDOW - 1 for place in (rows, columns))
        self.register_buffer("relative_position_index", down * (2 * WINDOW - 1) + right, persistent=False)
        self.project = _SeparableConvNorm(channels, WINDOW, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape ``(N, C, H, W)``."""
        mixed = _average_across(self._attend(x)) + self._local(x)
        return self.project(reflect_end(mixed, 1, 1))

    def _local(self, x: Tensor) -> Tensor:
        large, small = self.local3, self.local1
        affines = [norm_affine(branch.norm) for branch in (large, small)]
        if not is_inference(self) or None in affines or not is_plain(large.conv, small.conv):
            return large(x) + small(x)
        (scale, shift), (other_scale, other_shift) = affines  # type: ignore[misc]
        weight = large.conv.weight * scale[:, None, None, None]
        weight[:, :, 1:2, 1:2] += small.conv.weight * other_scale[:, None, None, None]
        return F.conv2d(x, weight, shift + other_shift, padding=1)

    def _attend(self, x: Tensor) -> Tensor:
        count, channels, height, width = x.shape
        padded = self.qkv(reflect_end(x, -height % WINDOW, -width % WINDOW))
        rows, columns = padded.shape[2] // WINDOW, padded.shape[3] // WINDOW
        windows = padded.permute(0, 2, 3, 1).reshape(count, rows, WINDOW, columns, WINDOW, 3, self.heads, -1)
        # (qkv, image, row and column of windows, head, row and column in the window, head channel)
        windows = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
            3, -1, self.heads, WINDOW * WINDOW, channels // self.heads
        )
        query, key, value = windows.unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(WINDOW**2, WINDOW**2, self.heads).permute(2, 0, 1)[None].to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, bias)
        mixed = mixed.view(count, rows, columns, self.heads, WINDOW, WINDOW, -1)
        mixed = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(count, rows * WINDOW, columns * WINDOW, channels)
        return mixed[:, :height, :width].permute(0, 3, 1, 2)


def _average_across(x: Tensor) -> Tensor:
    """Add the averages over ``WINDOW`` pixels along columns to those along rows; beyond the map are zeros."""
    before = WINDOW // 2 - 1
    down = F.avg_pool2d(reflect_end(x, 1, 0), (WINDOW, 1), stride=1, padding=(before, 0))
    return down + F.avg_pool2d(reflect_end(x, 0, 1), (1, WINDOW), stride=1, padding=(0, before))


class GlobalLocalBlock(nn.Module):
    """A transformer block on maps: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    Args:
        channels: Channels of the map.
        heads: Number of heads.
        norm_cfg: Norm.
        mlp_ratio: Channels within the MLP per channel of the map.
    """

    def __init__(self, channels: int, heads: int, norm_cfg: dict, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.attention = GlobalLocalAttention(channels, heads, norm_cfg)
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]
        self.expand = nn.Conv2d(channels, mlp_ratio * channels, 1)
        self.reduce = nn.Conv2d(mlp_ratio * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape ``(N, C, H, W)``."""
        x = x + self.attention(self.norm1(x))
        return x + self.reduce(F.relu6(norm_conv(self.norm2, self.expand, x)))


class _WeightedFusion(nn.Module):
    """Add a level of the backbone to the decoder's map by two learned weights, then a 3x3 convolution."""

    def __init__(self, skip_channels: int, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))
        self.skip = nn.Conv2d(skip_channels, channels, 1, bias=False)
        self.smooth = _ConvNorm(channels, channels, 3, norm_cfg)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        weights = self.weights.relu()
        weights = weights / (weights.sum() + _EPS)
        up = F.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return F.relu6(self.smooth(weights[0] * self.skip(skip) + weights[1] * up))


class _FeatureRefinement(nn.Module):
    """Fuse the finest level; weigh its pixels and its channels; a shortcut around both."""

    def __init__(self, skip_channels: int, channels: int, norm_cfg: dict) -> None:
        super().__init__()
        self.fuse = _WeightedFusion(skip_channels, channels, norm_cfg)
        self.shortcut = _ConvNorm(channels, channels, 1, norm_cfg)
        self.pixels = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        reduced = max(channels // 16, 1)
        self.squeeze = nn.Conv2d(channels, reduced, 1, bias=False)
        self.excite = nn.Conv2d(reduced, channels, 1, bias=False)
        self.project = _SeparableConvNorm(channels, 3, norm_cfg)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.fuse(x, skip)
        by_channel = self.excite(F.relu6(self.squeeze(F.adaptive_avg_pool2d(x, 1)))).sigmoid()
        weighted = (self.pixels(x).sigmoid() + by_channel) * x
        return F.relu6(self.project(weighted) + self.shortcut(x))


class _Auxiliary(nn.Module):
    """Logits of the sum of the three decoder levels, for training alone."""

    def __init__(self, channels: int, classes: int, dropout: float, norm_cfg: dict) -> None:
        super().__init__()
        self.smooth = _ConvNorm(channels, channels, 3, norm_cfg)
        self.drop = nn.Dropout(dropout)
        self.classify = nn.Conv2d(channels, classes, 1, bias=False)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        size = levels[-1].shape[2:]
        up = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in levels[:-1]]
        return self.classify(self.drop(F.relu6(self.smooth(sum(up, levels[-1])))))


@MODELS.register_module()
class UNetFormerHead(BaseDecodeHead):
    """Decode four levels by global-local attention, weighted fusion and a feature refinement head.

    Losses are those of the prediction (soft cross-entropy plus dice, as published), and in training 0.4
    times the soft cross-entropy of an auxiliary prediction, ``loss_aux``. A prediction does not run the
    auxiliary part; ``auxiliary=False`` leaves it out of the model.

    Args:
        in_channels: Channels of the four levels, fine to coarse.
        channels: Width of the decoder, a multiple of ``num_heads``.
        num_heads: Heads of the attention.
        auxiliary: Whether there is an auxiliary prediction.
        dropout_ratio: Dropout before both classifiers.
        norm_cfg: Norm of the decoder.
        loss_decode: Losses of the prediction.
        loss_auxiliary: Loss of the auxiliary prediction.
        **kwargs: As for mmseg's ``BaseDecodeHead``.

    Raises:
        ConfigError: There are not four levels, or the heads do not divide the channels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 64,
        num_heads: int = 8,
        auxiliary: bool = True,
        dropout_ratio: float = 0.1,
        norm_cfg: Any = _NORM,
        loss_decode: Any = _LOSSES,
        loss_auxiliary: Any = _AUXILIARY_LOSS,
        **kwargs: Any,
    ) -> None:
        if len(in_channels) != _LEVELS:
            raise ConfigError(
                f"the decoder takes four levels, got channels of {len(in_channels)}",
                where="UNetFormerHead.in_channels",
                fix="let the backbone return its four stages (out_indices)",
            )
        if channels % num_heads:
            raise ConfigError(
                f"{num_heads} heads do not divide {channels} channels", where="UNetFormerHead.num_heads"
            )
        options = {"in_index": list(range(_LEVELS)), "align_corners": False, "init_cfg": None, **kwargs}
        losses = [loss_decode] if isinstance(loss_decode, dict) else loss_decode
        super().__init__(
            in_channels=list(in_channels),
            channels=channels,
            input_transform="multiple_select",
            dropout_ratio=dropout_ratio,
            norm_cfg=dict(norm_cfg),
            loss_decode=[dict(loss) for loss in losses],
            **options,
        )
        fine, second, third, coarse = in_channels
        self.reduce = _ConvNorm(coarse, channels, 1, norm_cfg)
        self.block4 = GlobalLocalBlock(channels, num_heads, norm_cfg)
        self.fuse3 = _WeightedFusion(third, channels, norm_cfg)
        self.block3 = GlobalLocalBlock(channels, num_heads, norm_cfg)
        self.fuse2 = _WeightedFusion(second, channels, norm_cfg)
        self.block2 = GlobalLocalBlock(channels, num_heads, norm_cfg)
        self.refine = _FeatureRefinement(fine, channels, norm_cfg)
        self.smooth = _ConvNorm(channels, channels, 3, norm_cfg)
        self.conv_seg = nn.Conv2d(channels, self.out_channels, 1, bias=False)
        self.auxiliary: _Auxiliary | None = None
        if auxiliary:
            self.auxiliary = _Auxiliary(channels, self.out_channels, dropout_ratio, norm_cfg)
            self.loss_auxiliary = MODELS.build(dict(loss_auxiliary))

    def decode(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return logits at the size of the finest level, and the decoder's three coarser levels.

        Args:
            inputs: The maps of the backbone.
        """
        fine, second, third, coarse = self._transform_inputs(inputs)
        levels = [self.block4(self.reduce(coarse))]
        levels.append(self.block3(self.fuse3(levels[-1], third)))
        levels.append(self.block2(self.fuse2(levels[-1], second)))
        return self.cls_seg(F.relu6(self.smooth(self.refine(levels[-1], fine)))), levels

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return logits ``(N, classes, H / 4, W / 4)``.

        Args:
            inputs: The maps of the backbone.
        """
        return self.decode(inputs)[0]

    def loss(self, inputs: Sequence[Tensor], batch_data_samples: list, train_cfg: Any) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            inputs: The maps of the backbone.
            batch_data_samples: The samples with ``gt_sem_seg``.
            train_cfg: Unused, as in mmseg.
        """
        logits, levels = self.decode(inputs)
        losses = self.loss_by_feat(logits, batch_data_samples)
        if self.auxiliary is not None and self.training:
            truth = self._stack_batch_gt(batch_data_samples).squeeze(1)
            found = resize(self.auxiliary(levels), truth.shape[1:], mode="bilinear", align_corners=False)
            losses["loss_aux"] = self.loss_auxiliary(found, truth, ignore_index=self.ignore_index)
        return losses
