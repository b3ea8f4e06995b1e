"""Mask R-CNN on the block outputs of a plain encoder."""

from typing import Any

import torch
from mmdet.models.detectors import MaskRCNN

from rsfoundation.registry import MODELS


@MODELS.register_module()
class SAMSegMaskRCNN(MaskRCNN):
    """Mask R-CNN whose neck takes every block output of a SAM or state space encoder (RSPrompter, RS4D).

    The published "SAM-seg" and "RS4D-bbox" models, with :class:`~rsfoundation.models.necks.rs_fpn.RSFPN`.

    Args:
        backbone_freeze: Whether the encoder is frozen and stays in evaluation mode. Set it in the config: the
            published code and papers disagree on when the encoder is frozen.
        **kwargs: Of mmdet's ``MaskRCNN``.
    """

    def __init__(self, *, backbone_freeze: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone_freeze = backbone_freeze
        if backbone_freeze:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "SAMSegMaskRCNN":
        """Set the training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.backbone_freeze:
            self.backbone.eval()
        return self

    def extract_feat(self, batch_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the neck's levels ``(B, C, h_i, w_i)`` of ``batch_inputs (B, 3, H, W)``.

        The encoder gives a tuple of maps, or an object with ``hidden_states`` as Hugging Face's do.
        """
        outputs = self.backbone(batch_inputs)
        return self.neck(getattr(outputs, "hidden_states", outputs))
