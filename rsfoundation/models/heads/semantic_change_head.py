"""Heads of semantic change detection: what changed, and the land cover of either date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from rsfoundation.registry import MODELS, with_scope

Maps = Sequence[Tensor]
# Suffix of each map's names, in order: of the logits, of the ground truth and of the prediction.
SUFFIXES = ("", "_from", "_to")
_LOSS_PREFIXES = ("binary_cd", "semantic_cd_from", "semantic_cd_to")


class MultiHeadDecoder(BaseModule):
    """A head of the change and one or two heads of the land cover.

    Args:
        binary_cd_head: Head of the change.
        binary_cd_neck: Neck that fuses the dates for it, called ``neck(first, second)``.
        semantic_cd_head: Head of the first date's land cover.
        semantic_cd_head_aux: That of the second date; without one the first serves both, and the state dict
            has its weights under both names, as published.
    """

    def __init__(
        self,
        binary_cd_head: dict,
        binary_cd_neck: dict | None = None,
        semantic_cd_head: dict | None = None,
        semantic_cd_head_aux: dict | None = None,
    ) -> None:
        super().__init__()
        self.binary_cd_head = MODELS.build(with_scope(binary_cd_head))
        self.binary_cd_neck = MODELS.build(with_scope(binary_cd_neck)) if binary_cd_neck else None
        if semantic_cd_head:
            self.semantic_cd_head = MODELS.build(with_scope(semantic_cd_head))
            aux = semantic_cd_head_aux
            self.semantic_cd_head_aux = MODELS.build(with_scope(aux)) if aux else self.semantic_cd_head
        self.align_corners = self.binary_cd_head.align_corners
        self.num_classes = self.binary_cd_head.num_classes
        self.out_channels = self.binary_cd_head.out_channels
        self.threshold = self.binary_cd_head.threshold


@MODELS.register_module()
class GeneralSCDHead(MultiHeadDecoder):
    """Change from the fused dates, land cover from each date.

    Args:
        binary_cd_head: Head of the change.
        semantic_cd_head: Head of the land cover.
        **kwargs: As for :class:`MultiHeadDecoder`.
    """

    def __init__(self, binary_cd_head: dict, semantic_cd_head: dict, **kwargs: Any) -> None:
        super().__init__(binary_cd_head, semantic_cd_head=semantic_cd_head, **kwargs)

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
