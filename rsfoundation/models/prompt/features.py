"""What prompt heads take from the image next to the pyramid: its embedding, positions and true size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.pretrained.download import resolve
from rsfoundation.models.pretrained.loading import read_state, split_init_cfg, strip_prefix
from rsfoundation.models.pretrained.sam_checkpoints import to_hugging_face
from rsfoundation.registry import MODELS

_ROUNDING = 1e-6  # a scale factor times the size it was computed from may fall just short of a whole number


class PromptFeatures(tuple[torch.Tensor, ...]):
    """Levels of a pyramid, with the image embedding that SAM's mask decoder takes.

    It passes through the losses and predictions of mmdet's detectors as any tuple of levels does. DeepSpeed's
    ZeRO-3 calls submodules with copies, which have the levels alone.

    Attributes:
        embedding: ``(N, C, h, w)``.
        positions: Positional embedding of its cells, ``(1, C, h, w)``.
    """

    embedding: torch.Tensor
    positions: torch.Tensor

    def __new__(
        cls,
        levels: Iterable[torch.Tensor],
        embedding: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> PromptFeatures:
        """Make a tuple of the levels.

        Args:
            levels: ``(N, C_i, h_i, w_i)`` each, finest first.
            embedding: ``(N, C, h, w)``; None in a copy that has the levels alone.
            positions: ``(1, C, h, w)``; None likewise.
        """
        made = super().__new__(cls, levels)
        if embedding is not None and positions is not None:
            made.embedding, made.positions = embedding, positions
        return made

    def joined(self) -> tuple[torch.Tensor, ...]:
        """Return levels, embedding and positions as a plain tuple, which every strategy passes on whole."""
        return (*self, self.embedding, self.positions)

    @classmethod
    def split(cls, joined: Sequence[torch.Tensor]) -> PromptFeatures:
        """Return the features of a tuple from :meth:`joined`."""
        return cls(joined[:-2], joined[-2], joined[-1])


def content_size(meta: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of the padded input that the image fills, from its size and scale factor.

    Args:
        meta: Image info with ``ori_shape``, ``scale_factor`` (along x, along y) and ``batch_input_shape``.
    """
    limits = meta["batch_input_shape"]
    along_x, along_y = meta["scale_factor"][:2]
    sides = (meta["ori_shape"][0] * along_y, meta["ori_shape"][1] * along_x)
    rows, columns = (
        min(max(int(side + _ROUNDING), 1), limit) for side, limit in zip(sides, limits, strict=True)
    )
    return rows, columns


def to_image_size(masks: torch.Tensor, meta: Mapping[str, Any], rescale: bool) -> torch.Tensor:
    """Resize masks of the padded input to the image, without its padding.

    Args:
        masks: Scores or logits ``(n, h, w)`` of the whole padded input, at any resolution.
        meta: Image info, see :func:`content_size`.
        rescale: Whether to return them at the size of the image file; otherwise as the network saw it.

    Returns:
        ``(n, H, W)``.
    """
    masks = _resize(masks[:, None], meta["batch_input_shape"])
    rows, columns = content_size(meta)
    masks = masks[:, :, :rows, :columns]
    return (_resize(masks, meta["ori_shape"][:2]) if rescale else masks)[:, 0]


def _resize(masks: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    size = (int(size[0]), int(size[1]))
    if masks.shape[2:] == size:
        return masks
    return F.interpolate(masks, size=size, mode="bilinear", align_corners=False)


def interleaved_prompts(embedded: torch.Tensor, points: int, with_sincos: bool) -> torch.Tensor:
    """Return ``(n, points, C)`` prompts from the output ``(n, points * C * s)`` of a prompt generator.

    Args:
        embedded: s is 2 with ``with_sincos``, otherwise 1.
        points: Prompts of each object.
        with_sincos: Add the sine of even channels to the odd channels (RSPrompter).
    """
    prompts = embedded.unflatten(-1, (points, -1))
    return prompts[..., 0::2].sin() + prompts[..., 1::2] if with_sincos else prompts


def build_mask_decoder(config: Mapping[str, Any]) -> tuple[BaseModule, int]:
    """Build SAM's mask decoder for a head whose loss is that of the masks alone.

    Its estimate of the IoU gets no gradient, so it is frozen: unused parameters stop distributed training.

    Args:
        config: Of ``RSSamMaskDecoder``.

    Returns:
        The decoder, and the channels of the embeddings that it takes.
    """
    decoder = MODELS.build(dict(config))
    decoder.mask_decoder.iou_prediction_head.requires_grad_(False)
    return decoder, int(decoder.mask_decoder.iou_token.weight.shape[1])


def load_prompt_part(module: nn.Module, name: str, owner: BaseModule) -> None:
    """Load a part of SAM's prompt encoder from the checkpoint that another part was given.

    Args:
        module: Takes the weights.
        name: Name of the part below ``prompt_encoder``, such as ``no_mask_embed``.
        owner: A part of SAM; without ``Pretrained`` in its ``init_cfg`` nothing is loaded.

    Raises:
        ConfigError: The checkpoint does not have the part.
    """
    for step in split_init_cfg(owner.init_cfg)[1]:
        path = resolve(step["checkpoint"])
        own = strip_prefix(to_hugging_face(read_state(path)), f"prompt_encoder.{name}.")
        if own.keys() != module.state_dict().keys():
            raise ConfigError(
                f"the checkpoint has no prompt_encoder.{name}",
                where=path,
                fix="use a checkpoint of the whole SAM, such as sam_vit_base-sa1b",
            )
        module.load_state_dict(own)
