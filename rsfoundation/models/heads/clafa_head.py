"""CLAFA's decoder (Wang et al., TGRS 2024): a modulated deformable pyramid, vertical fusion, a gated head.

Modules and their names are those of the published checkpoints. Some parameters of theirs are used by nothing
(``conv_offset``, ``project``, the bias of gated convolutions); they are kept, without gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import modulated_deform_conv2d
from mmseg.models.utils import resize
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.pair_head import PairDecodeHead
from rsfoundation.registry import MODELS

LEVELS = (2, 3, 4, 5)  # level n has stride 2 ** n
_TAPS = 9  # of a 3x3 kernel
_CODES = 5  # numbers that describe the context of a channel, of its 3x3 means
_GROUP = 16  # channels that exchange their context
_LOSS = (
    dict(type="rsfoundation.SoftmaxFocalLoss", alpha=(0.25, 0.75), gamma=4.0, loss_weight=0.5),
    dict(type="rsfoundation.ImageDiceLoss"),
)


def _conv_bn_relu(in_channels: int, channels: int, kernel: int, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


def _enlarge(x: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    corners = False if mode == "bilinear" else None
    return resize(x, size=like.shape[2:], mode=mode, align_corners=corners)


class _DeformableConv(nn.Module):
    """A 3x3 modulated deformable convolution; offsets and masks come from kernels of 1, 3 and 5 pixels."""

    def __init__(self, in_channels: int, channels: int, deform_groups: int) -> None:
        super().__init__()
        self.deform_groups = deform_groups
        numbers = 3 * _TAPS * deform_groups  # two of the offset and one of the mask for each tap
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = nn.Conv2d(in_channels, numbers, 3, padding=1).requires_grad_(False)
        groups = (1, max(deform_groups // 2, 1), deform_groups)
        self.pyconv_levels = nn.ModuleList(
            _conv_bn_relu(in_channels, numbers, kernel, count)
            for kernel, count in zip((1, 3, 5), groups, strict=True)
        )
        self.offset = nn.Conv2d(3 * numbers, numbers, 1)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)  # a plain convolution with halved taps to begin with

    def forward(self, x: Tensor) -> Tensor:
        numbers = self.offset(torch.cat([level(x) for level in self.pyconv_levels], dim=1))
        offset, mask = numbers.split(2 * numbers.shape[1] // 3, dim=1)
        return modulated_deform_conv2d(
            x, offset, mask.sigmoid(), self.weight, self.bias, 1, 1, 1, 1, self.deform_groups
        )


class _SqueezeGate(nn.Module):
    """A weight per channel from the means of all channels."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean(dim=(2, 3), keepdim=True)).sigmoid()


class _ContextGatedConv(nn.Module):
    """A 3x3 convolution whose weights are gated by the 3x3 means of the map (arXiv 1910.05577)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        group = min(_GROUP, in_channels)
        self.weight = nn.Parameter(torch.empty(channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)  # published, used by nothing
        self.ce = nn.Linear(_TAPS, _CODES, bias=False)
        self.ce_bn = nn.BatchNorm1d(in_channels)
        self.ci_bn2 = nn.BatchNorm1d(in_channels)
        self.ci = nn.Linear(group, channels // (in_channels // group), bias=False)
        self.ci_bn = nn.BatchNorm1d(channels)
        self.gd = nn.Linear(_CODES, _TAPS, bias=False)
        self.gd2 = nn.Linear(_CODES, _TAPS, bias=False)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        count, channels = x.shape[:2]
        codes = self.ce(F.adaptive_avg_pool2d(x, 3).flatten(2))
        gate_in = self.gd(F.relu(self.ce_bn(codes))).view(count, 1, channels, 3, 3)
        grouped = F.relu(self.ci_bn2(codes)).unflatten(1, (-1, self.ci.in_features))
        exchanged = self.ci(grouped.transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        gate_out = self.gd2(F.relu(self.ci_bn(exchanged))).view(count, -1, 1, 3, 3)
        weight = self.weight * (gate_in + gate_out).sigmoid()
        # Every image has weights of its own: images become groups of one convolution.
        joined = F.conv2d(x.flatten(0, 1)[None], weight.flatten(0, 1), padding=1, groups=count)
        return joined[0].unflatten(0, (count, -1))


class _ContextShift(nn.Module):
    """A convolution, then a context-gated one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        self.conv = _ContextGatedConv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.stem(x))


@MODELS.register_module()
class ClafaGate(nn.Module):
    """Scale and shift of a finer level, made from the coarser one.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = _SqueezeGate(channels)
        self.beta = _ContextShift(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``gamma`` ``(B, C, 1, 1)`` in 0..1 and ``beta`` ``(B, C, H, W)``."""
        return self.gamma(x), self.beta(x)


class _Pyramid(nn.Module):
    """Top-down pathway in which a coarser level scales and shifts the next finer one."""

    def __init__(self, in_channels: Sequence[int], channels: int, deform_groups: int) -> None:
        super().__init__()
        for level, width in zip(LEVELS, in_channels, strict=True):
            top = level == LEVELS[-1]
            self.add_module(f"p{level}", _DeformableConv(width, channels, deform_groups))
            self.add_module(f"p{level}_bn", nn.BatchNorm2d(channels, affine=top))
            self.add_module(f"p{level}_smooth", nn.Conv2d(channels, channels, 3, padding=1))
            if not top:
                self.add_module(f"p{level}_Gamma", _SqueezeGate(channels))
                self.add_module(f"p{level}_beta", _ContextShift(channels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        by_level: dict[int, Tensor] = {}
        above: Tensor | None = None
        for level, x in reversed(list(zip(LEVELS, maps, strict=True))):
            projected = getattr(self, f"p{level}_bn")(getattr(self, f"p{level}")(x))
            if above is not None:
                coarse = _enlarge(above, x)
                gamma = getattr(self, f"p{level}_Gamma")(coarse)
                projected = projected * (1 + gamma) + getattr(self, f"p{level}_beta")(coarse)
            above = by_level[level] = F.relu(projected)
        return tuple(getattr(self, f"p{level}_smooth")(by_level[level]) for level in LEVELS)


class _Positions(nn.Module):
    """Sines and cosines of a token's number, times a learnt factor."""

    inv_freq: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), channels**-0.5))
        exponents = torch.arange(0, channels, 2, dtype=torch.float32) / channels
        self.register_buffer("inv_freq", 10000.0**-exponents)  # published as part of the checkpoint

    def forward(self, count: int) -> Tensor:
        angles = torch.arange(count, device=self.inv_freq.device)[:, None] * self.inv_freq
        return self.scale * torch.cat([angles.sin(), angles.cos()], dim=1)


class _ConvBlock(nn.Module):
    """3x3 convolution, norm, ReLU under the published name."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.block = _conv_bn_relu(in_channels, channels, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _DeformableAttention(nn.Module):
    """Deformable attention to one map (arXiv 2010.04159): few points, whose places depend on the query."""

    def __init__(self, channels: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.sampling_offsets = nn.Linear(channels, heads * points * 2)
        self.attention_weights = nn.Linear(channels, heads * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._init_weights()

    def _init_weights(self) -> None:
        """Start with a direction for each head and a distance for each point, as published."""
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        places = directions[:, None] * torch.arange(1, self.points + 1)[:, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(places.flatten())
        for zero in (self.sampling_offsets.weight, *self.attention_weights.parameters()):
            nn.init.zeros_(zero)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, value: Tensor, centres: Tensor, size: tuple[int, int]) -> Tensor:
        """Return ``(B, L, C)``.

        Args:
            query: ``(B, L, C)``, with positions.
            value: Tokens ``(B, H * W, C)`` of the map.
            centres: Place ``(L, 2)`` of each query on the map, x and y from 0 to 1.
            size: Height and width of the map.
        """
        count, length, channels = query.shape
        height, width = size
        maps = self.value_proj(value).transpose(1, 2).reshape(count * self.heads, -1, height, width)
        offsets = self.sampling_offsets(query).view(count, length, self.heads, self.points, 2)
        weights = self.attention_weights(query).view(count, length, self.heads, self.points).softmax(-1)
        right, down = offsets[..., 0] / width, offsets[..., 1] / height
        grid = 2 * (centres[:, None, None] + torch.stack([right, down], dim=-1)) - 1
        sampled = F.grid_sample(maps, grid.transpose(1, 2).flatten(0, 1), align_corners=False)
        mixed = (sampled * weights.transpose(1, 2).flatten(0, 1)[:, None]).sum(dim=-1)
        return self.output_proj(mixed.view(count, channels, length).transpose(1, 2))


@MODELS.register_module()
class ClafaVerticalFusion(nn.Module):
    """A coarse map attends to a fine one, is enlarged, and spread by kernels predicted from the fine one.

    Args:
        channels: Channels of both maps.
        num_heads: Heads of the deformable attention.
        num_points: Points that each position attends to.
        kernel_layers: Convolutions before the one that predicts the kernels.
        up_kernel_size: Side of the predicted kernels, odd; their taps are two pixels apart.
        enc_kernel_size: Side of the convolutions that predict them.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 1,
        num_points: int = 4,
        kernel_layers: int = 1,
        up_kernel_size: int = 5,
        enc_kernel_size: int = 3,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.pos = _Positions(channels)
        self.crossattn = _DeformableAttention(channels, num_heads, num_points)
        self.convs = nn.ModuleList(
            _ConvBlock(channels, channels, enc_kernel_size) for _ in range(kernel_layers)
        )
        self.up_kernel_size = up_kernel_size
        self.enc = _ConvBlock(channels, up_kernel_size**2, enc_kernel_size)

    def forward(self, hi: Tensor, lo: Tensor) -> Tensor:
        """Return a map ``(B, C, H, W)`` of the fine one's size.

        Args:
            hi: The coarse map ``(B, C, h, w)``.
            lo: The fine map ``(B, C, H, W)``.
        """
        spread = self._spread(_enlarge(self._attend(hi, lo), lo, "nearest"), self._kernels(lo))
        return spread + lo

    def _attend(self, hi: Tensor, lo: Tensor) -> Tensor:
        height, width = hi.shape[2:]
        query = self.norm1(hi.flatten(2).transpose(1, 2))
        value = self.norm2(lo.flatten(2).transpose(1, 2))
        rows = (torch.arange(height, device=hi.device, dtype=hi.dtype) + 0.5) / height
        columns = (torch.arange(width, device=hi.device, dtype=hi.dtype) + 0.5) / width
        centres = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).flatten(0, 1)
        placed = query + self.pos(query.shape[1]).to(query)
        attended = query + self.crossattn(placed, value, centres, (lo.shape[2], lo.shape[3]))
        return attended.transpose(1, 2).unflatten(2, (height, width))

    def _kernels(self, lo: Tensor) -> Tensor:
        for conv in self.convs:
            lo = conv(lo)
        return self.enc(lo).softmax(dim=1)

    def _spread(self, x: Tensor, kernels: Tensor) -> Tensor:
        """Sum every pixel's neighbours by its own kernel, tap by tap: never one copy of the map per tap."""
        side, (height, width) = self.up_kernel_size, x.shape[2:]
        padded = F.pad(x, [2 * (side // 2)] * 4)
        total = torch.zeros_like(x)
        for tap in range(side**2):
            row, column = 2 * (tap // side), 2 * (tap % side)
            shifted = padded[:, :, row : row + height, column : column + width]
            total = torch.addcmul(total, kernels[:, tap : tap + 1], shifted)
        return total


class _GatedConv(nn.Module):
    """A convolution times the sigmoid of another one."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.mask_conv2d = nn.Conv2d(in_channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2d(x) * self.mask_conv2d(x).sigmoid()


class _GatedUp(nn.Module):
    """Doubles the size and halves the channels: a gated transposed convolution plus a bilinear shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(channels, channels, 3, 2, padding=1, output_padding=1, bias=False)
        self.residual_up = nn.Sequential(up, nn.BatchNorm2d(channels), nn.ReLU())
        self.gate = _GatedConv(channels, channels // 2)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(channels, channels // 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.up(x) + self.gate(self.residual_up(x)))


@MODELS.register_module()
class ClafaUpHead(nn.Module):
    """Class logits at four times the size.

    Args:
        in_channels: Channels of the map; divided by 4.
        num_classes: Classes.
        dropout_ratio: Dropout of whole channels before the classifier.
    """

    def __init__(self, in_channels: int, num_classes: int = 2, dropout_ratio: float = 0.1) -> None:
        super().__init__()
        self.up = nn.Sequential(_GatedUp(in_channels), _GatedUp(in_channels // 2))
        channels = in_channels // 4
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Dropout2d(dropout_ratio)
        )
        self.final = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, classes, 4H, 4W)``."""
        return self.final(self.smooth(self.up(x)))


@MODELS.register_module()
class ClafaDecoder(PairDecodeHead):
    """CLAFA's decoder on the pyramids of two dates, any backbone with strides 4 to 32.

    Trained on the final map and on predictions from three of the four levels; the published training computes
    the loss of the finest level and leaves it out (``side_weights``).

    Args:
        in_channels: Channels of one date's levels, fine to coarse.
        fpn_channels: Channels of the pyramid.
        deform_groups: Groups of channels with offsets of their own.
        gamma_mode: ``SE``.
        beta_mode: ``contextgatedconv``.
        num_heads: Heads of the attention between levels.
        kernel_layers: See :class:`ClafaVerticalFusion`.
        num_points: Points of the attention from level 5 to 4, 4 to 3 and 3 to 2.
        side_weights: Weights of the losses of levels 2 to 5; a level of weight 0 is not trained.
        num_classes: Classes.
        loss_decode: Losses of each prediction; by default half a focal loss plus a dice loss, as published.
        dropout_ratio: Dropout before the classifier.
        **kwargs: As for mmseg's ``BaseDecodeHead``.

    Raises:
        ConfigError: ``gamma_mode`` or ``beta_mode`` is another one, or there are not four levels.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        fpn_channels: int = 128,
        deform_groups: int = 4,
        gamma_mode: str = "SE",
        beta_mode: str = "contextgatedconv",
        num_heads: int = 1,
        kernel_layers: int = 1,
        num_points: Sequence[int] = (4, 8, 16),
        side_weights: Sequence[float] = (0.0, 1.0, 1.0, 1.0),
        num_classes: int = 2,
        loss_decode: Any = _LOSS,
        dropout_ratio: float = 0.1,
        **kwargs: Any,
    ) -> None:
        if (gamma_mode, beta_mode) != ("SE", "contextgatedconv"):
            raise ConfigError(
                f"the modes are gamma_mode='SE' and beta_mode='contextgatedconv', not {gamma_mode!r} and "
                f"{beta_mode!r}",
                where="ClafaDecoder",
            )
        if len(in_channels) != len(LEVELS):
            raise ConfigError(
                f"CLAFA decodes four levels, got channels of {len(in_channels)}",
                where="ClafaDecoder.in_channels",
                fix="let the backbone return its four stages (out_indices)",
            )
        losses = [loss_decode] if isinstance(loss_decode, dict) else loss_decode
        super().__init__(
            in_channels=list(in_channels),
            in_index=list(range(len(LEVELS))),
            channels=fpn_channels,
            input_transform="multiple_select",
            num_classes=num_classes,
            loss_decode=[dict(loss) for loss in losses],
            dropout_ratio=0.0,
            **{"out_channels": num_classes, **kwargs},
        )
        self.side_weights = tuple(side_weights)
        self.fpn = _Pyramid(in_channels, fpn_channels, deform_groups)
        for level, points in zip(LEVELS[:0:-1], num_points, strict=True):
            fusion = ClafaVerticalFusion(fpn_channels, num_heads, points, kernel_layers)
            self.add_module(f"p{level}_to_p{level - 1}", fusion)
        for level, weight in zip(LEVELS, side_weights, strict=True):
            side = nn.Conv2d(fpn_channels, self.out_channels, 1).requires_grad_(weight > 0)
            self.add_module(f"p{level}_head", side)
        self.project = nn.Sequential(
            nn.Conv2d(4 * fpn_channels, fpn_channels, 1, bias=False), nn.BatchNorm2d(fpn_channels), nn.ReLU()
        ).requires_grad_(False)
        self.head = ClafaUpHead(fpn_channels, self.out_channels, dropout_ratio)

    def pyramid(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the four pyramid levels ``(B, fpn_channels, h, w)`` of one date, fine to coarse."""
        return self.fpn(self._transform_inputs(maps))

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return logits: the main prediction at four times level 2, then those of levels 2 to 5 at their own.

        Args:
            first: Pyramid of the first date.
            second: Pyramid of the second date.
        """
        pairs = zip(LEVELS, self.pyramid(first), self.pyramid(second), strict=True)
        fused = {level: (before - after).abs() for level, before, after in pairs}
        for level in LEVELS[:0:-1]:
            fusion = getattr(self, f"p{level}_to_p{level - 1}")
            fused[level - 1] = fusion(fused[level], fused[level - 1])
        sides = (getattr(self, f"p{level}_head")(fused[level]) for level in LEVELS)
        return (self.head(fused[LEVELS[0]]), *sides)

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """Return the losses of the main prediction, and of level ``n`` those that end in ``_p{n}``.

        Args:
            seg_logits: What :meth:`forward` returns.
            batch_data_samples: The samples with ``gt_sem_seg``.
        """
        losses = super().loss_by_feat(seg_logits[0], batch_data_samples)
        for level, weight, logits in zip(LEVELS, self.side_weights, seg_logits[1:], strict=True):
            if weight > 0:
                side = super().loss_by_feat(logits, batch_data_samples)
                side.pop("acc_seg")
                losses |= {f"{name}_p{level}": weight * value for name, value in side.items()}
        return losses

    def predict_by_feat(self, seg_logits: Sequence[Tensor], batch_img_metas: list[dict]) -> Tensor:
        """Return the main prediction's logits at the size of the image.

        Args:
            seg_logits: What :meth:`forward` returns.
            batch_img_metas: Metainfo of the batch.
        """
        return super().predict_by_feat(seg_logits[0], batch_img_metas)
