"""Segmentors of pairs, under Open-CD's names.

Losses, whole and sliding-window inference and post-processing are mmseg's ``EncoderDecoder``; what differs is
how features come out of a pair, and how many maps come out of the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS, with_scope

# Suffix of each map's names, in order: of the logits, of the ground truth and of the prediction.
SUFFIXES = ("", "_from", "_to")
_LOSS_PREFIXES = ("binary_cd", "semantic_cd_from", "semantic_cd_to")
Maps = Sequence[Tensor]
_IGNORED = 255
_THRESHOLD = 0.5
_POSTPROCESSES = (None, "cover_semantic")


@MODELS.register_module()
class GeneralSCDHead(BaseModule):
    """Change from the fused dates, land cover from each date.

    Args:
        binary_cd_head: Head of the change.
        semantic_cd_head: Head of the first date's land cover.
        binary_cd_neck: Neck that fuses the dates for the change, called ``neck(first, second)``.
        semantic_cd_head_aux: Head of the second date; without one the first serves both, and the state dict
            has its weights under both names, as published.
    """

    def __init__(
        self,
        binary_cd_head: dict,
        semantic_cd_head: dict,
        binary_cd_neck: dict | None = None,
        semantic_cd_head_aux: dict | None = None,
    ) -> None:
        super().__init__()
        self.binary_cd_head = MODELS.build(with_scope(_with_threshold(binary_cd_head)))
        self.binary_cd_neck = MODELS.build(with_scope(binary_cd_neck)) if binary_cd_neck else None
        self.semantic_cd_head = MODELS.build(with_scope(semantic_cd_head))
        aux = semantic_cd_head_aux
        self.semantic_cd_head_aux = MODELS.build(with_scope(aux)) if aux else self.semantic_cd_head
        self.align_corners = self.binary_cd_head.align_corners
        self.num_classes = self.binary_cd_head.num_classes
        self.out_channels = self.binary_cd_head.out_channels
        self.threshold = self.binary_cd_head.threshold

    @property
    def channels_per_map(self) -> tuple[int, ...]:
        """Channels of the logits of each map, in the order of ``SUFFIXES``."""
        return tuple(head.out_channels for head in self._heads)

    @property
    def _heads(self) -> tuple[Any, Any, Any]:
        return self.binary_cd_head, self.semantic_cd_head, self.semantic_cd_head_aux

    def forward(self, inputs: tuple[Maps, Maps]) -> dict[str, Tensor]:
        """Return ``seg_logits``, ``seg_logits_from`` and ``seg_logits_to`` for the pyramids of both dates."""
        return {
            f"seg_logits{suffix}": head(features)
            for suffix, head, features in zip(SUFFIXES, self._heads, self._features(inputs), strict=True)
        }

    def loss(
        self, inputs: tuple[Maps, Maps], batch_data_samples: list[SegDataSample], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Return the losses of all three maps.

        Args:
            inputs: Pyramids of both dates.
            batch_data_samples: Samples with ``gt_sem_seg``, ``gt_sem_seg_from`` and ``gt_sem_seg_to``.
            train_cfg: Unused, as in mmseg.
        """
        losses: dict[str, Tensor] = {}
        logits = self(inputs)
        for suffix, prefix, head in zip(SUFFIXES, _LOSS_PREFIXES, self._heads, strict=True):
            # A head reads `gt_sem_seg`: give it the label of its own map.
            samples = [
                SegDataSample(gt_sem_seg=sample.get(f"gt_sem_seg{suffix}")) for sample in batch_data_samples
            ]
            losses |= add_prefix(head.loss_by_feat(logits[f"seg_logits{suffix}"], samples), prefix)
        return losses

    def predict(
        self, inputs: tuple[Maps, Maps], batch_img_metas: list[dict], test_cfg: Any
    ) -> dict[str, Tensor]:
        """Return the logits of all three maps at the size of the image.

        Args:
            inputs: Pyramids of both dates.
            batch_img_metas: Metainfo of the batch.
            test_cfg: Unused, as in mmseg.
        """
        logits = self(inputs)
        return {
            name: head.predict_by_feat(logits[name], batch_img_metas)
            for name, head in zip(logits, self._heads, strict=True)
        }

    def _features(self, inputs: tuple[Maps, Maps]) -> tuple[Any, Maps, Maps]:
        first, second = inputs
        fused = self.binary_cd_neck(first, second) if self.binary_cd_neck else inputs
        return fused, first, second


def encode_dates(backbone: nn.Module, before: Tensor, after: Tensor) -> tuple[Maps, Maps]:
    """Run one backbone on both dates.

    At inference both dates are one batch: fewer, larger operations. In training each date goes through by
    itself, so that batch norms see one date at a time, as published.

    Args:
        backbone: Returns a sequence of maps.
        before: First date ``(B, C, H, W)``.
        after: Second date, of the same shape.

    Returns:
        The maps of either date.
    """
    if backbone.training or before.shape != after.shape:
        return backbone(before), backbone(after)
    halves = [x.chunk(2) for x in backbone(torch.cat([before, after]))]
    return [first for first, _ in halves], [second for _, second in halves]


class PairEncoderDecoder(EncoderDecoder):
    """Splits the input channels into two dates.

    Args:
        backbone_inchannels: Channels of one date.
        **kwargs: As for mmseg's ``EncoderDecoder``.
    """

    test_cfg: ConfigDict

    def __init__(self, *, backbone_inchannels: int = 3, **kwargs: Any) -> None:
        if "decode_head" in kwargs:
            kwargs["decode_head"] = _with_threshold(kwargs["decode_head"])
        super().__init__(**with_scope(kwargs))
        self.test_cfg = ConfigDict(self.test_cfg or dict(mode="whole"))  # mmseg reads its keys as attributes
        self.backbone_inchannels = backbone_inchannels

    def aug_test(
        self, inputs: Sequence[Tensor], batch_img_metas: Sequence[list[dict]], rescale: bool = True
    ) -> list[Tensor]:
        """Return the labels ``(H, W)`` of the mean logits of several views, none of them flipped or resized.

        mmseg's own passes an argument that ``inference`` does not take. For flips and scales: ``--tta``.

        Args:
            inputs: One batch of pairs per view.
            batch_img_metas: Metainfo of each batch.
            rescale: As in mmseg; views have the size of the image.
        """
        views = zip(inputs, batch_img_metas, strict=True)
        logits = torch.stack([self.inference(batch, metas) for batch, metas in views]).mean(dim=0)
        labels = logits.argmax(dim=1) if logits.size(1) > 1 else logits.sigmoid() > self.decode_head.threshold
        return list(labels.reshape(len(logits), *logits.shape[2:]).long())

    def split(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Split ``(B, 2C, H, W)`` into the dates ``(B, C, H, W)``.

        Raises:
            ConfigError: The inputs have another number of channels.
        """
        expected = 2 * self.backbone_inchannels
        if inputs.size(1) != expected:
            raise ConfigError(
                f"the model takes pairs of {expected} channels, got {inputs.size(1)}",
                where="model.backbone_inchannels",
                fix="set it to the number of channels of one date",
            )
        before, after = inputs.split(self.backbone_inchannels, dim=1)
        return before, after


@MODELS.register_module()
class SiamEncoderDecoder(PairEncoderDecoder):
    """One backbone on each date, a neck that fuses the two pyramids, a decode head.

    Args:
        **kwargs: As for mmseg's ``EncoderDecoder``, with a ``neck`` called as ``neck(before, after)``,
            and ``backbone_inchannels``.

    Raises:
        ConfigError: There is no neck.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("neck") is None:
            raise ConfigError(
                "SiamEncoderDecoder needs a neck that fuses the dates",
                where="model.neck",
                fix="neck=dict(type='rsfoundation.FeatureFusionNeck', policy='concat')",
            )
        super().__init__(**kwargs)

    def extract_feat(self, inputs: Tensor) -> Maps:
        """Return the fused pyramid of a batch of pairs."""
        return self.neck(*encode_dates(self.backbone, *self.split(inputs)))


@MODELS.register_module()
class DIEncoderDecoder(PairEncoderDecoder):
    """A backbone that takes both dates, ``backbone(before, after)``, an optional neck, a decode head."""

    def extract_feat(self, inputs: Tensor) -> Maps:
        """Return the pyramid of a batch of pairs."""
        features = self.backbone(*self.split(inputs))
        return self.neck(features) if self.with_neck else features


@MODELS.register_module()
class SiamEncoderPairDecoder(PairEncoderDecoder):
    """One backbone on each date, an optional neck on each pyramid, a head called ``head(first, second)``.

    For heads that compare the dates themselves: ``A2NetHead``, ``ClafaDecoder``, ``RSPBITHead``.
    """

    def extract_feat(self, inputs: Tensor) -> tuple[Maps, Maps]:
        """Return the pyramids of both dates."""
        first, second = encode_dates(self.backbone, *self.split(inputs))
        return (self.neck(first), self.neck(second)) if self.with_neck else (first, second)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Any:
        return self.decode_head(*self.extract_feat(inputs))


@MODELS.register_module()
class SiamEncoderMultiDecoder(SiamEncoderPairDecoder):
    """Semantic change detection: the head returns logits of the change and of the land cover of either date.

    Predictions are ``pred_sem_seg``, ``pred_sem_seg_from`` and ``pred_sem_seg_to``; ``seg_logits`` likewise.

    Args:
        postprocess_pred_and_label: ``cover_semantic`` sets land cover to 0 where nothing changed and counts
            classes from 1, in predictions and, where a sample has them, in its labels (whose 255 becomes 0).
        **kwargs: As for mmseg's ``EncoderDecoder``, with a head such as ``GeneralSCDHead``.

    Raises:
        ConfigError: ``postprocess_pred_and_label`` is unknown.
    """

    def __init__(self, *, postprocess_pred_and_label: str | None = None, **kwargs: Any) -> None:
        if postprocess_pred_and_label not in _POSTPROCESSES:
            raise ConfigError(
                f"postprocess_pred_and_label is {postprocess_pred_and_label!r}",
                where="model.postprocess_pred_and_label",
                fix="set it to 'cover_semantic', or leave it out",
            )
        super().__init__(**kwargs)
        self.cover_semantic = postprocess_pred_and_label == "cover_semantic"
        # mmseg's windows add up one tensor: that of all maps along the channels.
        self.out_channels = sum(self.decode_head.channels_per_map)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Return the logits of all maps at the size of the image, one behind the other along the channels.

        Args:
            inputs: Pairs ``(B, 2C, H, W)``.
            batch_img_metas: Metainfo of the batch.
        """
        logits = self.decode_head.predict(self.extract_feat(inputs), batch_img_metas, self.test_cfg)
        return torch.cat(list(logits.values()), dim=1)

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> dict[str, Tensor]:
        """Return ``seg_logits``, ``seg_logits_from`` and ``seg_logits_to`` at the size of the image.

        Args:
            inputs: Pairs ``(B, 2C, H, W)``.
            batch_img_metas: Metainfo of the batch.
        """
        maps = super().inference(inputs, batch_img_metas).split(self.decode_head.channels_per_map, dim=1)
        return {f"seg_logits{suffix}": logits for suffix, logits in zip(SUFFIXES, maps, strict=True)}

    def postprocess_result(
        self, seg_logits: dict[str, Tensor], data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Write logits and predictions of all maps into the samples.

        Args:
            seg_logits: What :meth:`inference` returns.
            data_samples: The samples; new ones when not given, as for images without labels.
        """
        whole = data_samples is None
        count = len(next(iter(seg_logits.values())))
        samples = [SegDataSample() for _ in range(count)] if data_samples is None else data_samples
        for suffix in SUFFIXES:
            logits = seg_logits[f"seg_logits{suffix}"]
            bare = None if whole else [SegDataSample(metainfo=sample.metainfo) for sample in samples]
            for sample, one in zip(samples, super().postprocess_result(logits, bare), strict=True):
                sample.set_field(one.seg_logits, f"seg_logits{suffix}")
                sample.set_field(one.pred_sem_seg, f"pred_sem_seg{suffix}")
        if self.cover_semantic:
            for sample in samples:
                _cover_semantic(sample)
        return samples

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> dict[str, Tensor]:
        return self.decode_head(self.extract_feat(inputs))


def _with_threshold(head: Any) -> Any:
    """Give the config of a one-channel head the threshold 0.5 where it names none: mmseg's would be 0.3."""
    if not isinstance(head, dict) or head.get("out_channels") != 1 or head.get("threshold") is not None:
        return head
    return {**head, "threshold": _THRESHOLD}


def _cover_semantic(sample: SegDataSample) -> None:
    """Count land cover from 1 and set it to 0 where nothing changed, in predictions and labels."""
    changed = sample.pred_sem_seg.data.long()
    for suffix in SUFFIXES[1:]:
        predicted = sample.get(f"pred_sem_seg{suffix}").data.long()
        sample.set_field(PixelData(data=(predicted + 1) * changed), f"pred_sem_seg{suffix}")
        if f"gt_sem_seg{suffix}" in sample:
            label = sample.get(f"gt_sem_seg{suffix}").data.long()
            covered = torch.where(label == _IGNORED, 0, label + 1)
            sample.set_field(PixelData(data=covered), f"gt_sem_seg{suffix}")
