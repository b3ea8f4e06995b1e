"""The image encoder of Segment Anything (arXiv 2304.02643): a plain ViT with windows and relative positions.

Keys and results are those of Hugging Face's ``SamVisionEncoder``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from mmengine.utils import to_2tuple
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.models.backbones.base import read_arch
from rsfoundation.models.encoders.base import EMBEDDED, EncoderOutput, Grid, PlainEncoder, log_resize
from rsfoundation.models.encoders.sam_attention import SAMAttention
from rsfoundation.models.layers import LN2d, add_in_chunks, init_truncated, linear
from rsfoundation.models.pretrained.sam_checkpoints import (
    ENCODER,
    check_encoder_size,
    sam_format,
    select_part,
)
from rsfoundation.registry import MODELS

ARCHS: Mapping[str, Mapping[str, Any]] = {
    "base": dict(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, global_attn_indexes=(2, 5, 8, 11)
    ),
    "large": dict(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, global_attn_indexes=(5, 11, 17, 23)
    ),
    "huge": dict(
        hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=(7, 15, 23, 31)
    ),
}
# Fields of every Hugging Face config that say nothing about the network.
GENERAL_FIELDS = frozenset(
    (
        "_name_or_path",
        "architectures",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "model_type",
        "num_pos_feats",
        "output_attentions",
        "problem_type",
        "return_dict",
        "scale",
        "tie_word_embeddings",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "use_bfloat16",
    )
)


class HiddenStates(NamedTuple):
    """Result of :class:`SAMViT` with ``output_hidden_states``.

    Attributes:
        last_hidden_state: The neck's map, ``(N, output_channels, h, w)``.
        hidden_states: The input of every block and the output of the last, ``(N, h, w, C)`` each.
    """

    last_hidden_state: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]


class SAMMLP(nn.Module):
    """Linear layer, activation, linear layer.

    Args:
        channels: Channels of the tokens.
        hidden: Channels between the layers.
        hidden_act: Name of a function of :mod:`torch.nn.functional`.
    """

    def __init__(self, channels: int, hidden: int, hidden_act: str) -> None:
        super().__init__()
        self.lin1 = nn.Linear(channels, hidden)
        self.lin2 = nn.Linear(hidden, channels)
        self.activation = getattr(F, hidden_act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens of the same shape."""
        return linear(self.lin2, self.activation(linear(self.lin1, x)))


class SAMBlock(nn.Module):
    """Attention and MLP, each after a layer norm and added to its input.

    Args:
        channels: Channels of the tokens.
        hidden: Hidden channels of the MLP.
        hidden_act: Activation of the MLP.
        eps: Of the norms.
        attention: The attention.
    """

    def __init__(
        self, channels: int, hidden: int, hidden_act: str, eps: float, attention: SAMAttention
    ) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = attention
        self.layer_norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = SAMMLP(channels, hidden, hidden_act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(N, h, w, C)`` of the same shape."""
        x = x + self.attn(self.layer_norm1(x))
        return add_in_chunks(x, lambda chunk: self.mlp(self.layer_norm2(chunk)), self.mlp.lin1.out_features)


class SAMNeck(nn.Module):
    """A 1x1 and a 3x3 convolution, each followed by a norm over the channels.

    Args:
        channels: Channels of the tokens.
        out_channels: Channels of the map.
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.layer_norm1 = LN2d(out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.layer_norm2 = LN2d(out_channels, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(N, out_channels, h, w)`` for tokens ``(N, h, w, C)``."""
        x = self.layer_norm1(self.conv1(x.permute(0, 3, 1, 2)))
        return self.layer_norm2(self.conv2(x))


class SAMPatchEmbed(nn.Module):
    """Patches by one strided convolution; an image is zero-padded at its end to whole patches.

    Args:
        bands: Bands of the image.
        channels: Channels of the tokens.
        patch: Side of a patch.
    """

    def __init__(self, bands: int, channels: int, patch: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(bands, channels, patch, patch)
        self.patch = patch

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return tokens ``(N, h, w, C)``."""
        padding = (0, -image.shape[3] % self.patch, 0, -image.shape[2] % self.patch)
        return self.projection(F.pad(image, padding)).permute(0, 2, 3, 1).contiguous()


@MODELS.register_module()
class SAMViT(PlainEncoder):
    """SAM's image encoder, built by size or from the fields of a Hugging Face ``SamVisionConfig``.

    ``forward`` returns the neck's map in a tuple; with ``output_hidden_states`` a :class:`HiddenStates`; with
    ``out_indices`` the maps of those blocks, without the neck. Images of another size than the native one
    are encoded with position tables resampled (see :class:`rsfoundation.models.encoders.base.PlainEncoder`)
    and relative tables resampled linearly, as Hugging Face's attention does.

    Args:
        arch: ``'base'``, ``'large'`` or ``'huge'``; gives the fields that are not set.
        hidden_size: Channels C of the tokens.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Heads of each block.
        global_attn_indexes: Blocks that attend to the whole map; the others attend within windows.
        mlp_dim: Hidden channels of the MLPs; ``mlp_ratio * hidden_size`` when None.
        mlp_ratio: See ``mlp_dim``.
        output_channels: Channels of the neck's map.
        num_channels: Bands of the image.
        image_size: Native image size in pixels, a number or (height, width).
        patch_size: Side of a patch in pixels.
        window_size: Side of the windows in tokens.
        qkv_bias: Whether queries, keys and values have a bias.
        use_abs_pos: Whether there is a position table.
        use_rel_pos: Whether there are relative positions.
        hidden_act: Activation of the MLPs, a name in :mod:`torch.nn.functional`.
        layer_norm_eps: Of the norms of the blocks.
        attention_dropout: Dropout of the attention scores in training.
        output_hidden_states: Return the tokens of every block too.
        out_indices: Blocks whose maps ``(N, C, h, w)`` are returned, negative from the end; None for the
            neck's map.
        frozen_stages: k > 0 freezes the embedding and the first k blocks (the neck too when k is the depth).
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        interpolate_mode: How the position table is resampled.
        in_channels: The same as ``num_channels``, as other backbones call it.
        img_size: The same as ``image_size``.
        init_cfg: MMEngine's, such as ``dict(type='Pretrained', checkpoint='sam_vit_b_01ec64.pth')``:
            checkpoints of Hugging Face, of the original repository and of mmpretrain load.
        **other: Fields of Hugging Face configs that say nothing about the network are ignored.

    Raises:
        ConfigError: Unknown ``arch`` or field, or sizes that do not fit each other.
    """

    block_type: ClassVar[type[nn.Module]] = SAMBlock
    neck_type: ClassVar[type[nn.Module]] = SAMNeck
    neck_name: ClassVar[str] = "neck"

    def __init__(
        self,
        arch: str = "base",
        hidden_size: int | None = None,
        num_hidden_layers: int | None = None,
        num_attention_heads: int | None = None,
        global_attn_indexes: Sequence[int] | None = None,
        mlp_dim: int | None = None,
        mlp_ratio: float = 4.0,
        output_channels: int = 256,
        num_channels: int = 3,
        image_size: int | Sequence[int] = 1024,
        patch_size: int | Sequence[int] = 16,
        window_size: int = 14,
        qkv_bias: bool = True,
        use_abs_pos: bool = True,
        use_rel_pos: bool = True,
        hidden_act: str = "gelu",
        layer_norm_eps: float = 1e-6,
        attention_dropout: float = 0.0,
        output_hidden_states: bool = False,
        out_indices: int | Sequence[int] | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        interpolate_mode: str = "bicubic",
        in_channels: int | None = None,
        img_size: int | Sequence[int] | None = None,
        init_cfg: Any = None,
        **other: Any,
    ) -> None:
        self._check_fields(other)
        sizes = read_arch("SAMViT", arch, ARCHS)
        width = hidden_size or sizes["hidden_size"]
        depth = num_hidden_layers or sizes["num_hidden_layers"]
        heads = num_attention_heads or sizes["num_attention_heads"]
        global_blocks = sizes["global_attn_indexes"] if global_attn_indexes is None else global_attn_indexes
        if width % heads:
            raise ConfigError(f"{heads} heads do not divide {width} channels", where="SAMViT")
        patch = to_2tuple(patch_size)[0]
        super().__init__(
            width,
            depth,
            to_2tuple(image_size if img_size is None else img_size),
            patch,
            -1 if out_indices is None else out_indices,
            frozen_stages,
            with_cp,
            interpolate_mode,
            init_cfg,
        )
        self.uses_neck, self.output_hidden_states = out_indices is None, output_hidden_states
        if self.uses_neck:
            self.out_channels = (output_channels,)
        self.patch_embed = SAMPatchEmbed(num_channels if in_channels is None else in_channels, width, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, *self.grid, width)) if use_abs_pos else None
        self.layers = nn.ModuleList()
        for index in range(depth):
            window = 0 if index in global_blocks else window_size
            size = (window, window) if window else self.grid
            attention = SAMAttention(width, heads, size, window, qkv_bias, use_rel_pos, attention_dropout)
            hidden = mlp_dim or int(mlp_ratio * width)
            self.layers.append(self.block_type(width, hidden, hidden_act, layer_norm_eps, attention))
        self.add_module(self.neck_name, self.neck_type(width, output_channels))
        self.run_neck.requires_grad_(self.uses_neck)
        self.freeze()

    @staticmethod
    def _check_fields(fields: Mapping[str, Any]) -> None:
        unknown = sorted(fields.keys() - GENERAL_FIELDS)
        if unknown:
            known = [name for name in SAMViT.__init__.__annotations__ if name not in ("return", "other")]
            raise ConfigError(
                f"SAMViT has no argument {unknown[0]!r}",
                where="SAMViT",
                fix=nearest(unknown[0], known) or f"its arguments: {', '.join(known)}",
            )

    @property
    def run_neck(self) -> nn.Module:
        """The neck: tokens ``(N, h, w, C)`` to a map ``(N, output_channels, h, w)``."""
        return self.get_submodule(self.neck_name)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...] | HiddenStates:
        """Encode ``image (N, bands, H, W)``; see the class."""
        last = len(self.layers) - 1
        wanted = range(EMBEDDED, last + 1) if self.output_hidden_states else self.out_indices
        states, _ = self.run_layers(image, wanted)
        if self.output_hidden_states:
            return HiddenStates(self.run_neck(states[last]), tuple(states.values()))
        if self.uses_neck:
            return (self.run_neck(states[last]),)
        grid = self.token_grid(image.shape[2:])
        return tuple(self.to_map(states[index], grid) for index in self.out_indices)

    def encode(self, image: torch.Tensor) -> EncoderOutput:
        """Return maps, tokens and positions of ``image (N, bands, H, W)``, whatever ``forward`` returns."""
        output = super().encode(image)
        if not self.uses_neck:
            return output
        tokens = output.tokens.unflatten(1, self.token_grid(image.shape[2:]))
        return output._replace(maps=(self.run_neck(tokens),))

    def embed(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens ``(N, h, w, C)`` of an image and the position table."""
        tokens = self.patch_embed(image)
        position = self.positions(self.token_grid(image.shape[2:]))
        return tokens if position is None else tokens + position.view(1, *tokens.shape[1:]), position

    def run_layer(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Run block ``index`` on tokens ``(N, h, w, C)``.

        Args:
            index: Number of the block, from 0.
            tokens: ``(N, h, w, C)``.
        """
        return self.layers[index](tokens)

    def to_map(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return tokens ``(N, h, w, C)`` as a map ``(N, C, h, w)``.

        Args:
            tokens: ``(N, h, w, C)``.
            grid: Rows and columns; not needed, since the tokens have them.
        """
        return tokens.permute(0, 3, 1, 2)

    def frozen_modules(self) -> Iterator[nn.Module]:
        """Return the embedding and the frozen blocks; the neck too with all blocks."""
        if self.frozen_stages > 0:
            yield self.patch_embed
            yield from self.layers[: self.frozen_stages]
        if self.frozen_stages == len(self.layers):
            yield self.run_neck

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the position table from one frozen block on."""
        return [self.pos_embed] if self.frozen_stages > 0 and self.pos_embed is not None else []

    def init_scratch(self) -> None:
        """Initialise linear layers and positions by a truncated normal of deviation 0.02, biases by zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init_truncated(module)
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def fit_checkpoint(self, key: str, value: torch.Tensor) -> torch.Tensor | None:
        """Resample the position table and the relative tables.

        Args:
            key: Name of the entry, without prefixes.
            value: Its tensor, of another shape than this network's.
        """
        if ".attn.rel_pos_" not in key:
            return super().fit_checkpoint(key, value)
        own = self.get_parameter(key)
        if value.shape[1:] != own.shape[1:]:
            return None
        log_resize("SAMViT", "relative table", (len(value), 1), (len(own), 1), "checkpoint")
        return F.interpolate(value.float().T[None], size=len(own), mode="linear")[0].T.to(value.dtype)

    def translate_checkpoint(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a SAM checkpoint of any format under the names of this encoder.

        Raises:
            CheckpointError: The checkpoint holds another size or another network.
        """
        encoder = select_part(state, ENCODER)
        width, depth = self.patch_embed.projection.out_channels, len(self.layers)
        check_encoder_size(encoder, width, depth, sam_format(state))
        return encoder
