"""The decode head of STANet (10.3390/rs12101662): distances of features after attention across the dates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS, with_scope

_SCALES = (1, 2, 4, 8)
_LOGIT = 100.0  # of a pixel beyond the distance threshold; the sigmoid of it is 1
_BCL = dict(type="rsfoundation.BCLLoss", margin=2.0)


def _pool(x: Tensor, factor: int) -> Tensor:
    """Pool both dates of ``(B, C, H, 2W)``, each by itself."""
    if factor == 1:
        return x
    return torch.cat([F.avg_pool2d(date, factor) for date in x.chunk(2, dim=3)], dim=3)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend between all positions of maps ``(B, C, H, W)``."""
    q, k, v = (x.flatten(2).transpose(1, 2) for x in (query, key, value))
    attended = F.scaled_dot_product_attention(q, k, v)
    return attended.transpose(1, 2).unflatten(2, value.shape[2:])


class BasicAttention(nn.Module):
    """BAM: every pixel of both dates attends to every other one.

    Args:
        channels: Channels of the maps.
        ds: By how much the maps are pooled before.
    """

    def __init__(self, channels: int, ds: int) -> None:
        super().__init__()
        self.ds = ds
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1), requires_grad=False)  # published, used by nothing

    def forward(self, x: Tensor) -> Tensor:
        """Transform both dates next to each other, ``(B, C, H, 2W)``."""
        pooled = _pool(x, self.ds)
        attended = _attend(self.query_conv(pooled), self.key_conv(pooled), self.value_conv(pooled))
        return resize(attended, size=x.shape[2:], mode="nearest") + x


class _CellAttention(nn.Module):
    """Attention inside each cell of a grid, over the pixels of both dates."""

    def __init__(self, channels: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        narrow = channels // 8
        self.f_key, self.f_query = (
            nn.Sequential(nn.Conv2d(channels, narrow, 1), nn.BatchNorm2d(narrow)) for _ in range(2)
        )
        self.f_value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        projected = [project(x) for project in (self.f_query, self.f_key, self.f_value)]
        rows, columns = (self._bounds(side) for side in (x.shape[2], x.shape[3] // 2))
        return torch.cat([self._row(projected, row, columns) for row in rows], dim=2)

    def _bounds(self, side: int) -> list[tuple[int, int]]:
        """Return start and end of every cell along a side; the last one takes the rest."""
        step = side // self.cells
        if step == 0:
            raise ConfigError(
                f"maps of {side} pixels cannot be cut into {self.cells} cells",
                where="STAHead.sa_mode",
                fix="choose sa_mode='BAM', larger images or a smaller sa_ds",
            )
        return [
            (cell * step, side if cell == self.cells - 1 else (cell + 1) * step) for cell in range(self.cells)
        ]

    def _row(self, maps: Sequence[Tensor], row: tuple[int, int], columns: list[tuple[int, int]]) -> Tensor:
        width = maps[0].shape[3] // 2
        dates: tuple[list[Tensor], list[Tensor]] = ([], [])
        for start, end in columns:
            # The cell of both dates next to each other.
            cells = [
                torch.cat([x[:, :, slice(*row), start + at : end + at] for at in (0, width)], dim=3)
                for x in maps
            ]
            for date, half in zip(dates, _attend(*cells).chunk(2, dim=3), strict=True):
                date.append(half)
        return torch.cat([*dates[0], *dates[1]], dim=3)


class PyramidAttention(nn.Module):
    """PAM: attention in grids of 1, 2, 4 and 8 cells a side, joined.

    Args:
        channels: Channels of the maps.
        ds: By how much the maps are pooled before.
    """

    def __init__(self, channels: int, ds: int) -> None:
        super().__init__()
        self.ds = ds
        self.stages = nn.ModuleList(_CellAttention(channels, cells) for cells in _SCALES)
        self.conv_bn = nn.Sequential(nn.Conv2d(len(_SCALES) * channels, channels, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Transform both dates next to each other, ``(B, C, H, 2W)``."""
        pooled = _pool(x, self.ds)
        stages = [resize(stage(pooled), size=x.shape[2:], mode="nearest") for stage in self.stages]
        return self.conv_bn(torch.cat(stages, dim=1))


class _Attention(nn.Module):
    """Holds the attention under the published name ``Self_Att``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.Self_Att = attention

    def forward(self, x: Tensor) -> Tensor:
        return self.Self_Att(x)


_MODES: dict[str, Callable[[int, int], nn.Module]] = {
    "None": lambda channels, ds: nn.Identity(),
    "BAM": BasicAttention,
    "PAM": PyramidAttention,
}


@MODELS.register_module()
class STAHead(BaseDecodeHead):
    """Features of both dates attend to each other; how far they then are apart is the result.

    Trained on the distances (:class:`rsfoundation.models.losses.BCLLoss`); a pixel changed where its distance
    exceeds a threshold.

    Args:
        sa_mode: ``PAM``, ``BAM`` or ``None``, which compares features as they are.
        sa_in_channels: Channels of the compared features.
        sa_ds: By how much features are pooled for the attention.
        distance_threshold: From which distance on a pixel counts as changed.
        loss_decode: Loss of the distances.
        **kwargs: As for mmseg's ``BaseDecodeHead``; ``in_channels`` are those of one date, while the inputs
            hold both dates along the channels.

    Raises:
        ConfigError: ``sa_mode`` is unknown.
    """

    def __init__(
        self,
        sa_mode: str | None = "PAM",
        sa_in_channels: int = 256,
        sa_ds: int = 1,
        distance_threshold: float = 1.0,
        loss_decode: Any = _BCL,
        **kwargs: Any,
    ) -> None:
        mode = str(sa_mode)
        if mode not in _MODES:
            raise ConfigError(
                f"sa_mode is {sa_mode!r}", where="STAHead.sa_mode", fix=f"choose among {', '.join(_MODES)}"
            )
        own = dict(out_channels=1, threshold=0.5, init_cfg=None)
        super().__init__(
            num_classes=2,
            input_transform="multiple_select",
            loss_decode=with_scope(loss_decode),
            **{**own, **kwargs},
        )
        del self.conv_seg
        self.distance_threshold = distance_threshold
        conv = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        self.fpn_convs = nn.ModuleList(
            ConvModule(channels, self.channels, 1, **conv) for channels in self.in_channels
        )
        joined = len(self.in_channels) * self.channels
        self.fpn_bottleneck = nn.Sequential(
            ConvModule(joined, sa_in_channels, 3, padding=1, **conv),
            nn.Dropout(0.5),
            ConvModule(sa_in_channels, sa_in_channels, 3, padding=1, **conv),
        )
        self.netA = _Attention(_MODES[mode](sa_in_channels, sa_ds))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return how far every pixel's dates are apart, ``(B, 1, H, W)`` at the size of the first level."""
        halves = [level.chunk(2, dim=1) for level in self._transform_inputs(inputs)]
        dates = [self._join([half[date] for half in halves]) for date in (0, 1)]
        before, after = self.netA(torch.cat(dates, dim=3)).chunk(2, dim=3)
        distance = F.pairwise_distance(before.permute(0, 2, 3, 1), after.permute(0, 2, 3, 1), eps=1e-6)
        size = halves[0][0].shape[2:]
        return resize(distance[:, None], size=size, mode="bilinear", align_corners=True)

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Turn distances into logits that are certain of either side, at the size of the image.

        Args:
            seg_logits: Distances ``(B, 1, H, W)``.
            batch_img_metas: Metainfo of the batch.
        """
        certain = torch.where(seg_logits > self.distance_threshold, _LOGIT, -_LOGIT)
        return super().predict_by_feat(certain.to(seg_logits), batch_img_metas)

    def _join(self, levels: Sequence[Tensor]) -> Tensor:
        """Bring the levels of one date to one map."""
        size = levels[0].shape[2:]
        projected = [
            resize(conv(level), size=size, mode="bilinear", align_corners=self.align_corners)
            for conv, level in zip(self.fpn_convs, levels, strict=True)
        ]
        return self.fpn_bottleneck(torch.cat(projected, dim=1))
