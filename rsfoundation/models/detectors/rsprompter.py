"""RSPrompter (arXiv 2306.16269) and "RS4D-prompt" (arXiv 2606.25324): detectors that prompt
SAM's decoder, and "SAM-seg": detectors on SAM's image encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.detectors import Mask2Former, MaskRCNN
from torch import nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.prompt.features import PromptFeatures
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


class PromptingMixin(FrozenEncoderMixin):
    """Mixin before a detector of mmdet whose heads take :class:`PromptFeatures`.

    The image embedding is the encoder's last map: the neck's map of a SAM encoder, the last block's map of a
    state space encoder, or with ``embedding_level`` a level of the detector's neck.

    Args:
        shared_image_embedding: Config of ``RSSamPositionalEmbedding``.
        backbone_freeze: See :class:`FrozenEncoderMixin`.
        decoder_freeze: Whether mask decoder and embeddings of SAM are frozen. All published models train
            them; frozen, they lose about 8 AP (table IX of the paper).
        embedding_level: Level of the neck that is the image embedding, for backbones with a pyramid, where
            it must have the decoder's channels; None for the encoder's last map.
        **kwargs: Of the detector.
    """

    def __init__(
        self,
        *,
        shared_image_embedding: Mapping[str, Any],
        backbone_freeze: bool = True,
        decoder_freeze: bool = True,
        embedding_level: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone_freeze=backbone_freeze, **kwargs)
        self.shared_image_embedding = MODELS.build(dict(shared_image_embedding))
        self.embedding_level = embedding_level
        if decoder_freeze:
            self.prompt_head.freeze_decoder()  # type: ignore[operator]

    @property
    def prompt_head(self) -> nn.Module:
        """The head that has SAM's mask decoder."""
        raise NotImplementedError

    def extract_feat(self, batch_inputs: torch.Tensor) -> PromptFeatures:
        """Return the neck's levels and the image embedding of ``batch_inputs (N, 3, H, W)``.

        Raises:
            ConfigError: The embedding has other channels than SAM's positional embedding.
        """
        outputs = self.backbone(batch_inputs)
        levels = self.neck(getattr(outputs, "hidden_states", outputs))
        channels = 2 * self.shared_image_embedding.shared_image_embedding.positional_embedding.shape[1]
        if self.embedding_level is not None:
            embedding = levels[self.embedding_level]
        elif hasattr(outputs, "last_hidden_state"):
            embedding = outputs.last_hidden_state
        else:
            embedding = outputs[-1]
            if _is_channels_last(embedding, channels, self.backbone):
                embedding = embedding.permute(0, 3, 1, 2)
        if embedding.shape[1] != channels:
            raise ConfigError(
                f"the image embedding has {embedding.shape[1]} channels; the mask decoder takes {channels}",
                where=f"{type(self).__name__}: backbone",
                fix="use an encoder of that width, or set embedding_level to a level of the neck that has it",
            )
        positions = self.shared_image_embedding.image_wide(tuple(embedding.shape[2:]))
        return PromptFeatures(levels, embedding, positions.to(embedding.dtype))


def _is_channels_last(maps: torch.Tensor, channels: int, encoder: nn.Module) -> bool:
    kind = getattr(encoder, "out_type", None)  # of state space encoders
    return kind == "featmap_hwc" if kind else maps.shape[1] != channels == maps.shape[3]


@MODELS.register_module()
class RSPrompterAnchor(PromptingMixin, MaskRCNN):
    """Mask R-CNN whose regions of interest are prompts for SAM's mask decoder.

    Its ``roi_head`` is ``RSPrompterAnchorRoIPromptHead``. Arguments: those of :class:`PromptingMixin` and of
    mmdet's ``MaskRCNN``.
    """

    @property
    def prompt_head(self) -> nn.Module:
        """The mask head."""
        return self.get_submodule("roi_head.mask_head")


@MODELS.register_module()
class RSPrompterQuery(PromptingMixin, Mask2Former):
    """Mask2Former whose queries are prompts for SAM's mask decoder.

    Its ``panoptic_head`` is ``RSMask2FormerHead``, its ``panoptic_fusion_head`` ``RSMaskFormerFusionHead``.
    Arguments: those of :class:`PromptingMixin` and of mmdet's ``Mask2Former``.
    """

    @property
    def prompt_head(self) -> nn.Module:
        """The query head."""
        return self.get_submodule("panoptic_head")
