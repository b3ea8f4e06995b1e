"""Data preprocessors for images and pairs of any number of bands: colour order, normalisation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models import DetDataPreprocessor as MMDetDataPreprocessor
from mmseg.models import SegDataPreProcessor as MMSegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import MODELS


class AnyBands:
    """Mixin before a preprocessor of mmengine's family, which takes means of one or three bands only.

    Bands change places only where there are three.

    Args:
        mean: Mean of each band, in the model's order.
        std: Standard deviation likewise.
        **kwargs: As for the preprocessor.

    Raises:
        ConfigError: Only one of ``mean`` and ``std`` is given, or they differ in length.
    """

    _channel_conversion: bool

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(mean or ()) != len(std or ()):
            raise ConfigError(
                f"mean has {len(mean or ())} values and std {len(std or ())}; both need one for each band",
                where="model.data_preprocessor",
                fix="`rsf info data CONFIG --split train` prints both",
            )
        if mean is not None and std is not None:
            self._enable_normalize = True
            for name, values in (("mean", mean), ("std", std)):
                self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)  # type: ignore[attr-defined]

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Preprocess a batch.

        Args:
            data: ``inputs`` of ``(C, H, W)`` each, and data samples.
            training: Whether to augment batches and pad labels.

        Raises:
            ConfigError: The images have another number of bands than ``mean``.
        """
        bands = data["inputs"][0].shape[-3]
        expected = self.mean.shape[0] if self._enable_normalize else 1  # type: ignore[attr-defined]
        if expected not in (1, bands):
            raise ConfigError(
                f"the images come with {bands} bands, and the model's mean and std have {expected}",
                where="model.data_preprocessor",
                fix=f"choose {expected} bands, image_loading=dict(bands=(...)); or give mean, std and the "
                f"backbone's in_channels for {bands}",
            )
        swaps = self._channel_conversion
        self._channel_conversion = swaps and bands == 3  # others keep three bands of more
        try:
            return super().forward(data, training)  # type: ignore[misc]
        finally:
            self._channel_conversion = swaps


@MODELS.register_module()
class SegDataPreProcessor(AnyBands, MMSegDataPreProcessor):
    """mmseg's preprocessor for images of any number of bands."""


@MODELS.register_module()
class DetDataPreprocessor(AnyBands, MMDetDataPreprocessor):
    """mmdet's preprocessor for images of any number of bands."""


_SECOND_LABELS = ("gt_sem_seg_from", "gt_sem_seg_to")


@MODELS.register_module()
class DualInputSegDataPreProcessor(AnyBands, MMSegDataPreProcessor):
    """mmseg's preprocessor for pairs ``(2C, H, W)``; ``mean`` and ``std`` name every channel of both dates.

    Colours are swapped within each date, and only where a date has three channels. In training images
    are padded after normalisation, at test only with ``test_cfg``. Test batches may hold several
    pairs when all have one size.

    Args:
        mean: Mean of each channel of both dates, in the model's colour order.
        std: Standard deviation likewise.
        **kwargs: As for mmseg's ``SegDataPreProcessor``.

    Raises:
        ConfigError: Only one of ``mean`` and ``std`` is given, or they differ in length.
    """

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Return ``inputs`` ``(B, 2C, H, W)`` and the data samples, on the model's device.

        Args:
            data: ``inputs``, a list of pairs ``(2C, H, W)``, and ``data_samples``.
            training: Whether labels are padded too.
        """
        if self._channel_conversion:
            data = {**data, "inputs": [_swap_colours(pair) for pair in data["inputs"]]}
        packed = super().forward(data, training)
        if training:
            for sample in packed["data_samples"]:
                _pad_second_labels(sample, self.seg_pad_val)
        return packed


def _swap_colours(pair: Tensor) -> Tensor:
    """Reverse the colour order of both dates of a six-channel pair ``(6, H, W)``."""
    return pair[[2, 1, 0, 5, 4, 3]] if pair.size(0) == 6 else pair


def _pad_second_labels(sample: SegDataSample, value: int) -> None:
    """Pad the semantic labels of both dates as mmseg padded the change label."""
    for field in _SECOND_LABELS:
        if field in sample:
            padded = F.pad(sample.get(field).data, sample.padding_size, value=value)
            sample.get(field).set_field(padded, "data")
