"""Parts of Segment Anything as RSPrompter and RS4D name them in configs.

The prefixes of their weights are those of a Hugging Face ``SamModel``, so that a checkpoint of the whole
model loads into each of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.encoders.sam_attention import SAMAttention
from rsfoundation.models.encoders.sam_vit import HiddenStates, SAMViT
from rsfoundation.models.layers import LN2d, add_in_chunks
from rsfoundation.models.pretrained.loading import PublishedModule, load_checkpoint, split_init_cfg
from rsfoundation.models.pretrained.sam_checkpoints import to_hugging_face, to_mmpretrain
from rsfoundation.models.prompt.sam import SAM, SAMOutput, build_positional_embedding, known_fields
from rsfoundation.models.prompt.sam_decoder import SAMMaskDecoder
from rsfoundation.models.prompt.sam_prompt import SAMPromptEncoder
from rsfoundation.registry import MODELS

Fields = Mapping[str, Any]

_ARCH_IN_NAME = re.compile(r"(base|large|huge|vit[-_]b|vit[-_]l|vit[-_]h)(?![a-z])")


def read_hf_name(name: str | None, part: str) -> tuple[str, dict[str, Any]]:
    """Return the size and the config fields that a Hugging Face name or folder means.

    Args:
        name: Such as ``facebook/sam-vit-base``, or a folder with a ``config.json``; None for ViT-B.
        part: Its section of that file: ``vision_config``, ``prompt_encoder_config``, ``mask_decoder_config``.

    Raises:
        ConfigError: The name tells no size.
    """
    if name is None:
        return "base", {}
    config = Path(name).expanduser() / "config.json"
    if config.is_file():
        return "base", dict(json.loads(config.read_text()).get(part) or {})
    found = _ARCH_IN_NAME.findall(Path(name).name.lower())
    if not found:
        raise ConfigError(
            f"the name {name!r} tells no size of SAM",
            where="hf_pretrain_name",
            fix="use facebook/sam-vit-base, -large or -huge, or a folder with their config.json",
        )
    return {"b": "base", "l": "large", "h": "huge"}[re.split(r"[-_]", found[-1])[-1][0]], {}


class _SAMPart(PublishedModule):
    """A part of SAM in a module of its own name, which is the prefix of its weights.

    Args:
        hf_pretrain_name: See :func:`read_hf_name`.
        extra_config: Fields in place of those of the name.
        init_cfg: MMEngine's; ``Pretrained`` takes every format of the whole SAM.
        **fields: The same as ``extra_config``.
    """

    section = "vision_config"

    def __init__(
        self,
        hf_pretrain_name: str | None = None,
        extra_config: Fields | None = None,
        init_cfg: Any = None,
        **fields: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.arch, known = read_hf_name(hf_pretrain_name, self.section)
        self.fields = {**known, **(extra_config or {}), **fields}

    def translate_checkpoint(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the part's weights in a SAM checkpoint of any format."""
        parts = {name for name, _ in self.named_children()}
        return {key: value for key, value in to_hugging_face(state).items() if key.partition(".")[0] in parts}


@MODELS.register_module()
class RSSamPositionalEmbedding(_SAMPart):
    """SAM's positional embedding, under ``shared_image_embedding``; see :class:`SAMPositionalEmbedding`.

    Args:
        **kwargs: ``hf_pretrain_name``, ``extra_config``, ``init_cfg``, or fields of the vision config.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared_image_embedding = build_positional_embedding(self.fields)

    def forward(self, coordinates: torch.Tensor, input_shape: Any = None) -> torch.Tensor:
        """Embed coordinates.

        Args:
            coordinates: ``(..., 2)``, x and y.
            input_shape: See :meth:`SAMPositionalEmbedding.forward`.
        """
        return self.shared_image_embedding(coordinates, input_shape)

    def image_wide(self, size: int | tuple[int, int]) -> torch.Tensor:
        """Return the embedding of every cell of a map of ``size`` (rows, columns): ``(1, C, h, w)``."""
        return self.shared_image_embedding.image_wide(size)


@MODELS.register_module()
class RSSamPromptEncoder(_SAMPart):
    """SAM's prompt encoder without the positional embedding, under ``prompt_encoder``: it embeds masks.

    Args:
        **kwargs: ``hf_pretrain_name``, ``extra_config``, ``init_cfg``, or fields of
            :class:`SAMPromptEncoder`.
    """

    section = "prompt_encoder_config"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prompt_encoder = SAMPromptEncoder(**known_fields(SAMPromptEncoder, self.fields))

    def forward(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Embed prompts; arguments of :meth:`SAMPromptEncoder.forward`."""
        return self.prompt_encoder(*args, **kwargs)


@MODELS.register_module()
class RSSamMaskDecoder(_SAMPart):
    """SAM's mask decoder, under ``mask_decoder``.

    Args:
        **kwargs: ``hf_pretrain_name``, ``extra_config``, ``init_cfg``, or fields of :class:`SAMMaskDecoder`.
    """

    section = "mask_decoder_config"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_decoder = SAMMaskDecoder(**known_fields(SAMMaskDecoder, self.fields))

    def forward(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return masks and IoU; arguments of :meth:`SAMMaskDecoder.forward`."""
        return self.mask_decoder(*args, **kwargs)


@MODELS.register_module()
class RSSamModel(BaseModule):
    """A whole SAM under ``sam_model``.

    Args:
        hf_pretrain_name: See :func:`read_hf_name`.
        extra_config: ``vision_config``, ``prompt_encoder_config`` and ``mask_decoder_config``, each with
            fields in place of those of the name.
        init_cfg: MMEngine's; ``Pretrained`` takes every format of SAM.
    """

    def __init__(
        self, hf_pretrain_name: str | None = None, extra_config: Fields | None = None, init_cfg: Any = None
    ) -> None:
        super().__init__()
        sections = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
        read = {section: read_hf_name(hf_pretrain_name, section) for section in sections}
        given = extra_config or {}
        fields = {section: {**known, **given.get(section, {})} for section, (_, known) in read.items()}
        self.sam_model = SAM(read["vision_config"][0], **fields, init_cfg=init_cfg)

    def forward(self, *args: Any, **kwargs: Any) -> SAMOutput:
        """Predict masks; arguments of :meth:`SAM.forward`."""
        return self.sam_model(*args, **kwargs)


_LORA_DEFAULTS: Fields = dict(
    peft_type="LORA", r=16, target_modules=["qkv"], lora_alpha=32, lora_dropout=0.05, bias="none"
)


@MODELS.register_module()
class RSSamVisionEncoder(PublishedModule):
    """SAM's image encoder under ``vision_encoder``, optionally with LoRA adapters.

    Args:
        hf_pretrain_name: See :func:`read_hf_name`.
        extra_config: Fields of :class:`SAMViT` in place of those of the name, such as
            ``dict(output_hidden_states=True)``.
        peft_config: Fields of peft's ``LoraConfig`` in place of RSPrompter's (rank 16 on ``qkv``); None for
            no adapters. Keys are then peft's: ``vision_encoder.base_model.model.``.
        init_cfg: MMEngine's; ``Pretrained`` takes every format of SAM.
        **fields: The same as ``extra_config``.

    Attributes:
        out_channels: As of the encoder.
        out_strides: As of the encoder.
    """

    def __init__(
        self,
        hf_pretrain_name: str | None = None,
        extra_config: Fields | None = None,
        peft_config: Fields | None = None,
        init_cfg: Any = None,
        **fields: Any,
    ) -> None:
        super().__init__(init_cfg)
        arch, known = read_hf_name(hf_pretrain_name, "vision_config")
        encoder = self.build_encoder(arch, {**known, **(extra_config or {}), **fields})
        self.out_channels, self.out_strides = encoder.out_channels, encoder.out_strides
        self.vision_encoder: nn.Module = encoder
        self.has_adapters = peft_config is not None
        if peft_config is not None:
            encoder.init_scratch()
            self.vision_encoder = _with_adapters(encoder, peft_config)

    def build_encoder(self, arch: str, fields: dict[str, Any]) -> SAMViT:
        """Build the encoder.

        Args:
            arch: Size that gives the fields that are not set.
            fields: Of :class:`SAMViT`.
        """
        return SAMViT(arch, **fields)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...] | HiddenStates:
        """Encode ``image (N, bands, H, W)``, see :class:`SAMViT`."""
        return self.vision_encoder(image)

    def encoder(self) -> SAMViT:
        """Return the encoder, also from inside its adapters."""
        return next(module for module in self.vision_encoder.modules() if isinstance(module, SAMViT))

    def init_weights(self) -> None:
        """Initialise the encoder and load its checkpoint; adapters keep their own initialisation."""
        if not self.has_adapters:  # else the constructor did, before there were any
            self.encoder().init_scratch()
        for step in split_init_cfg(self.init_cfg)[1]:
            self.load_report = load_checkpoint(self, step["checkpoint"], step.get("prefix") or "")

    def translate_checkpoint(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a SAM checkpoint of any format under the names of this module, adapters included."""
        encoder = self.encoder().translate_checkpoint(state)
        names = {_plain(key): key for key in self.state_dict()}
        return {names.get(f"vision_encoder.{key}", key): value for key, value in encoder.items()}

    def fit_checkpoint(self, key: str, value: torch.Tensor) -> torch.Tensor | None:
        """Resample the tables of the encoder, see :meth:`SAMViT.fit_checkpoint`.

        Args:
            key: Name of the entry.
            value: Its tensor.
        """
        return self.encoder().fit_checkpoint(_plain(key).removeprefix("vision_encoder."), value)


def _plain(name: str) -> str:
    """Return the name that a weight has without adapters."""
    return name.replace("vision_encoder.base_model.model.", "vision_encoder.").replace(".base_layer.", ".")


def _with_adapters(encoder: SAMViT, options: Fields) -> nn.Module:
    try:
        from peft import get_peft_config, get_peft_model
    except ImportError as error:
        raise ConfigError(
            "peft_config needs peft, which is not installed", fix="pip install 'rsfoundation[peft]'"
        ) from error
    return get_peft_model(encoder, get_peft_config({**_LORA_DEFAULTS, **options}))


class _FFN(nn.Module):
    """mmcv's FFN under its names: ``layers.0.0`` and ``layers.1``."""

    def __init__(
        self, channels: int, hidden: int, activation: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.Linear(channels, hidden)), nn.Linear(hidden, channels))
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.layers
        return second(self.activation(first(x)))


class _ViTSAMBlock(nn.Module):
    """:class:`SAMBlock` under mmpretrain's names."""

    def __init__(
        self, channels: int, hidden: int, hidden_act: str, eps: float, attention: SAMAttention
    ) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(channels, eps=eps)
        self.attn = attention
        self.ln2 = nn.LayerNorm(channels, eps=eps)
        self.ffn = _FFN(channels, hidden, getattr(F, hidden_act))
        self.hidden = hidden

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln1(x))
        return add_in_chunks(x, lambda chunk: self.ffn(self.ln2(chunk)), self.hidden)


class _ChannelReduction(nn.Sequential):
    """:class:`SAMNeck` under mmpretrain's names."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, out_channels, 1, bias=False),
            LN2d(out_channels, eps=1e-6),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            LN2d(out_channels, eps=1e-6),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 3, 1, 2))


class ViTSAM(SAMViT):
    """:class:`SAMViT` under the names of mmpretrain's encoder of the same name."""

    block_type = _ViTSAMBlock
    neck_type = _ChannelReduction
    neck_name = "channel_reduction"

    def translate_checkpoint(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a SAM checkpoint of any format under mmpretrain's names."""
        return {to_mmpretrain(key): value for key, value in super().translate_checkpoint(state).items()}


@MODELS.register_module()
class MMPretrainSamVisionEncoder(RSSamVisionEncoder):
    """SAM's image encoder under the names of mmpretrain's ``ViTSAM``; returns one map in a tuple.

    Args:
        hf_pretrain_name: Gives the size, see :func:`read_hf_name`.
        img_size: Image size in pixels; tables of a checkpoint are resampled to it.
        peft_config: See :class:`RSSamVisionEncoder`.
        init_cfg: MMEngine's; ``Pretrained`` takes every format of SAM.
        **fields: Fields of :class:`SAMViT`.
    """

    def __init__(
        self,
        hf_pretrain_name: str | None = None,
        img_size: int | tuple[int, int] = 1024,
        peft_config: Fields | None = None,
        init_cfg: Any = None,
        **fields: Any,
    ) -> None:
        super().__init__(
            hf_pretrain_name, peft_config=peft_config, init_cfg=init_cfg, img_size=img_size, **fields
        )

    def build_encoder(self, arch: str, fields: dict[str, Any]) -> SAMViT:
        """Build the encoder.

        Args:
            arch: Size that gives the fields that are not set.
            fields: Of :class:`SAMViT`.
        """
        return ViTSAM(arch, **fields)
