"""Extractors that keep regions in single precision where maps are of half."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as UpstreamExtractor
from torch import Tensor

from rsfoundation.registry import MODELS


class SinglePrecisionPooling:
    """Goes before an extractor of mmdet or mmrotate: those turn regions into the number format of the maps.

    In bfloat16 that moves a region by up to 2 pixels at 1000, in float16 by a quarter. Pooling itself
    computes in float32 anyway.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Pool as the extractor does; the result has the number format of the maps."""
        kind = feats[0].dtype
        wide = torch.promote_types(kind, torch.float32)
        pooled = super().forward([maps.to(wide) for maps in feats], rois, *args, **kwargs)  # type: ignore[misc]
        return pooled.to(kind)


@MODELS.register_module()
class SingleRoIExtractor(SinglePrecisionPooling, UpstreamExtractor):
    """``mmdet.SingleRoIExtractor`` for upright regions, safe under mixed precision."""
