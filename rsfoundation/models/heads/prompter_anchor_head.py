"""RSPrompter's anchor heads (arXiv 2306.16269): regions of interest become prompts for SAM's mask decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmcv.ops import roi_align
from mmdet.models.layers import SinePositionalEncoding
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import nn
from torch.nn import functional as F

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.prompt.features import (
    PromptFeatures,
    build_mask_decoder,
    content_size,
    interleaved_prompts,
    load_prompt_part,
    to_image_size,
)
from rsfoundation.registry import MODELS

Fields = Mapping[str, Any]
_MASKS_AT_ONCE = 16  # resized to the size of the image together


@MODELS.register_module()
class RSPrompterAnchorMaskHead(BaseModule):
    """Prompts from the features of each region, and the masks that SAM's decoder makes of them.

    Args:
        mask_decoder: Config of ``RSSamMaskDecoder``; the embedding of "no mask" comes from its checkpoint.
        in_channels: Channels C of features and embeddings.
        roi_feat_size: Side of the features of a region.
        per_pointset_point: Prompts K of each region.
        with_sincos: Add a sine to the prompts (RSPrompter; RS4D leaves it out).
        multimask_output: Must be False: one mask of each region is trained and predicted.
        class_agnostic: Must be True: SAM's decoder gives one mask whatever the class.
        num_classes: Accepted for configs of mmdet; the mask does not depend on it.
        within_boxes: Train and predict masks inside the boxes of their regions alone, as Mask R-CNN does. The
            published head compares whole images; a decoder from random weights then takes very long to find
            small objects.
        loss_mask: Config of the loss; cross entropy of mmdet with ``use_mask`` when None.
        init_cfg: MMEngine's.

    Raises:
        ConfigError: The decoder has another width than ``in_channels``, or an option has a value that the
            published head cannot train with.
    """

    def __init__(
        self,
        mask_decoder: Fields,
        in_channels: int = 256,
        roi_feat_size: int = 14,
        per_pointset_point: int = 5,
        with_sincos: bool = True,
        multimask_output: bool = False,
        class_agnostic: bool = True,
        num_classes: int | None = None,
        within_boxes: bool = False,
        loss_mask: Fields | None = None,
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        for name, value, wanted in (
            ("multimask_output", multimask_output, False),
            ("class_agnostic", class_agnostic, True),
        ):
            if value is not wanted:
                raise ConfigError(
                    f"{name} is {value}, and the head predicts one mask of each region, whatever its class",
                    where=f"RSPrompterAnchorMaskHead: {name}",
                    fix=f"{name}={wanted}",
                )
        self.per_pointset_point, self.with_sincos = per_pointset_point, with_sincos
        self.within_boxes = within_boxes
        self.mask_decoder, width = build_mask_decoder(mask_decoder)
        if width != in_channels:
            raise ConfigError(
                f"in_channels is {in_channels}, and the mask decoder has {width} channels",
                where="RSPrompterAnchorMaskHead: in_channels",
                fix=f"in_channels={width}",
            )
        self.no_mask_embed = nn.Embedding(1, width)
        side = (roi_feat_size + 1) // 2
        self.point_emb = nn.Sequential(
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(width * side * side, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width * per_pointset_point * (2 if with_sincos else 1)),
        )
        self.loss_mask = MODELS.build(
            dict(loss_mask or dict(type="mmdet.CrossEntropyLoss", use_mask=True, loss_weight=1.0))
        )

    def init_weights(self) -> None:
        """Initialise, and load the embedding of "no mask" from the checkpoint of the decoder."""
        super().init_weights()
        load_prompt_part(self.no_mask_embed, "no_mask_embed", self.mask_decoder)

    def freeze_decoder(self) -> None:
        """Freeze what comes from SAM: the mask decoder and the embedding of "no mask"."""
        self.mask_decoder.requires_grad_(False)
        self.no_mask_embed.requires_grad_(False)

    def forward(
        self,
        x: torch.Tensor,
        image_embeddings: torch.Tensor,
        image_positional_embeddings: torch.Tensor,
        roi_img_ids: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict the masks of regions.

        Args:
            x: Features of the regions, ``(n, C, r, r)``.
            image_embeddings: ``(N, C, h, w)``.
            image_positional_embeddings: ``(N, C, h, w)`` or ``(1, C, h, w)``.
            roi_img_ids: Number of the image of each region, ``(n,)``.

        Returns:
            Mask logits of the whole padded image ``(n, 1, 4 h, 4 w)``, and their estimated IoU ``(n, 1)``.
        """
        images = roi_img_ids.to(image_embeddings.device, torch.long)
        prompts = interleaved_prompts(self.point_emb(x), self.per_pointset_point, self.with_sincos)
        positions = image_positional_embeddings
        masks, iou = self.mask_decoder(
            image_embeddings[images],
            positions if len(positions) == 1 else positions[images],
            prompts[:, None],
            self.no_mask_embed.weight[:, :, None, None],
            multimask_output=False,
        )
        return masks[:, 0], iou[:, 0]

    def get_targets(
        self, sampling_results: Sequence[SamplingResult], batch_gt_instances: Sequence[InstanceData]
    ) -> torch.Tensor:
        """Return the true masks ``(n, H, W)`` of the regions, of the whole padded images.

        Args:
            sampling_results: Regions and the objects that they are assigned to, per image.
            batch_gt_instances: The objects of each image.

        Raises:
            ConfigError: The masks of the images have different sizes.
        """
        sizes = {(truth.masks.height, truth.masks.width) for truth in batch_gt_instances}
        if len(sizes) > 1:
            raise ConfigError(
                f"the masks of a batch have the sizes {sorted(sizes)}; expected those of the padded batch",
                where="data_preprocessor",
                fix="set pad_mask=True",
            )
        targets = []
        for result, truth in zip(sampling_results, batch_gt_instances, strict=True):
            assigned = result.pos_assigned_gt_inds.cpu().numpy()
            targets.append(truth.masks[assigned].to_tensor(torch.float32, result.pos_priors.device))
        return torch.cat(targets)

    def loss_and_target(
        self,
        mask_preds: torch.Tensor,
        sampling_results: Sequence[SamplingResult],
        batch_gt_instances: Sequence[InstanceData],
        rcnn_train_cfg: Any = None,
    ) -> dict[str, Any]:
        """Return the loss of mask logits, resized to the size of the true masks.

        Args:
            mask_preds: ``(n, 1, h, w)``.
            sampling_results: See :meth:`get_targets`.
            batch_gt_instances: See :meth:`get_targets`.
            rcnn_train_cfg: Not used: masks are compared whole, at the size of the image.
        """
        targets = self.get_targets(sampling_results, batch_gt_instances)
        if self.within_boxes:
            boxes = torch.cat([result.pos_priors for result in sampling_results])
            height, width = targets.shape[1:]
            logits = _inside_boxes(mask_preds.float(), boxes, (height, width))
            targets = (_inside_boxes(targets[:, None], boxes, (height, width))[:, 0] >= 0.5).float()
        else:
            logits = F.interpolate(
                mask_preds.float(), targets.shape[1:], mode="bilinear", align_corners=False
            )
        labels = targets.new_zeros(len(targets), dtype=torch.long)
        return dict(loss_mask=dict(loss_mask=self.loss_mask(logits, targets, labels)), mask_targets=targets)

    def predict_by_feat(
        self,
        mask_preds: Sequence[torch.Tensor],
        results_list: list[InstanceData],
        batch_img_metas: Sequence[Fields],
        rcnn_test_cfg: Any,
        rescale: bool = False,
        activate_map: bool = False,
    ) -> list[InstanceData]:
        """Give the objects of each image their masks; boxes go to pixels of the image file with ``rescale``.

        Args:
            mask_preds: Logits ``(n, 1, h, w)`` per image.
            results_list: The objects, with boxes of the network's input.
            batch_img_metas: Image info.
            rcnn_test_cfg: With ``mask_thr_binary``; below zero, masks are ``uint8`` scores of 0 to 255.
            rescale: Whether to return pixels of the image file.
            activate_map: Whether ``mask_preds`` are scores already.
        """
        threshold = rcnn_test_cfg["mask_thr_binary"]
        for found, logits, meta in zip(results_list, mask_preds, batch_img_metas, strict=True):
            if rescale:
                found.bboxes = found.bboxes / found.bboxes.new_tensor(meta["scale_factor"][:2]).repeat(2)
            chunks = [
                _binary(to_image_size(_scores(chunk, activate_map), meta, rescale), threshold)
                for chunk in logits[:, 0].split(_MASKS_AT_ONCE)
                if len(chunk)
            ]
            found.masks = torch.cat(chunks) if chunks else _no_masks(logits, meta, rescale, threshold)
            if self.within_boxes:
                _clear_outside(found.masks, found.bboxes)
        return results_list


def _inside_boxes(maps: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return 28 x 28 samples of maps ``(n, 1, h, w)`` of images of ``size``, each inside its own box."""
    scale = boxes.new_tensor([maps.shape[3] / size[1], maps.shape[2] / size[0]]).repeat(2)
    numbers = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)[:, None]
    return roi_align(maps, torch.cat([numbers, boxes * scale], dim=1), (28, 28), 1.0, 2, "avg", True)


def _clear_outside(masks: torch.Tensor, boxes: torch.Tensor) -> None:
    """Empty masks ``(n, H, W)`` outside their boxes, in place."""
    for mask, corners in zip(masks, boxes.tolist(), strict=True):
        left, top = (max(0, math.floor(value)) for value in corners[:2])
        right, bottom = (max(0, math.ceil(value)) for value in corners[2:])
        mask[:top], mask[bottom:], mask[:, :left], mask[:, right:] = 0, 0, 0, 0


def _scores(masks: torch.Tensor, are_scores: bool) -> torch.Tensor:
    return masks.float() if are_scores else masks.float().sigmoid()


def _binary(scores: torch.Tensor, threshold: float) -> torch.Tensor:
    return scores >= threshold if threshold >= 0 else (scores * 255).to(torch.uint8)


def _no_masks(logits: torch.Tensor, meta: Fields, rescale: bool, threshold: float) -> torch.Tensor:
    height, width = meta["ori_shape"][:2] if rescale else content_size(meta)
    return logits.new_zeros((0, height, width), dtype=torch.bool if threshold >= 0 else torch.uint8)


@MODELS.register_module()
class RSPrompterAnchorRoIPromptHead(StandardRoIHead):
    """Box branch as Mask R-CNN's, mask branch :class:`RSPrompterAnchorMaskHead`.

    It takes :class:`~rsfoundation.models.prompt.features.PromptFeatures`.

    Args:
        with_extra_pe: Add sine positions, computed at the finest level, to every level that it pools from.
        **kwargs: Of mmdet's ``StandardRoIHead``.

    Raises:
        ConfigError: There is no ``mask_roi_extractor``: regions need their image's number.
    """

    def __init__(self, with_extra_pe: bool = True, **kwargs: Any) -> None:
        if kwargs.get("mask_roi_extractor") is None:
            raise ConfigError(
                "the mask branch cannot share the RoI extractor of the box branch",
                where="roi_head.mask_roi_extractor",
                fix="give it an extractor of its own, with output_size=14",
            )
        super().__init__(**kwargs)
        channels = self.bbox_roi_extractor.out_channels
        self.extra_pe = SinePositionalEncoding(channels // 2, normalize=True) if with_extra_pe else None

    def loss(
        self, x: PromptFeatures, rpn_results_list: list[InstanceData], batch_data_samples: list[DetDataSample]
    ) -> dict[str, torch.Tensor]:
        """Return the losses of boxes and masks.

        Args:
            x: Levels and image embedding.
            rpn_results_list: Proposals of each image.
            batch_data_samples: The objects of each image.
        """
        return super().loss(self._positioned(x), rpn_results_list, batch_data_samples)

    def predict(
        self,
        x: PromptFeatures,
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Return boxes, scores, labels and masks of each image.

        Args:
            x: Levels and image embedding.
            rpn_results_list: Proposals of each image.
            batch_data_samples: With image info.
            rescale: Whether to return pixels of the image file.
        """
        return super().predict(self._positioned(x), rpn_results_list, batch_data_samples, rescale)

    def forward(
        self,
        x: PromptFeatures,
        rpn_results_list: list[InstanceData],
        batch_data_samples: list[DetDataSample] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return class scores, box deltas and mask logits of the proposals.

        Args:
            x: Levels and image embedding.
            rpn_results_list: Proposals of each image.
            batch_data_samples: Not used.
        """
        return super().forward(self._positioned(x), rpn_results_list, batch_data_samples)

    def _positioned(self, x: PromptFeatures) -> PromptFeatures:
        """Return the levels with sine positions added."""
        if self.extra_pe is None:
            return x
        finest = self.extra_pe(x[0].new_zeros((1, *x[0].shape[2:]), dtype=torch.bool)).to(x[0].dtype)
        levels = [
            level + F.interpolate(finest, level.shape[2:], mode="bilinear", align_corners=False)
            for level in x
        ]
        return PromptFeatures(levels, x.embedding, x.positions)

    def _mask_forward(
        self,
        x: PromptFeatures,
        rois: torch.Tensor | None = None,
        pos_inds: torch.Tensor | None = None,
        bbox_feats: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return mask logits of regions ``rois (n, 5)``, image number first; mmdet's base calls it."""
        assert rois is not None, "the constructor requires an extractor of the mask branch"
        features = self.mask_roi_extractor(x[: self.mask_roi_extractor.num_inputs], rois)
        logits, iou = self.mask_head(features, x.embedding, x.positions, rois[:, 0])
        return dict(mask_preds=logits, mask_feats=features, iou_preds=iou)

    def mask_loss(
        self,
        x: PromptFeatures,
        sampling_results: Sequence[SamplingResult],
        bbox_feats: torch.Tensor,
        batch_gt_instances: Sequence[InstanceData],
    ) -> dict[str, Any]:
        """Return the mask loss of the positive regions; zero, of every parameter, where there are none.

        Args:
            x: Levels and image embedding.
            sampling_results: Regions of each image.
            bbox_feats: Not used.
            batch_gt_instances: The objects of each image.
        """
        rois = bbox2roi([result.pos_priors for result in sampling_results])
        if len(rois) == 0:
            trained = [p.sum() for p in self.mask_head.parameters() if p.requires_grad]
            nothing = 0 * (x[0].sum() + sum(trained))
            return dict(loss_mask=dict(loss_mask=nothing))
        found = self._mask_forward(x, rois)
        loss = self.mask_head.loss_and_target(
            found["mask_preds"], sampling_results, batch_gt_instances, self.train_cfg
        )
        return {**found, "loss_mask": loss["loss_mask"]}

    def predict_mask(
        self,
        x: PromptFeatures,
        batch_img_metas: Sequence[Fields],
        results_list: list[InstanceData],
        rescale: bool = False,
    ) -> list[InstanceData]:
        """Give the detected boxes their masks.

        Args:
            x: Levels and image embedding.
            batch_img_metas: Image info.
            results_list: Boxes of the network's input, per image.
            rescale: Whether to return pixels of the image file.
        """
        rois = bbox2roi([found.bboxes for found in results_list])
        if len(rois) == 0:
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type="mask",
                instance_results=results_list,
                mask_thr_binary=self.test_cfg.mask_thr_binary,
            )
        masks = self._mask_forward(x, rois)["mask_preds"].split([len(found) for found in results_list])
        return self.mask_head.predict_by_feat(masks, results_list, batch_img_metas, self.test_cfg, rescale)
