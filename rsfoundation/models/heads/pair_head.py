"""What the decode heads share that take the feature maps of both dates, not yet fused."""

from __future__ import annotations

from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

Pair = tuple[Any, Any]  # the feature maps of the first and of the second date


class PairDecodeHead(BaseDecodeHead):
    """A decode head called as ``head(first, second)``, for :class:`SiamEncoderPairDecoder`.

    Subclasses bring their own classifier: there is no ``conv_seg``.

    Args:
        **kwargs: As for mmseg's ``BaseDecodeHead``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"init_cfg": None, **kwargs})  # mmseg's default initialises conv_seg
        del self.conv_seg

    def loss(self, inputs: Pair, batch_data_samples: list, train_cfg: Any) -> dict[str, Tensor]:
        """Return the losses of a batch.

        Args:
            inputs: Feature maps of both dates.
            batch_data_samples: The samples with ``gt_sem_seg``.
            train_cfg: Unused, as in mmseg.
        """
        return self.loss_by_feat(self(*inputs), batch_data_samples)

    def predict(self, inputs: Pair, batch_img_metas: list[dict], test_cfg: Any) -> Tensor:
        """Return logits ``(B, C, H, W)`` at the size of the padded image.

        Args:
            inputs: Feature maps of both dates.
            batch_img_metas: Metainfo of the batch.
            test_cfg: Unused, as in mmseg.
        """
        return self.predict_by_feat(self(*inputs), batch_img_metas)
