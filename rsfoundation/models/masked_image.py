"""Pretraining on images without labels by masked image modelling: SimMIM and MAE."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.base import Backbone
from rsfoundation.models.classifiers import recognition_backbone
from rsfoundation.models.encoders.base import PlainEncoder
from rsfoundation.registry import MODELS

_CELL = 2  # side of the cells of which MAE shows one patch


class MaskedImageModel(BaseModel):
    """Hides parts of images and learns to paint them.

    Only the backbone is of use afterwards. Random numbers come from torch's CPU generator.

    Args:
        backbone: Config of the backbone; see :func:`rsfoundation.models.classifiers.recognition_backbone`.
        data_preprocessor: Config of the preprocessor.
        init_cfg: MMEngine's.
    """

    kind: type[nn.Module]
    other: str

    def __init__(
        self,
        backbone: Mapping[str, Any],
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(MODELS.build(dict(data_preprocessor)) if data_preprocessor else None, init_cfg)
        self.backbone = MODELS.build(recognition_backbone(backbone))
        if not isinstance(self.backbone, self.kind):
            raise ConfigError(
                f"{type(self).__name__} takes a {self.kind.__name__}, not a {type(self.backbone).__name__}",
                where="model.type",
                fix=f"model = dict(type='rsfoundation.{self.other}', ...)",
            )

    def reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hide parts of normalised images and paint them.

        Args:
            images: ``(N, bands, H, W)``.

        Returns:
            The images painted, ``(N, bands, H, W)``; hidden pixels, ``(N, 1, H, W)`` booleans; the loss.
        """
        raise NotImplementedError

    def extract_feat(self, inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the maps of the backbone for whole images ``(N, bands, H, W)``."""
        return self.backbone(inputs)

    def forward(
        self,
        inputs: torch.Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "tensor",
    ) -> Any:
        """Return the maps of whole images, the loss, or samples with ``painted`` and ``hidden``.

        Args:
            inputs: ``(N, bands, H, W)``.
            data_samples: One per image.
            mode: ``tensor``, ``loss`` or ``predict``.
        """
        if mode == "tensor":
            return self.extract_feat(inputs)
        painted, hidden, loss = self.reconstruct(inputs)
        if mode == "loss":
            return dict(loss=loss)
        samples = list(data_samples or (BaseDataElement() for _ in inputs))
        for sample, image, mask in zip(samples, painted, hidden, strict=True):
            sample.painted, sample.hidden, sample.reconstruction_loss = image, mask, loss
        return samples


@MODELS.register_module()
class SimMIM(MaskedImageModel):
    """SimMIM (arXiv 2111.09886) for any pyramid: hidden patches of the image become a learned colour.

    One linear layer paints the pixels from the last map, and the loss is the mean absolute error over hidden
    pixels. The colour takes the place of pixels, and not of embedded patches, which fits convolutions and
    windows alike.

    Args:
        backbone: Config of a pyramid backbone.
        mask_ratio: Share of the patches that are hidden.
        patch: Side of a patch in pixels; images are cropped to whole patches.
        data_preprocessor: Config of the preprocessor.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: The backbone is no pyramid, or the ratio hides nothing or everything.
    """

    kind = Backbone
    other = "MAE"

    def __init__(
        self,
        backbone: Mapping[str, Any],
        mask_ratio: float = 0.6,
        patch: int = 32,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, init_cfg)
        if not 0 < mask_ratio < 1:
            raise ConfigError(f"mask_ratio is {mask_ratio}", where="model.mask_ratio", fix="mask_ratio=0.6")
        self.mask_ratio, self.patch = mask_ratio, patch
        self.bands = bands_of_backbone(self.backbone)
        self.stride = self.backbone.out_strides[-1]
        self.mask_token = nn.Parameter(torch.zeros(1, self.bands, 1, 1))
        self.decoder = nn.Conv2d(self.backbone.out_channels[-1], self.stride**2 * self.bands, 1)

    def reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hide random patches and paint them; see :class:`MaskedImageModel`.

        Args:
            images: ``(N, bands, H, W)``; whole patches, and multiples of the last stride.

        Raises:
            ConfigError: The images have another size.
        """
        count, _, height, width = images.shape
        _check_divides(height, width, math.lcm(self.patch, self.stride), "patches")
        mask = random_mask(count, (height // self.patch, width // self.patch), self.mask_ratio)
        hidden = F.interpolate(mask[:, None].float(), scale_factor=self.patch).to(images.device)
        seen = images * (1 - hidden) + self.mask_token * hidden
        painted = F.pixel_shuffle(self.decoder(self.backbone(seen)[-1]), self.stride)
        error = (painted - images).abs() * hidden
        loss = error.sum() / (hidden.sum() * self.bands)
        return painted, hidden.bool(), loss


def _check_divides(height: int, width: int, unit: int, parts: str) -> None:
    if height % unit or width % unit:
        raise ConfigError(
            f"images of {height} x {width} do not divide into {parts} of {unit}",
            where="train_pipeline",
            fix=f"crop to a multiple of {unit}",
        )


def bands_of_backbone(backbone: nn.Module) -> int:
    """Return how many bands the first convolution of a network takes."""
    return next(module.in_channels for module in backbone.modules() if isinstance(module, nn.Conv2d))


def random_mask(count: int, grid: tuple[int, int], ratio: float) -> torch.Tensor:
    """Hide the same number of cells in every image.

    Args:
        count: Images.
        grid: Rows and columns of cells.
        ratio: Share of the cells that are hidden; at least one is, and at least one is not.

    Returns:
        ``(count, rows, columns)`` booleans, on the CPU.
    """
    cells = grid[0] * grid[1]
    hidden = min(max(1, round(cells * ratio)), max(1, cells - 1))
    order = torch.rand(count, cells).argsort(1).argsort(1)
    return (order < hidden).view(count, *grid)


@MODELS.register_module()
class MAE(MaskedImageModel):
    """Masked autoencoder (arXiv 2111.06377) for any plain encoder: it sees a quarter of the patches alone.

    Of each cell of 2 x 2 patches one is seen, drawn at random, so that the seen ones make a grid of half the
    side: encoders with windows, relative positions or an order of tokens run on it as on an image (uniform
    sampling, arXiv 2205.10063). A small decoder of transformer blocks paints the hidden patches; the loss is
    the mean squared error to their pixels, normalised within each patch.

    Args:
        backbone: Config of a plain encoder, or of a pyramid over one.
        decoder_width: Channels of the decoder.
        decoder_depth: Its blocks.
        decoder_heads: Heads of a block.
        norm_pixels: Normalise the pixels of each patch before they are compared.
        data_preprocessor: Config of the preprocessor.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: The backbone is no plain encoder, or has a class token.
    """

    kind = PlainEncoder
    other = "SimMIM"

    def __init__(
        self,
        backbone: Mapping[str, Any],
        decoder_width: int = 256,
        decoder_depth: int = 4,
        decoder_heads: int = 8,
        norm_pixels: bool = True,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, init_cfg)
        if getattr(self.backbone, "cls_token", None) is not None:
            raise ConfigError(
                "MAE arranges the seen patches in a grid, and a class token has no place there",
                where="model.backbone.cls_position",
                fix="cls_position='none'",
            )
        self.norm_pixels, self.patch = norm_pixels, self.backbone.patch_size
        self.bands = bands_of_backbone(self.backbone)
        encoded = self.backbone.out_channels[-1]
        self.narrow = nn.Linear(encoded, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                decoder_width,
                decoder_heads,
                4 * decoder_width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_width)
        self.paint = nn.Linear(decoder_width, self.patch**2 * self.bands)
        nn.init.normal_(self.mask_token, std=0.02)

    def reconstruct(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encode one patch of each cell and paint the others; see :class:`MaskedImageModel`.

        Args:
            images: ``(N, bands, H, W)``, an even number of whole patches a side.

        Raises:
            ConfigError: The images have another size.
        """
        count, _, height, width = images.shape
        _check_divides(height, width, _CELL * self.patch, "cells")
        grid = (height // self.patch, width // self.patch)
        seen = torch.randint(_CELL**2, (count, grid[0] // _CELL, grid[1] // _CELL)).to(images.device)
        tokens = compact(self.backbone.embed(images)[0], grid, seen)
        for index in range(len(self.backbone.layers)):
            tokens = self.backbone.run_block(self.backbone.run_layer, index, tokens)
        decoded = self._decode(tokens.flatten(1, -2), grid, seen)
        target = patches_of(images, self.patch)
        wanted = normalised(target) if self.norm_pixels else target
        hidden = hidden_cells(seen, grid)
        error = (decoded - wanted).square().mean(-1)
        loss = (error * hidden.flatten(1)).sum() / hidden.sum()
        painted = self._as_pixels(decoded.detach(), target)
        mask = F.interpolate(hidden[:, None].float(), scale_factor=self.patch).bool()
        return image_of(painted, grid, self.patch), mask, loss

    def _decode(self, encoded: torch.Tensor, grid: tuple[int, int], seen: torch.Tensor) -> torch.Tensor:
        """Return the pixels of every patch ``(N, L, patch * patch * bands)``."""
        narrow = self.narrow(encoded)
        tokens = self.mask_token.expand(len(encoded), grid[0] * grid[1], -1).to(narrow.dtype)
        places = seen_places(seen, grid)[..., None].expand(-1, -1, narrow.shape[-1])
        tokens = tokens.scatter(1, places, narrow)
        tokens = tokens + sine_positions(grid, narrow.shape[-1]).to(narrow)
        for block in self.decoder:
            tokens = block(tokens)
        return self.paint(self.decoder_norm(tokens))

    def _as_pixels(self, decoded: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Bring normalised patches back to the brightness and contrast of the true ones, to be looked at."""
        if not self.norm_pixels:
            return decoded
        mean, deviation = target.mean(-1, keepdim=True), target.var(-1, keepdim=True).add(1e-6).sqrt()
        return decoded * deviation + mean


def _cells(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Arrange ``(N, h, w, C)`` or ``(N, h * w, C)`` by cells: ``(N, h / 2, w / 2, 4, C)``."""
    full = tokens.reshape(len(tokens), grid[0] // _CELL, _CELL, grid[1] // _CELL, _CELL, tokens.shape[-1])
    return full.permute(0, 1, 3, 2, 4, 5).flatten(3, 4)


def compact(tokens: torch.Tensor, grid: tuple[int, int], seen: torch.Tensor) -> torch.Tensor:
    """Keep one token of each cell of 2 x 2.

    Args:
        tokens: ``(N, h, w, C)`` or ``(N, h * w, C)``; the result has the same form.
        grid: ``h`` and ``w``, even.
        seen: Which token of each cell, ``(N, h / 2, w / 2)`` in 0..3.
    """
    cells = _cells(tokens, grid)
    index = seen[..., None, None].expand(-1, -1, -1, 1, tokens.shape[-1])
    kept = cells.gather(3, index)[:, :, :, 0]
    return kept if tokens.ndim == 4 else kept.flatten(1, 2)


def seen_places(seen: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return the places ``(N, h * w / 4)`` in the row-major grid of the tokens that :func:`compact` keeps.

    Args:
        seen: Which token of each cell, ``(N, h / 2, w / 2)`` in 0..3.
        grid: ``h`` and ``w``.
    """
    places = torch.arange(grid[0] * grid[1], device=seen.device).view(1, *grid, 1)
    cells = _cells(places, grid)[..., 0].expand(len(seen), -1, -1, -1)
    return cells.gather(3, seen[..., None])[..., 0].flatten(1)


def hidden_cells(seen: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return which patches are hidden, ``(N, h, w)`` booleans.

    Args:
        seen: Which token of each cell, ``(N, h / 2, w / 2)`` in 0..3.
        grid: ``h`` and ``w``.
    """
    hidden = torch.ones(len(seen), grid[0] * grid[1], dtype=torch.bool, device=seen.device)
    return hidden.scatter(1, seen_places(seen, grid), False).view(-1, *grid)


def patches_of(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut images ``(N, bands, H, W)`` into patches ``(N, L, patch * patch * bands)``, row-major.

    Args:
        images: Whole patches a side.
        patch: Side of a patch.
    """
    return F.unfold(images, patch, stride=patch).transpose(1, 2)


def image_of(patches: torch.Tensor, grid: tuple[int, int], patch: int) -> torch.Tensor:
    """Put patches together again: the inverse of :func:`patches_of`.

    Args:
        patches: ``(N, L, patch * patch * bands)``.
        grid: Rows and columns of patches.
        patch: Side of a patch.
    """
    size = (grid[0] * patch, grid[1] * patch)
    return F.fold(patches.transpose(1, 2), size, patch, stride=patch)


def normalised(patches: torch.Tensor) -> torch.Tensor:
    """Return patches with mean 0 and variance 1 each."""
    mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def sine_positions(grid: tuple[int, int], width: int) -> torch.Tensor:
    """Return sine and cosine positions ``(1, h * w, width)``: one half for rows, one for columns.

    Args:
        grid: Rows and columns.
        width: Channels, a multiple of 4.
    """
    quarter = width // 4
    rates = 1 / 10000 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    axes = [torch.arange(side, dtype=torch.float64)[:, None] * rates for side in grid]
    rows, columns = (torch.cat([axis.sin(), axis.cos()], 1) for axis in axes)
    table = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)], dim=2)
    return table.reshape(1, grid[0] * grid[1], -1).float()
