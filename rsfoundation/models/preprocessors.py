"""Data preprocessors for images of any number of bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import DetDataPreprocessor as MMDetDataPreprocessor
from mmseg.models import SegDataPreProcessor as MMSegDataPreProcessor

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

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(mean or ()) != len(std or ()):
            raise ConfigError("mean and std must name the same channels", where="model.data_preprocessor")
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
        return super().forward(data, training)  # type: ignore[misc]


@MODELS.register_module()
class SegDataPreProcessor(AnyBands, MMSegDataPreProcessor):
    """mmseg's preprocessor for images of any number of bands."""


@MODELS.register_module()
class DetDataPreprocessor(AnyBands, MMDetDataPreprocessor):
    """mmdet's preprocessor for images of any number of bands."""

    _channel_conversion: bool

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Preprocess a batch; see :meth:`AnyBands.forward`. mmdet's own would keep three bands of more.

        Args:
            data: ``inputs`` of ``(C, H, W)`` each, and data samples.
            training: Whether to augment batches.
        """
        turned: bool = self._channel_conversion
        self._channel_conversion = turned and data["inputs"][0].shape[-3] == 3
        try:
            return super().forward(data, training)
        finally:
            self._channel_conversion = turned
