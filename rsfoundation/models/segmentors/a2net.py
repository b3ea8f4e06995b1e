"""A2Net: its head, and the whole network under the names of its published checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.utils import resize
from mmseg.utils import add_prefix
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.pair_head import PairDecodeHead
from rsfoundation.models.segmentors.siamese import SiamEncoderPairDecoder
from rsfoundation.registry import MODELS

LEVELS = (2, 3, 4, 5)  # level n has stride 2 ** n
_DILATIONS = (7, 5, 3, 1)
_LOSS = (
    dict(type="mmseg.CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True),
    dict(type="rsfoundation.BatchDiceLoss"),
)


def _conv_bn(in_channels: int, channels: int, dilation: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, 3, padding=dilation, dilation=dilation)
    return [conv, nn.BatchNorm2d(channels)]


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return resize(x, size=like.shape[2:], mode="bilinear", align_corners=False)


class _Aggregation(nn.Module):
    """Two convolutions over neighbouring levels joined, plus a projection of the level itself."""

    def __init__(self, joined: int, identity: int, channels: int) -> None:
        super().__init__()
        self.conv_fuse = nn.Sequential(
            *_conv_bn(joined, channels), nn.ReLU(inplace=True), *_conv_bn(channels, channels)
        )
        self.conv_identity = nn.Conv2d(identity, channels, 1)

    def forward(self, neighbours: Sequence[Tensor], level: Tensor) -> Tensor:
        return F.relu(self.conv_fuse(torch.cat(list(neighbours), dim=1)) + self.conv_identity(level))


class NeighbourAggregation(nn.Module):
    """Every level of one date joined with the next finer and the next coarser one.

    Args:
        stage_channels: Channels of the four levels, fine to coarse.
        mid: Channels of the result; each neighbour enters with half of them.
    """

    def __init__(self, stage_channels: Sequence[int], mid: int) -> None:
        super().__init__()
        channels = dict(zip(LEVELS, stage_channels, strict=True))
        for level in LEVELS:
            neighbours = self._neighbours(level)
            for other in neighbours:
                # ceil_mode: backbones halve odd sides upwards.
                pool = [nn.MaxPool2d(2, ceil_mode=True)] if other < level else []
                layers = [*pool, *_conv_bn(channels[other], mid // 2), nn.ReLU(inplace=True)]
                self.add_module(f"conv_scale{level}_c{other}", nn.Sequential(*layers))
            joined = len(neighbours) * (mid // 2)
            self.add_module(f"conv_aggregation_s{level}", _Aggregation(joined, channels[level], mid))

    @staticmethod
    def _neighbours(level: int) -> list[int]:
        return [other for other in LEVELS if abs(other - level) <= 1]

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return four maps ``(B, mid, h, w)`` for those of one date, fine to coarse."""
        by_level = dict(zip(LEVELS, maps, strict=True))
        results = []
        for level in LEVELS:
            own = by_level[level]
            neighbours = [
                _enlarge(getattr(self, f"conv_scale{level}_c{other}")(by_level[other]), own)
                for other in self._neighbours(level)
            ]
            results.append(getattr(self, f"conv_aggregation_s{level}")(neighbours, own))
        return tuple(results)


class _DilatedDifference(nn.Module):
    """Convolutions of falling dilation over how far two maps differ, each branch seeing the one before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_branch1 = nn.Sequential(*_conv_bn(channels, channels, _DILATIONS[0]))
        for branch, dilation in enumerate(_DILATIONS[1:], start=2):
            self.add_module(f"conv_branch{branch}", nn.Conv2d(channels, channels, 1))
            self.add_module(f"conv_branch{branch}_f", nn.Sequential(*_conv_bn(channels, channels, dilation)))
        self.conv_branch5 = nn.Conv2d(channels, channels, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        x = (first - second).abs()
        branch = self.conv_branch1(x)
        for number in range(2, len(_DILATIONS) + 1):
            projected = getattr(self, f"conv_branch{number}")(x)
            branch = getattr(self, f"conv_branch{number}_f")(F.relu(projected + branch))
        return F.relu(self.conv_branch5(x) + branch)


class TemporalFusion(nn.Module):
    """One map per level from the maps of two dates; the order of the dates does not matter.

    Args:
        mid: Channels of the maps.
    """

    def __init__(self, mid: int) -> None:
        super().__init__()
        for level in LEVELS:
            self.add_module(f"tffm_x{level}", _DilatedDifference(mid))

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the fused maps, fine to coarse.

        Args:
            first: Maps ``(B, mid, h, w)`` of the first date, fine to coarse.
            second: Those of the second date.
        """
        pairs = zip(LEVELS, first, second, strict=True)
        return tuple(getattr(self, f"tffm_x{level}")(before, after) for level, before, after in pairs)


class _SupervisedAttention(nn.Module):
    """Weighs channels by where a mask, which is supervised too, sees change and where it does not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cls = nn.Conv2d(channels, 1, 1)
        self.conv_context = nn.Sequential(
            nn.Conv2d(2, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.conv2 = nn.Sequential(*_conv_bn(channels, channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.cls(x)
        changed = mask.sigmoid()
        context = self.conv_context(torch.cat([changed, 1 - changed], dim=1))
        return self.conv2(x * context), mask


class MaskDecoder(nn.Module):
    """From the coarsest level down, a mask per level.

    Args:
        mid: Channels of the maps.
    """

    def __init__(self, mid: int) -> None:
        super().__init__()
        for level in LEVELS[:0:-1]:
            self.add_module(f"sam_p{level}", _SupervisedAttention(mid))
        for level in LEVELS[-2::-1]:
            layers = [*_conv_bn(mid, mid), nn.ReLU(inplace=True)]
            self.add_module(f"conv_p{level}", nn.Sequential(*layers))
        self.cls = nn.Conv2d(mid, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the finest map and the masks' logits ``(B, 1, h, w)``, fine to coarse."""
        by_level = dict(zip(LEVELS, maps, strict=True))
        x, mask = getattr(self, f"sam_p{LEVELS[-1]}")(by_level[LEVELS[-1]])
        masks = [mask]
        for level in LEVELS[-2::-1]:
            x = getattr(self, f"conv_p{level}")(by_level[level] + _enlarge(x, by_level[level]))
            if level == LEVELS[0]:
                masks.append(self.cls(x))
            else:
                x, mask = getattr(self, f"sam_p{level}")(x)
                masks.append(mask)
        return x, tuple(masks[::-1])


@MODELS.register_module()
class A2NetHead(PairDecodeHead):
    """The three parts of A2Net on the pyramids of two dates, any backbone with strides 4 to 32.

    Trained on the masks of all levels, each enlarged to the image; the finest one is the prediction.

    Args:
        stage_channels: Channels of one date's levels, fine to coarse.
        mid: Channels of the decoder.
        loss_decode: Losses of each mask; by default binary cross entropy and a dice loss over the batch, as
            published.
        **kwargs: As for mmseg's ``BaseDecodeHead``.

    Raises:
        ConfigError: There are not four levels.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        mid: int = 64,
        loss_decode: Any = _LOSS,
        **kwargs: Any,
    ) -> None:
        losses = [loss_decode] if isinstance(loss_decode, dict) else loss_decode
        if len(stage_channels) != len(LEVELS):
            raise ConfigError(
                f"A2Net decodes four levels, got channels of {len(stage_channels)}",
                where="A2NetHead.stage_channels",
                fix="let the backbone return its four stages (out_indices), or put a pyramid neck behind it",
            )
        binary = dict(num_classes=2, out_channels=1, threshold=0.5)
        super().__init__(
            in_channels=list(stage_channels),
            in_index=list(range(len(LEVELS))),
            channels=mid,
            input_transform="multiple_select",
            loss_decode=[dict(loss) for loss in losses],
            **{**binary, **kwargs},
        )
        self.swa = NeighbourAggregation(stage_channels, mid)
        self.tfm = TemporalFusion(mid)
        self.decoder = MaskDecoder(mid)

    def forward(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the masks' logits ``(B, 1, h, w)`` of the four levels, fine to coarse.

        Args:
            first: Pyramid of the first date.
            second: Pyramid of the second date.
        """
        before, after = (self.swa(self._transform_inputs(maps)) for maps in (first, second))
        return self.decoder(self.tfm(before, after))[1]

    def loss_by_feat(self, seg_logits: Sequence[Tensor], batch_data_samples: list) -> dict[str, Tensor]:
        """Return the losses of all masks; those of level ``n`` end in ``_p{n}``.

        Args:
            seg_logits: The masks' logits, fine to coarse.
            batch_data_samples: The samples with ``gt_sem_seg``.
        """
        return {
            f"{name}_p{level}": value
            for level, mask in zip(LEVELS, seg_logits, strict=True)
            for name, value in super(A2NetHead, self).loss_by_feat(mask, batch_data_samples).items()
            if name != "acc_seg"  # of one channel mmseg reports the share of unchanged pixels
        }

    def predict_by_feat(self, seg_logits: Sequence[Tensor], batch_img_metas: list[dict]) -> Tensor:
        """Return the finest mask's logits at the size of the image.

        Args:
            seg_logits: The masks' logits, fine to coarse.
            batch_img_metas: Metainfo of the batch.
        """
        return super().predict_by_feat(seg_logits[0], batch_img_metas)


@MODELS.register_module()
class A2Net(SiamEncoderPairDecoder):
    """A backbone on both dates and the three parts of A2Net's decoder, without a prefix before their names.

    The state dict has ``backbone``, ``swa``, ``tfm`` and ``decoder``. With a prefix before the decoder's
    names, the same network is ``SiamEncoderPairDecoder`` with ``A2NetHead``.

    Args:
        mid: Channels of the decoder.
        decode_head: Further arguments of :class:`A2NetHead`; ``stage_channels`` are the backbone's
            ``out_channels`` when not given.
        **kwargs: As for mmseg's ``EncoderDecoder``, and ``backbone_inchannels``.

    Raises:
        ConfigError: The backbone does not say how many channels its stages have.
    """

    def __init__(self, *, mid: int = 64, decode_head: dict | None = None, **kwargs: Any) -> None:
        super().__init__(decode_head={"mid": mid, **(decode_head or {})}, **kwargs)

    def _init_decode_head(self, decode_head: dict) -> None:
        options = {key: value for key, value in decode_head.items() if key != "type"}
        channels = options.pop("stage_channels", None) or getattr(self.backbone, "out_channels", None)
        if channels is None:
            raise ConfigError(
                f"{type(self.backbone).__name__} does not say how many channels its stages have",
                where="A2Net.backbone",
                fix="set decode_head=dict(stage_channels=[...]), fine to coarse",
            )
        head = A2NetHead(stage_channels=channels, **options)
        # The layers belong to the network, for their names; the head keeps what has no weights.
        self.swa, self.tfm, self.decoder = head.swa, head.tfm, head.decoder
        self._head = (head,)  # in a tuple: no child module
        self.align_corners, self.num_classes, self.out_channels = False, head.num_classes, head.out_channels

    @property
    def decode_head(self) -> A2NetHead:
        """The rules of the head: losses, threshold, resizing."""
        return self._head[0]

    def init_weights(self) -> None:
        """Initialise the backbone as its config says; the decoder keeps PyTorch's initialisation."""
        self.backbone.init_weights()

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> tuple[Tensor, ...]:
        """Return the masks' logits ``(B, 1, h, w)`` of strides 4 to 32."""
        first, second = self.extract_feat(inputs)
        return self.decoder(self.tfm(self.swa(first), self.swa(second)))[1]

    def forward_masks(self, t1: Tensor, t2: Tensor) -> tuple[Tensor, ...]:
        """Return the probability of change ``(B, 1, H, W)`` that each level predicts, fine to coarse.

        Args:
            t1: First date ``(B, C, H, W)``, normalised.
            t2: Second date.
        """
        masks = self._forward(torch.cat([t1, t2], dim=1))
        return tuple(resize(mask, size=t1.shape[2:], mode="bilinear").sigmoid() for mask in masks)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the losses of all masks.

        Args:
            inputs: Pairs ``(B, 2C, H, W)``.
            data_samples: Samples with ``gt_sem_seg``.
        """
        return add_prefix(self.decode_head.loss_by_feat(self._forward(inputs), data_samples), "decode")

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the finest mask's logits ``(B, 1, H, W)``.

        Args:
            inputs: Pairs ``(B, 2C, H, W)``.
            batch_img_metas: Metainfo of the batch.
        """
        return self.decode_head.predict_by_feat(self._forward(inputs), batch_img_metas)
