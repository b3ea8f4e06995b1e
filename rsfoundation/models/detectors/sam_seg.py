"""Detectors on the block outputs of a plain encoder: "SAM-seg" of RSPrompter, "RS4D-bbox"."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.detectors import Mask2Former, MaskRCNN
from torch import nn

from rsfoundation.registry import MODELS


class FrozenEncoderMixin(nn.Module):
    """Mixin before a detector of mmdet: its encoder can be frozen, and its neck takes block outputs.

    Adapters inside a frozen encoder are trained all the same.

    Args:
        backbone_freeze: Whether the encoder is frozen and, without adapters, stays in evaluation mode. Set it
            in the config: the published code and papers disagree on when the encoder is frozen.
        **kwargs: Of the detector.
    """

    backbone: nn.Module
    neck: nn.Module

    def __init__(self, *, backbone_freeze: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_freeze = backbone_freeze
        if backbone_freeze:
            for name, parameter in self.backbone.named_parameters():
                parameter.requires_grad_("lora_" in name)

    def train(self, mode: bool = True) -> Any:
        """Set the training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.backbone_freeze and not any(p.requires_grad for p in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def extract_feat(self, batch_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the neck's levels ``(B, C, h_i, w_i)`` of ``batch_inputs (B, 3, H, W)``.

        The encoder gives a tuple of maps, or an object with ``hidden_states`` as Hugging Face's do.
        """
        outputs = self.backbone(batch_inputs)
        return self.neck(getattr(outputs, "hidden_states", outputs))


@MODELS.register_module()
class SAMSegMaskRCNN(FrozenEncoderMixin, MaskRCNN):
    """Mask R-CNN whose neck takes every block output of a SAM or state space encoder (RSPrompter, RS4D).

    The published "SAM-seg" and "RS4D-bbox" models, with :class:`~rsfoundation.models.necks.rs_fpn.RSFPN`.
    Arguments: those of mmdet's ``MaskRCNN`` and :class:`FrozenEncoderMixin`.
    """


@MODELS.register_module()
class SAMSegMask2Former(FrozenEncoderMixin, Mask2Former):
    """Mask2Former whose neck takes every block output of a SAM or state space encoder (RSPrompter).

    Arguments: those of mmdet's ``Mask2Former`` and :class:`FrozenEncoderMixin`.
    """
