"""The packed form of a pair: channels of both dates in one tensor, labels in a data sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from rsfoundation.change.pairwise import Results
from rsfoundation.registry import TRANSFORMS

_LABELS = {
    "gt_seg_map": "gt_sem_seg",
    "gt_edge_map": "gt_edge_map",
    "gt_seg_map_from": "gt_sem_seg_from",
    "gt_seg_map_to": "gt_sem_seg_to",
}
_META_KEYS = (
    "img_path",
    "seg_map_path",
    "seg_map_path_from",
    "seg_map_path_to",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


@TRANSFORMS.register_module()
class MultiImgPackSegInputs(BaseTransform):
    """Pack a pair as ``inputs`` ``(2C, H, W)`` (first date first) and a ``SegDataSample``.

    Args:
        meta_keys: Keys of the results dict kept as metainfo, where present.
    """

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: Results) -> dict[str, Any]:
        """Pack the pair; labels become int64 ``(1, H, W)``."""
        packed: dict[str, Any] = {}
        if "img" in results:
            stacked = np.concatenate([np.atleast_3d(image) for image in results["img"]], axis=2)
            packed["inputs"] = torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1)))
        sample = SegDataSample()
        for key, field in _LABELS.items():
            if key in results:
                label = torch.from_numpy(results[key].astype(np.int64))[None]
                sample.set_data({field: PixelData(data=label)})
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        packed["data_samples"] = sample
        return packed
