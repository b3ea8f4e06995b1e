"""Segmenting each image flipped, turned and at several scales, and averaging what was found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel
from torch import Tensor
from torch.nn.functional import interpolate

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.registry import MODELS

_FLIPS: dict[str | None, tuple[int, ...]] = {
    None: (),
    "horizontal": (3,),
    "vertical": (2,),
    "diagonal": (2, 3),
}
_AVERAGES = ("probabilities", "logits")
_RESIZES = ("bilinear", "bicubic")
_TURN = 90
_SIDE = 32  # resized images have sides of whole multiples, as every backbone takes them
_TINY = 1e-12
_ONLY = ""  # name of the map of a segmentor that returns one map without a name


@MODELS.register_module()
class SegmentationTTA(BaseTTAModel):
    """A segmentor, of one date or two, that sees each image in several views.

    The maps of all views are brought back onto the pixels of the image and averaged.

    Args:
        module: The segmentor.
        scales: Factors of the image size.
        flips: ``None``, ``horizontal``, ``vertical`` or ``diagonal`` (both).
        rotations: Degrees: 0, 90, 180, 270.
        average: ``probabilities`` or ``logits``.
        resize: How images and maps are resized: ``bilinear`` (smoothed where an image gets smaller), or
            ``bicubic`` without smoothing, as UNetFormer's published numbers are measured.
        data_preprocessor: Replaces the segmentor's own.

    Raises:
        ConfigError: A view or the average is unknown.
    """

    def __init__(
        self,
        module: Any,
        scales: Sequence[float] = (1.0,),
        flips: Sequence[str | None] = (None, "horizontal"),
        rotations: Sequence[int] = (0,),
        average: str = "probabilities",
        resize: str = "bilinear",
        data_preprocessor: Any = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        check_choice("average", average, _AVERAGES, "tta")
        check_choice("resize", resize, _RESIZES, "tta")
        unknown = [str(flip) for flip in flips if flip not in _FLIPS]
        unknown += [f"{angle} degrees" for angle in rotations if angle % _TURN]
        unknown += [f"scale {scale}" for scale in scales if scale <= 0]
        if unknown:
            raise ConfigError(
                f"there is no view '{unknown[0]}'",
                where="tta",
                fix="flips are None, 'horizontal', 'vertical', 'diagonal'; rotations 0, 90, 180, 270",
            )
        self.views = tuple(product(scales, flips, rotations))
        self.average, self.resize = average, resize

    def merge_preds(self, data_samples_list: Any) -> Any:
        """Not used: views are averaged before they become samples."""
        raise NotImplementedError("SegmentationTTA averages maps, not samples")

    def test_step(self, data: Any) -> list:
        """Return one sample per image, as the segmentor does for one view."""
        data = self.module.data_preprocessor(data, False)
        inputs, samples = data["inputs"], data.get("data_samples")
        total: dict[str, Tensor] = {}
        for view in self.views:
            found = self._look(inputs, view)
            for key, logits in (found if isinstance(found, dict) else {_ONLY: found}).items():
                values = self._undo(self._values(logits), view, inputs.shape[2:])
                total[key] = total[key] + values if key in total else values
        merged = {key: self._logits(values / len(self.views)) for key, values in total.items()}
        return self.module.postprocess_result(merged.get(_ONLY, merged), samples)

    def _look(self, inputs: Tensor, view: tuple[float, str | None, int]) -> Any:
        scale, flip, angle = view
        x = inputs
        if scale != 1.0:
            size = [max(_SIDE, round(side * scale / _SIDE) * _SIDE) for side in x.shape[2:]]
            smooth = scale < 1.0 and self.resize == "bilinear"
            x = interpolate(x, size=size, mode=self.resize, align_corners=False, antialias=smooth)
        if _FLIPS[flip]:
            x = x.flip(_FLIPS[flip])
        if angle:
            x = torch.rot90(x, angle // _TURN, (2, 3))
        shape = tuple(x.shape[2:])
        meta = dict(ori_shape=shape, img_shape=shape, pad_shape=shape, padding_size=[0, 0, 0, 0])
        return self.module.inference(x.contiguous(), [meta] * len(x))

    def _undo(self, maps: Tensor, view: tuple[float, str | None, int], size: Sequence[int]) -> Tensor:
        _, flip, angle = view
        if angle:
            maps = torch.rot90(maps, -(angle // _TURN), (2, 3))
        if _FLIPS[flip]:
            maps = maps.flip(_FLIPS[flip])
        if tuple(maps.shape[2:]) != tuple(size):
            maps = interpolate(maps, size=tuple(size), mode=self.resize, align_corners=False)
        return maps

    def _values(self, logits: Tensor) -> Tensor:
        if self.average == "logits":
            return logits
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)

    def _logits(self, values: Tensor) -> Tensor:
        """Return logits that the segmentor's own post-processing turns into the averaged values."""
        if self.average == "logits":
            return values
        if values.shape[1] == 1:
            return torch.logit(values, eps=_TINY)
        return values.clamp_min(_TINY).log()


def check_adapters_merged(cfg: Config, adapters_merged: bool) -> None:
    """Refuse a config whose model has adapters next to its weights.

    Args:
        cfg: The config.
        adapters_merged: They are merged into the weights before the model is wrapped.

    Raises:
        ConfigError: The model has adapters that are not merged.
    """
    if cfg.get("lora") and not adapters_merged:
        raise ConfigError(
            "test-time augmentation wraps whole models, and this one has adapters next to its weights",
            where=cfg.filename,
            fix="merge them first: `rsf convert merge-lora`",
        )


def use_segmentation_tta(cfg: Config, *, adapters_merged: bool) -> None:
    """Change a config so that it predicts several views of each image.

    The config may choose them: ``tta = dict(scales=(0.75, 1.0, 1.25), flips=(None, 'horizontal'),
    rotations=(0, 90), average='probabilities')``.

    Args:
        cfg: The config, changed in place.
        adapters_merged: LoRA adapters are merged into the weights before the model is wrapped.

    Raises:
        ConfigError: The model has adapters that are not merged.
    """
    check_adapters_merged(cfg, adapters_merged)
    cfg.tta_model = dict(type="rsfoundation.SegmentationTTA", **(cfg.get("tta") or {}))
    cfg.use_tta = True
