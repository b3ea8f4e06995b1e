"""Segment Anything as a whole (arXiv 2304.02643), with the names of Hugging Face's ``SamModel``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from rsfoundation.core.errors import CheckpointError, ConfigError, nearest
from rsfoundation.models.encoders.sam_vit import GENERAL_FIELDS, SAMViT
from rsfoundation.models.pretrained.download import resolve
from rsfoundation.models.pretrained.loading import (
    PublishedModule,
    State,
    load_state,
    read_state,
    strip_prefix,
)
from rsfoundation.models.pretrained.sam_checkpoints import to_hugging_face
from rsfoundation.models.prompt.sam_decoder import SAMMaskDecoder
from rsfoundation.models.prompt.sam_prompt import SAMPositionalEmbedding, SAMPromptEncoder
from rsfoundation.registry import MODELS

Fields = Mapping[str, Any]


class SAMOutput(NamedTuple):
    """Result of :class:`SAM`.

    Attributes:
        pred_masks: Mask logits ``(N, P, masks, 4 h, 4 w)``.
        iou_scores: Estimated IoU of each mask, ``(N, P, masks)``.
    """

    pred_masks: torch.Tensor
    iou_scores: torch.Tensor


@MODELS.register_module()
class SAM(PublishedModule):
    """Image encoder, prompt encoder and mask decoder, with the keys of Hugging Face's ``SamModel``.

    Args:
        arch: ``'base'``, ``'large'`` or ``'huge'``.
        vision_config: Fields of :class:`rsfoundation.models.encoders.sam_vit.SAMViT`.
        prompt_encoder_config: Fields of :class:`SAMPromptEncoder`.
        mask_decoder_config: Fields of :class:`SAMMaskDecoder`.
        init_cfg: MMEngine's; ``Pretrained`` takes every format of SAM.
    """

    def __init__(
        self,
        arch: str = "base",
        vision_config: Fields | None = None,
        prompt_encoder_config: Fields | None = None,
        mask_decoder_config: Fields | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        vision = dict(vision_config or {})
        self.shared_image_embedding = build_positional_embedding(vision)
        self.vision_encoder = SAMViT(arch, **vision)
        self.prompt_encoder = SAMPromptEncoder(
            **known_fields(SAMPromptEncoder, prompt_encoder_config),
            shared_embedding=self.shared_image_embedding,
        )
        self.mask_decoder = SAMMaskDecoder(**known_fields(SAMMaskDecoder, mask_decoder_config))

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_points: torch.Tensor | None = None,
        input_labels: torch.Tensor | None = None,
        input_boxes: torch.Tensor | None = None,
        input_masks: torch.Tensor | None = None,
        image_embeddings: torch.Tensor | None = None,
        multimask_output: bool = True,
        image_size: tuple[int, int] | None = None,
    ) -> SAMOutput:
        """Predict masks for prompts.

        Args:
            pixel_values: Normalised images ``(N, bands, H, W)``.
            input_points: See :class:`SAMPromptEncoder`, like the other prompts.
            input_labels: Of the points; all foreground when None.
            input_boxes: ``(N, P, 4)``.
            input_masks: ``(N, 1, 4 h, 4 w)``.
            image_embeddings: Result of :meth:`embed_image` in place of ``pixel_values``.
            multimask_output: Return three masks of an ambiguous prompt instead of one.
            image_size: Height and width in pixels of the image of ``image_embeddings``; those of
                ``pixel_values``, or the native ones, when None.

        Raises:
            ConfigError: Neither images nor embeddings, or both.
        """
        if (pixel_values is None) == (image_embeddings is None):
            raise ConfigError("expected one of pixel_values and image_embeddings", where="SAM.forward")
        if image_embeddings is None:
            assert pixel_values is not None
            image_embeddings = self.embed_image(pixel_values)
            rows, columns = pixel_values.shape[2:]
            image_size = image_size or (rows, columns)
        if input_points is not None and input_labels is None:
            input_labels = torch.ones_like(input_points[..., 0], dtype=torch.long)
        sparse, dense = self.prompt_encoder(input_points, input_labels, input_boxes, input_masks, image_size)
        rows, columns = image_embeddings.shape[2:]
        positions = self.shared_image_embedding.image_wide((rows, columns)).to(image_embeddings.dtype)
        return SAMOutput(*self.mask_decoder(image_embeddings, positions, sparse, dense, multimask_output))

    def embed_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the image embedding ``(N, C, h, w)`` of normalised images ``(N, bands, H, W)``."""
        return self.vision_encoder(pixel_values)[0]

    def translate_checkpoint(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a SAM checkpoint of any format under the names of this model."""
        state = to_hugging_face(state)
        encoder = self.vision_encoder.translate_checkpoint(state)
        return {**state, **{f"vision_encoder.{key}": value for key, value in encoder.items()}}

    def fit_checkpoint(self, key: str, value: torch.Tensor) -> torch.Tensor | None:
        """Resample the tables of the image encoder, see :meth:`SAMViT.fit_checkpoint`.

        Args:
            key: Name of the entry.
            value: Its tensor.
        """
        if not key.startswith("vision_encoder."):
            return None
        return self.vision_encoder.fit_checkpoint(key.removeprefix("vision_encoder."), value)


def sam_from_checkpoint(checkpoint: str) -> SAM:
    """Build the SAM that a checkpoint holds, of any size, and load it.

    Fields that the shapes of the tensors do not give, such as the heads of the mask decoder, are those of
    the published models.

    Args:
        checkpoint: File, link or name (``sam_vit_base-sa1b``) of the whole SAM in any of its formats, or of
            a detector that holds one (``SAMDet``).

    Raises:
        CheckpointError: It cannot be found or read, or lacks a part of SAM.
    """
    path = resolve(checkpoint)
    state = read_state(path)
    state = to_hugging_face(strip_prefix(state, "segmentor.sam_model.") or state)
    missing = [key for key in _NEEDED if key not in state]
    if missing:
        raise CheckpointError(
            f"the checkpoint is no whole SAM: {missing[0]} is missing",
            where=path,
            fix="use sam_vit_base-sa1b, sam_vit_large-sa1b, sam_vit_huge-sa1b, or a file of one of them",
        )
    sam = SAM("base", *_fields_of(state))
    report = load_state(sam, sam.translate_checkpoint(state))
    if report.missing:
        raise CheckpointError(
            f"the checkpoint does not fill SAM: {report.summary()}", where=path, fix="use another file"
        )
    return sam.eval()


_NEEDED = (
    "vision_encoder.pos_embed",
    "vision_encoder.patch_embed.projection.weight",
    "vision_encoder.layers.0.attn.rel_pos_h",
    "vision_encoder.neck.conv2.weight",
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.no_mask_embed.weight",
    "prompt_encoder.mask_embed.conv2.weight",
    "mask_decoder.iou_token.weight",
    "mask_decoder.transformer.layers.0.mlp.lin1.weight",
    "mask_decoder.iou_prediction_head.proj_in.weight",
)


def _fields_of(state: State) -> tuple[Fields, Fields, Fields]:
    """Return the configs of image encoder, prompt encoder and mask decoder from the shapes of the weights."""
    encoder = strip_prefix(state, "vision_encoder.")
    depth = len({key.split(".")[1] for key in encoder if key.startswith("layers.")})
    tables = [encoder[f"layers.{index}.attn.rel_pos_h"].shape for index in range(depth)]
    native, patch = encoder["pos_embed"].shape[1:3], encoder["patch_embed.projection.weight"].shape[2]
    spans = [(shape[0] + 1) // 2 for shape in tables]
    width = encoder["pos_embed"].shape[3]
    size = (native[0] * patch, native[1] * patch)
    vision = dict(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // tables[0][1],
        global_attn_indexes=[index for index, span in enumerate(spans) if span == native[0]],
        window_size=min(spans),
        mlp_dim=len(encoder["layers.0.mlp.lin1.weight"]),
        image_size=size,
        patch_size=patch,
        output_channels=len(encoder["neck.conv2.weight"]),
        num_channels=encoder["patch_embed.projection.weight"].shape[1],
        num_pos_feats=state["shared_image_embedding.positional_embedding"].shape[1],
    )
    channels = state["mask_decoder.iou_token.weight"].shape[1]
    prompt = dict(
        hidden_size=channels,
        image_size=size,
        patch_size=patch,
        mask_input_channels=len(state["prompt_encoder.mask_embed.conv2.weight"]),
    )
    decoder = dict(
        hidden_size=channels,
        mlp_dim=len(state["mask_decoder.transformer.layers.0.mlp.lin1.weight"]),
        iou_head_hidden_dim=len(state["mask_decoder.iou_prediction_head.proj_in.weight"]),
    )
    return vision, prompt, decoder


def known_fields(kind: type, fields: Fields | None) -> dict[str, Any]:
    """Return the fields of a config that a class takes, without those of every Hugging Face config.

    Args:
        kind: The class.
        fields: Fields of its Hugging Face config.

    Raises:
        ConfigError: The class does not know a field.
    """
    known = inspect.signature(kind).parameters
    general = {"hidden_act", "image_embedding_size", *GENERAL_FIELDS}
    unknown = sorted(set(fields or ()) - set(known) - general)
    if unknown:
        raise ConfigError(
            f"{kind.__name__} has no field {unknown[0]!r}",
            where=kind.__name__,
            fix=nearest(unknown[0], known),
        )
    return {key: value for key, value in (fields or {}).items() if key in known}


def build_positional_embedding(vision: Fields) -> SAMPositionalEmbedding:
    """Build the positional embedding of a SAM.

    Random frequencies have a deviation of 1, as in the original code. transformers draws them with half the
    encoder's width: positions of neighbouring cells are then unrelated, and a model from random weights
    learns no places. Checkpoints carry their own.

    Args:
        vision: Fields of the vision config: ``num_pos_feats``, and ``scale`` for another deviation.
    """
    return SAMPositionalEmbedding(vision.get("num_pos_feats", 128), vision.get("scale", 1.0))
