"""Plain encoders, which have one resolution from the first block to the last, and a pyramid on top."""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.utils import to_2tuple
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.base import BaseNetwork
from rsfoundation.registry import MODELS

Grid = tuple[int, int]
_PYRAMID_SCALES = (4, 2, 1, 0.5)
EMBEDDED = -1  # index of the tokens before the first block


class EncoderOutput(NamedTuple):
    """Result of :meth:`PlainEncoder.encode`.

    Attributes:
        maps: ``(N, C, h, w)`` for each index of ``out_indices``, in block order.
        tokens: ``(N, L, C)`` after the last block, class token included where there is one.
        position: Position table at the token grid of this image, ``(1, L, C)``; None without one.
    """

    maps: tuple[torch.Tensor, ...]
    tokens: torch.Tensor
    position: torch.Tensor | None


class PlainEncoder(BaseNetwork):
    """A stack of equal blocks on one grid of patch tokens, with a learned position table.

    Subclasses build ``patch_embed``, ``layers`` and ``pos_embed`` (or set it to None), and implement
    :meth:`embed`, :meth:`run_layer` and :meth:`to_map`. The base class resamples position tables when the
    token grid is not the native one, both for an image of another size and for a checkpoint of another size,
    and logs it; at the native size nothing changes.

    Args:
        width: Channels of the tokens.
        depth: Number of blocks.
        img_size: Native image size in pixels, a number or (height, width).
        patch_size: Pixels per token side.
        out_indices: Blocks whose output is returned, from 0; negative from the end.
        frozen_stages: Number of blocks to freeze, from the first one on; subclasses say what comes with them.
        with_cp: Recompute blocks in the backward pass instead of keeping their activations.
        interpolate_mode: Interpolation of position tables, of :func:`torch.nn.functional.interpolate`.
        init_cfg: See :class:`rsfoundation.models.backbones.base.BaseNetwork`.

    Attributes:
        grid: Native token grid, (rows, columns).
        out_channels: Channels of each returned map.
        out_strides: Pixels per cell of each returned map.

    Raises:
        ConfigError: ``out_indices`` or ``frozen_stages`` do not fit the number of blocks.
    """

    unit = "blocks"
    layers: nn.ModuleList
    pos_embed: nn.Parameter | None

    def __init__(
        self,
        width: int,
        depth: int,
        img_size: int | tuple[int, int],
        patch_size: int,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        with_cp: bool,
        interpolate_mode: str,
        init_cfg: Any,
    ) -> None:
        indices = self._absolute(out_indices, depth)
        strides = (patch_size,) * depth
        super().__init__((width,) * depth, indices, frozen_stages, False, with_cp, init_cfg, strides)
        self.patch_size, self.interpolate_mode = patch_size, interpolate_mode
        self.grid = self.token_grid(to_2tuple(img_size))

    @classmethod
    def _absolute(cls, indices: int | Sequence[int], depth: int) -> list[int]:
        """Return block indices counted from the start."""
        given = [indices] if isinstance(indices, int) else list(indices)
        if not given or any(not -depth <= index < depth for index in given):
            raise ConfigError(f"out_indices {given} do not fit {depth} blocks", where=cls.__name__)
        return [index % depth for index in given]

    @abstractmethod
    def embed(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens of ``image (N, bands, H, W)`` with positions added, and the positions."""

    @abstractmethod
    def run_layer(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Run one block.

        Args:
            index: Number of the block, from 0.
            tokens: In the layout that :meth:`embed` returns.
        """

    @abstractmethod
    def to_map(self, tokens: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Return the patch tokens as a map ``(N, C, rows, columns)``.

        Args:
            tokens: In the layout that :meth:`embed` returns.
            grid: Rows and columns of the tokens.
        """

    def frozen_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that ``frozen_stages`` covers and that belong to no frozen module."""
        return []

    def freeze(self) -> None:
        """Turn off gradients of the frozen modules and parameters; subclasses call it once built."""
        super().freeze()
        for parameter in self.frozen_parameters():
            parameter.requires_grad_(False)

    def token_grid(self, size: Sequence[int]) -> Grid:
        """Return rows and columns of tokens of an image of ``size`` (height, width), padded at its end."""
        rows, columns = (-(-side // self.patch_size) for side in size)
        return rows, columns

    def run_layers(
        self, image: torch.Tensor, indices: Collection[int]
    ) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        """Encode an image and keep the outputs of some blocks.

        Args:
            image: ``(N, bands, H, W)``.
            indices: Blocks to keep, from 0; ``EMBEDDED`` for the input of the first one.

        Returns:
            Tokens by block index, in block order and always with the last block, and the positions.
        """
        tokens, position = self.embed(image)
        kept = {EMBEDDED: tokens} if EMBEDDED in indices else {}
        last = len(self.layers) - 1
        for index in range(len(self.layers)):
            tokens = self.run_block(self.run_layer, index, tokens)
            if index in indices or index == last:
                kept[index] = tokens
        return kept, position

    def encode(self, image: torch.Tensor) -> EncoderOutput:
        """Return maps, tokens and positions of ``image (N, bands, H, W)``, whatever ``forward`` returns."""
        states, position = self.run_layers(image, self.out_indices)
        grid = self.token_grid(image.shape[2:])
        maps = tuple(self.to_map(states[index], grid) for index in self.out_indices)
        tokens = states[len(self.layers) - 1]
        return EncoderOutput(maps, tokens.flatten(1, -2), position)

    def positions(self, grid: Grid) -> torch.Tensor | None:
        """Return the position table at a token grid, ``(1, L, C)``; None without a table."""
        if self.pos_embed is None:
            return None
        if grid != self.grid:
            log_resize(type(self).__name__, "position table", self.grid, grid, "image")
        return self.resample(self.pos_embed.flatten(1, -2), self.grid, grid)

    def resample(self, table: torch.Tensor, source: Grid, target: Grid) -> torch.Tensor:
        """Resample a position table ``(1, L, C)``; subclasses may keep the entries of class tokens.

        Args:
            table: Row-major over the grid ``source``.
            source: Rows and columns that the table was made for.
            target: Rows and columns that are wanted.
        """
        return resample_table(table, source, target, self.interpolate_mode)

    def fit_checkpoint(self, key: str, value: torch.Tensor) -> torch.Tensor | None:
        """Return an entry of a checkpoint of another image size, resampled; None if that is not possible.

        Args:
            key: Name of the entry, without prefixes.
            value: Its tensor, of another shape than this network's.
        """
        if key != "pos_embed" or self.pos_embed is None or value.shape[-1] != self.pos_embed.shape[-1]:
            return None
        extra = self.pos_embed.flatten(1, -2).shape[1] - math.prod(self.grid)
        flat = value.flatten(1, -2)
        side = math.isqrt(max(flat.shape[1] - extra, 0))
        source = (value.shape[1], value.shape[2]) if value.dim() == 4 else (side, side)
        if math.prod(source) + extra != flat.shape[1]:
            return None
        log_resize(type(self).__name__, "position table", source, self.grid, "checkpoint")
        return self.resample(flat, source, self.grid).reshape(self.pos_embed.shape)

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Resample tables of a checkpoint of another image size, then load."""
        for key, own in self.state_dict().items():
            value = state_dict.get(prefix + key)
            if value is not None and value.shape != own.shape:
                fitted = self.fit_checkpoint(key, value)
                state_dict[prefix + key] = value if fitted is None else fitted
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


@MODELS.register_module()
class PlainPyramid(BaseModule):
    """A plain encoder followed by mmseg's ``Feature2Pyramid``, in place of a pyramid backbone.

    The finest map is enlarged four times by two transposed convolutions, the next twice by one, the third
    stays, the last is halved by max-pooling: strides 4, 8, 16, 32 of an encoder of stride 16 (the simple
    pyramid of ViTDet, arXiv 2203.16527, on maps of several depths as BEiT uses them for UPerNet).

    Args:
        encoder: Config of a plain encoder with four ``out_indices``, or one that then serves for all four
            strides; or of any backbone that returns so many maps of equal channels and stride.
        norm_cfg: Norm between the two transposed convolutions, as MMCV reads it.
        init_cfg: MMEngine's; that of the encoder goes into its own config.

    Attributes:
        out_channels: Channels of each map.
        out_strides: Input pixels per pixel of each map.

    Raises:
        ConfigError: The encoder's maps are neither one nor four, or differ in channels or stride.
    """

    def __init__(
        self, encoder: Mapping[str, Any], norm_cfg: Mapping[str, Any] | None = None, init_cfg: Any = None
    ) -> None:
        super().__init__(init_cfg)
        self.encoder = MODELS.build(dict(encoder))
        channels, strides = set(self.encoder.out_channels), set(self.encoder.out_strides)
        self.repeats = len(_PYRAMID_SCALES) // len(self.encoder.out_channels)
        if len(channels) != 1 or len(strides) != 1 or len(self.encoder.out_channels) not in (1, 4):
            raise ConfigError(
                f"a pyramid grows from one or four maps of one size, not of channels "
                f"{tuple(self.encoder.out_channels)} at strides {tuple(self.encoder.out_strides)}",
                where=f"PlainPyramid on {type(self.encoder).__name__}",
                fix="set the encoder's out_indices; a backbone with strides 4 to 32 needs no PlainPyramid",
            )
        width, stride = channels.pop(), strides.pop()
        self.out_channels = (width,) * len(_PYRAMID_SCALES)
        self.out_strides = tuple(int(stride / rescale) for rescale in _PYRAMID_SCALES)
        neck = dict(type="mmseg.Feature2Pyramid", embed_dim=width, rescales=list(_PYRAMID_SCALES))
        self.pyramid = MODELS.build({**neck, "norm_cfg": dict(norm_cfg or dict(type="BN"))})

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the four maps ``(N, C, h_i, w_i)`` of an image batch ``(N, bands, H, W)``, finest first."""
        maps = self.encoder.encode(x).maps if isinstance(self.encoder, PlainEncoder) else self.encoder(x)
        return self.pyramid(maps * self.repeats)


def resample_table(table: torch.Tensor, source: Grid, target: Grid, mode: str = "bicubic") -> torch.Tensor:
    """Resample a table of learned positions to another token grid.

    Args:
        table: ``(1, h * w, C)``, row-major over the grid ``source``.
        source: Height and width in tokens that the table was made for.
        target: Height and width in tokens that is wanted.
        mode: Interpolation of :func:`torch.nn.functional.interpolate`.

    Returns:
        ``(1, h' * w', C)``; the table itself when the grids are equal.
    """
    if source == target:
        return table
    image = table.transpose(1, 2).reshape(1, -1, *source)
    return F.interpolate(image.float(), size=target, mode=mode).flatten(2).transpose(1, 2).to(table.dtype)


@functools.lru_cache(maxsize=64)
def log_resize(owner: str, table: str, source: Grid, target: Grid, reason: str) -> None:
    """Log once per pair of sizes that a table is resampled.

    Args:
        owner: Name of the network.
        table: Name of the table.
        source: Its size.
        target: Its new size.
        reason: ``image`` or ``checkpoint``.
    """
    print_log(
        f"{owner}: {table} of {source} tokens resampled to {target} for this {reason}", logger="current"
    )
