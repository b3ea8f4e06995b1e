"""A2Net as a whole network, under the names of its published checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from mmseg.models.utils import resize
from mmseg.utils import add_prefix
from torch import Tensor

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.a2net_head import A2NetHead
from rsfoundation.models.segmentors.siamese import SiamEncoderPairDecoder
from rsfoundation.registry import MODELS


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
