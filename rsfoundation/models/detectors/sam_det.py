"""SAM-det: boxes of a detector are the prompts of a frozen SAM (RSPrompter, arXiv 2306.16269)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData

from rsfoundation.models.prompt.features import to_image_size
from rsfoundation.registry import MODELS

Fields = Mapping[str, Any]
_PROMPTS_AT_ONCE = 32


@MODELS.register_module()
class SAMDet(BaseDetector):
    """A detector that is trained, and a SAM that is not and turns its boxes into masks.

    Args:
        detector: Config of the detector, without a preprocessor.
        segmentor: Config of ``RSSamModel``.
        test_cfg: ``oracle_on=True`` prompts with the true boxes in place of the detected ones, which measures
            SAM alone. (The published code does so whenever the key is absent; this class does not.)
        train_cfg: Not used; the detector has its own.
        data_preprocessor: Config of the preprocessor of both.
        init_cfg: MMEngine's.
    """

    def __init__(
        self,
        detector: Fields,
        segmentor: Fields,
        test_cfg: Fields | None = None,
        train_cfg: Fields | None = None,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.detector = MODELS.build(dict(detector))
        self.segmentor = MODELS.build(dict(segmentor))
        self.segmentor.requires_grad_(False)
        self.oracle_on = bool((test_cfg or {}).get("oracle_on", False))

    def train(self, mode: bool = True) -> SAMDet:
        """Set the training mode; SAM stays in evaluation mode."""
        super().train(mode)
        self.segmentor.eval()
        return self

    def extract_feat(self, batch_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the detector's levels of ``batch_inputs (N, 3, H, W)``."""
        return self.detector.extract_feat(batch_inputs)

    def loss(self, batch_inputs: torch.Tensor, batch_data_samples: list[DetDataSample]) -> Any:
        """Return the losses of the detector.

        Args:
            batch_inputs: ``(N, 3, H, W)``.
            batch_data_samples: The objects of each image.
        """
        return self.detector.loss(batch_inputs, batch_data_samples)

    def _forward(self, batch_inputs: torch.Tensor, batch_data_samples: Any = None) -> Any:
        """Return the raw outputs of the detector; mmdet's base calls it."""
        return self.detector._forward(batch_inputs, batch_data_samples)

    def predict(
        self, batch_inputs: torch.Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Return samples with boxes, scores, labels and masks.

        Args:
            batch_inputs: ``(N, 3, H, W)``.
            batch_data_samples: With image info.
            rescale: Whether to return pixels of the image file.
        """
        samples = self.detector.predict(batch_inputs, batch_data_samples, rescale=rescale)
        for image, sample in zip(batch_inputs, samples, strict=True):
            if self.oracle_on:
                sample.pred_instances = _true_boxes(sample, rescale)
            found = sample.pred_instances
            found.masks = self._masks(image, get_box_tensor(found.bboxes), sample.metainfo, rescale)
        return samples

    def _masks(self, image: torch.Tensor, boxes: torch.Tensor, meta: Fields, rescale: bool) -> torch.Tensor:
        """Return one mask per box, bool ``(n, H, W)``."""
        if len(boxes) == 0:
            height, width = (meta["ori_shape"] if rescale else meta["img_shape"])[:2]
            return boxes.new_zeros((0, height, width), dtype=torch.bool)
        if rescale:
            boxes = boxes * boxes.new_tensor(meta["scale_factor"][:2]).repeat(2)
        sam = self.segmentor.sam_model
        embedding = sam.embed_image(image[None])
        masks = []
        for chunk in boxes.split(_PROMPTS_AT_ONCE):
            logits = sam(
                input_boxes=chunk[None],
                image_embeddings=embedding,
                image_size=tuple(image.shape[1:]),
                multimask_output=False,
            ).pred_masks[0, :, 0]
            masks.append(to_image_size(logits, meta, rescale) > 0)
        return torch.cat(masks)


def _true_boxes(sample: DetDataSample, rescale: bool) -> InstanceData:
    """Return the true boxes as predictions with a score of 1, in pixels of the file with ``rescale``."""
    truth = sample.gt_instances
    boxes = get_box_tensor(truth.bboxes)
    if rescale:
        boxes = boxes / boxes.new_tensor(sample.metainfo["scale_factor"][:2]).repeat(2)
    return InstanceData(bboxes=boxes, labels=truth.labels, scores=boxes.new_ones(len(boxes)))
