"""Batches of pairs: colour order, normalisation, padding."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch import Tensor

from rsfoundation.models.preprocessors import AnyBands
from rsfoundation.registry import MODELS

_SECOND_LABELS = ("gt_sem_seg_from", "gt_sem_seg_to")


@MODELS.register_module()
class DualInputSegDataPreProcessor(AnyBands, SegDataPreProcessor):
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
