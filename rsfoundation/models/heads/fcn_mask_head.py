"""Mask R-CNN's mask head for images that the test steps pad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead as _FCNMaskHead
from mmengine.structures import InstanceData

from rsfoundation.models.prompt.features import content_size
from rsfoundation.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(_FCNMaskHead):
    """mmdet's head, with boxes clipped to the image before their masks are pasted.

    Steps that pad an image count the padding as image, and a box in it is beyond the edge of the file, where
    mmdet 3.5 on a CPU stops with a ``RuntimeError`` about bounds.

    Arguments and weights are those of mmdet's.
    """

    def predict_by_feat(
        self,
        mask_preds: Sequence[torch.Tensor],
        results_list: list[InstanceData],
        batch_img_metas: Sequence[Mapping[str, Any]],
        *args: Any,
        **kwargs: Any,
    ) -> list[InstanceData]:
        """Return the results with ``masks``; boxes are clipped in place, and those outside have no pixels.

        Args:
            mask_preds: Logits of each image, ``(n, classes, h, w)``.
            results_list: Boxes ``(n, 4)`` and labels of each image.
            batch_img_metas: Image infos.
            *args: As for mmdet's.
            **kwargs: As for mmdet's.
        """
        for results, meta in zip(results_list, batch_img_metas, strict=True):
            if "ori_shape" in meta and "scale_factor" in meta:
                rows, columns = content_size({"batch_input_shape": meta["img_shape"][:2], **meta})
                results.bboxes[:, 0::2].clamp_(0, columns)
                results.bboxes[:, 1::2].clamp_(0, rows)
        done = super().predict_by_feat(mask_preds, results_list, batch_img_metas, *args, **kwargs)
        for results in done:
            outside = (results.bboxes[:, 2:] <= results.bboxes[:, :2]).any(1)
            if outside.any():
                results.masks[outside] = 0
        return done
