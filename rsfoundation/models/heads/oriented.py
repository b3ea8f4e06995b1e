"""RoI extractors, RPNs, Strip R-CNN's box head and S2ANet's aligned convolution."""

from collections.abc import Sequence
from typing import Any

import mmrotate.models.dense_heads as mmrotate_heads
import torch
from mmcv.ops import batched_nms
from mmdet.models.dense_heads import RPNHead as UpstreamRPNHead
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as UpstreamExtractor
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.structures.bbox import BaseBoxes, cat_boxes, get_box_tensor
from mmengine.config import ConfigDict
from mmengine.model import BaseModule, ModuleList
from mmengine.structures import InstanceData
from mmrotate.models.layers import AlignConv
from mmrotate.models.roi_heads import RotatedSingleRoIExtractor as UpstreamRotatedExtractor
from mmrotate.structures.bbox import rbox2hbox
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.gated_conv import StripGate
from rsfoundation.models.task_modules import kept
from rsfoundation.registry import MODELS


class SinglePrecisionPooling:
    """Mixin before an extractor of mmdet or mmrotate: those convert regions to the dtype of the maps.

    In bfloat16 that moves a region by up to 2 pixels at 1000, in float16 by a quarter. Pooling itself
    computes in float32 anyway.
    """

    def forward(self, feats: Sequence[Tensor], rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Pool as the extractor does; the result has the dtype of the maps.

        Args:
            feats: One map per level.
            rois: Regions in image pixels, image index first.
            *args: Of the extractor.
            **kwargs: Of the extractor.
        """
        kind = feats[0].dtype
        wide = torch.promote_types(kind, torch.float32)
        pooled = super().forward([maps.to(wide) for maps in feats], rois, *args, **kwargs)  # type: ignore[misc]
        return pooled.to(kind)


@MODELS.register_module()
class SingleRoIExtractor(SinglePrecisionPooling, UpstreamExtractor):
    """``mmdet.SingleRoIExtractor`` for upright regions, safe under mixed precision."""


@MODELS.register_module()
class RotatedSingleRoIExtractor(SinglePrecisionPooling, UpstreamRotatedExtractor):
    """``mmrotate.RotatedSingleRoIExtractor``, safe under mixed precision."""


@MODELS.register_module()
class EnlargingRoIExtractor(RotatedSingleRoIExtractor):
    """``RotatedSingleRoIExtractor`` over regions with a margin.

    The level a region is read from follows its own size, not that with the margin.

    Args:
        enlarge: Factors on width and height; RSP's detectors use (1.4, 1.2).
        **kwargs: Those of the extractor.
    """

    def __init__(self, enlarge: tuple[float, float] = (1.4, 1.2), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.enlarge = enlarge

    def forward(
        self, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: tuple[float, float] | None = None
    ) -> Tensor:
        """Pool ``(N, C, H, W)`` from maps for regions ``(N, 6)``: image index, cx, cy, w, h, theta.

        Args:
            feats: One map per level.
            rois: In image pixels.
            roi_scale_factor: Factors on height and width in addition to the margin, as upstream.
        """
        more_height, more_width = roi_scale_factor or (1.0, 1.0)
        width, height = self.enlarge
        factors = (height * more_height, width * more_width)
        if len(feats) == 1:  # upstream scales only where it chooses a level
            return super().forward(feats, self.roi_rescale(rois, factors))
        return super().forward(feats, rois, factors)


class FastRPN:
    """Mixin before an RPN of mmdet or mmrotate: losses of the anchors that were drawn, and equal proposals.

    Upstream computes targets and losses of all anchors, level by level, and multiplies those that were not
    drawn by zero: all but 512 of 524 000 for two images of 1024 pixels. Draws are the same here, losses equal
    up to the order of their sums. Upstream also indexes instances that hold boxes of a box type, which
    mmengine does one box at a time: thousands of slices per image. Here plain tensors are indexed. A GPU is
    waited for a few times an image, not several hundred times.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._inside: dict[tuple[Any, ...], tuple[BaseBoxes | Tensor, Tensor]] = {}

    def loss_by_feat(
        self,
        cls_scores: Sequence[Tensor],
        bbox_preds: Sequence[Tensor],
        batch_gt_instances: Sequence[InstanceData],
        batch_img_metas: Sequence[dict[str, Any]],
        batch_gt_instances_ignore: Sequence[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_rpn_cls`` and ``loss_rpn_bbox``.

        Args:
            cls_scores: ``(N, anchors * values, H, W)`` per level.
            bbox_preds: ``(N, anchors * numbers, H, W)`` per level.
            batch_gt_instances: ``bboxes`` and ``labels`` of each image.
            batch_img_metas: ``img_shape`` and ``pad_shape`` of each image.
            batch_gt_instances_ignore: ``bboxes`` of each image that are neither object nor background.

        Raises:
            ConfigError: No anchor is inside of an image.
        """
        head: Any = self
        sizes = [tuple(scores.shape[-2:]) for scores in cls_scores]
        scores = _in_rows(cls_scores, head.cls_out_channels)
        deltas = _in_rows(bbox_preds, head.bbox_coder.encode_size)
        anchors = len(scores) // len(batch_img_metas)
        drawn, positive, negative = [], [], []
        ignored = batch_gt_instances_ignore or [None] * len(batch_img_metas)
        for image, (objects, ignore, meta) in enumerate(
            zip(batch_gt_instances, ignored, batch_img_metas, strict=True)
        ):
            priors, rows = self._anchors_inside(sizes, meta, scores.device)
            instances = InstanceData(priors=priors)
            sample = head.sampler.sample(head.assigner.assign(instances, objects, ignore), instances, objects)
            drawn.append(sample)
            positive.append(rows[sample.pos_inds] + image * anchors)
            negative.append(rows[sample.neg_inds] + image * anchors)
        head._raw_positive_infos.update(sampling_results=drawn)  # which some RoI heads ask for
        objects, background = torch.cat(positive), torch.cat(negative)
        classes = [sample.pos_gt_labels for sample in drawn]
        labels = torch.cat([*classes, torch.full_like(background, head.num_classes)])
        weights = torch.ones(len(labels), device=labels.device)
        if head.train_cfg["pos_weight"] > 0:
            weights[: len(objects)] = head.train_cfg["pos_weight"]
        count = sum(sample.avg_factor for sample in drawn)
        chosen = scores.index_select(0, torch.cat([objects, background]))
        loss_cls = head.loss_cls(chosen, labels, weights, avg_factor=count)
        found = deltas.index_select(0, objects)
        if not len(found):
            return {"loss_rpn_cls": loss_cls, "loss_rpn_bbox": found.sum() * 0}
        priors = cat_boxes([sample.pos_priors for sample in drawn])
        wanted = cat_boxes([sample.pos_gt_bboxes for sample in drawn])
        if head.reg_decoded_bbox:
            found, wanted = (get_box_tensor(one) for one in (head.bbox_coder.decode(priors, found), wanted))
        else:
            wanted = head.bbox_coder.encode(priors, wanted)
        return {"loss_rpn_cls": loss_cls, "loss_rpn_bbox": head.loss_bbox(found, wanted, avg_factor=count)}

    def _anchors_inside(
        self, sizes: Sequence[tuple[int, ...]], meta: dict[str, Any], device: torch.device
    ) -> tuple[BaseBoxes | Tensor, Tensor]:
        """Return the anchors inside of an image and their numbers among all; kept for the next batches."""
        head: Any = self
        height, width = meta["img_shape"][:2]
        pad = tuple(meta["pad_shape"][:2])

        def make() -> tuple[BaseBoxes | Tensor, Tensor]:
            priors = cat_boxes(head.prior_generator.grid_priors(sizes, device=device))
            valid = torch.cat(head.prior_generator.valid_flags(sizes, pad, device))
            border = head.train_cfg["allowed_border"]
            rows = anchor_inside_flags(priors, valid, (height, width), border).nonzero()[:, 0]
            if not len(rows):
                raise ConfigError(
                    f"no anchor is inside of an image of {width} x {height} pixels",
                    where="rpn_head.anchor_generator",
                    fix="use larger images or smaller scales, or set train_cfg.rpn.allowed_border=-1",
                )
            return priors[rows], rows

        return kept(self._inside, (*sizes, pad, height, width, str(device)), make)

    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigDict,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Keep the proposals that an NMS leaves, of the upright rectangles of rotated ones, level by level.

        Args:
            results: Candidates of one image: ``bboxes`` of 4 or 5 numbers, ``scores``, ``level_ids``.
            cfg: ``nms``, ``max_per_img``, ``min_bbox_size``.
            rescale: Proposals in pixels of the image file: left to upstream.
            with_nms: Always true for an RPN.
            img_meta: Of the image; for ``rescale`` only.

        Returns:
            ``bboxes`` of the same kind, ``scores``, ``labels`` (zeros), best first.
        """
        if rescale:
            return super()._bbox_post_process(results, cfg, rescale, with_nms, img_meta)  # type: ignore[misc]
        boxes = get_box_tensor(results.bboxes)
        scores, levels = results.scores, results.level_ids
        if cfg.get("min_bbox_size", -1) >= 0:
            sizes = boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:] - boxes[:, :2]
            large = (sizes > cfg.min_bbox_size).all(dim=1).nonzero()[:, 0]
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        ranked, keep = scores[:, None], torch.arange(len(scores), device=scores.device)
        if len(boxes):  # mmcv's NMS does not take an empty set
            upright = rbox2hbox(boxes) if boxes.shape[1] == 5 else boxes
            ranked, keep = batched_nms(upright, scores, levels, cfg.nms)
            keep = keep[: cfg.max_per_img]
        best = boxes[keep]
        typed = isinstance(results.bboxes, BaseBoxes)
        return InstanceData(
            bboxes=type(results.bboxes)(best, clone=False) if typed else best,
            scores=ranked[: cfg.max_per_img, -1],
            labels=torch.zeros(len(keep), dtype=torch.long, device=keep.device),
        )


def _in_rows(levels: Sequence[Tensor], values: int) -> Tensor:
    """Return maps ``(N, anchors * values, H, W)`` as rows ``(N * all anchors, values)``, image by image."""
    rows = [one.permute(0, 2, 3, 1).reshape(len(one), -1, values) for one in levels]
    return torch.cat(rows, 1).flatten(0, 1)


@MODELS.register_module()
class RPNHead(FastRPN, UpstreamRPNHead):
    """``mmdet.RPNHead`` with the losses and proposals of :class:`FastRPN`."""


@MODELS.register_module()
class OrientedRPNHead(FastRPN, mmrotate_heads.OrientedRPNHead):
    """``mmrotate.OrientedRPNHead`` with the losses and proposals of :class:`FastRPN`."""


@MODELS.register_module()
class StripHead(ConvFCBBoxHead):
    """Three branches that share nothing: class, box without angle, angle.

    Class and angle come from two fully connected layers each. Centre and size keep the map: a 3 x 3
    convolution, then kernels along rows and columns multiplied onto it.

    Args:
        fc_out_channels: Width of the fully connected layers.
        **kwargs: Those of ``mmdet.BBoxHead``. One box for all classes (``reg_class_agnostic``).

    Raises:
        ConfigError: ``reg_class_agnostic`` is not set, or the coder does not encode five numbers.
    """

    def __init__(self, fc_out_channels: int = 1024, **kwargs: Any) -> None:
        super().__init__(
            num_cls_fcs=2,
            num_reg_convs=1,
            fc_out_channels=fc_out_channels,
            conv_out_channels=kwargs.get("in_channels", 256),
            **kwargs,
        )
        if not self.reg_class_agnostic or self.bbox_coder.encode_size != 5:
            raise ConfigError(
                "StripHead predicts one box of five numbers for all classes",
                where="roi_head.bbox_head",
                fix="set reg_class_agnostic=True and a coder such as DeltaXYWHTRBBoxCoder",
            )
        self.strip = StripGate(self.conv_out_channels)
        _, self.angle_fcs, width = self._add_conv_fc_branch(0, 2, self.in_channels)
        self.fc_reg = nn.Linear(self.reg_last_dim, 4)
        self.fc_angle = nn.Linear(width, 1)
        if kwargs.get("init_cfg") is None:
            self.init_cfg += [
                dict(type="Normal", std=0.001, override=dict(name="fc_angle")),
                dict(type="Xavier", distribution="uniform", override=[dict(name="angle_fcs")]),
            ]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores ``(N, classes + 1)`` and deltas ``(N, 5)`` of pooled maps ``(N, C, H, W)``."""
        flat = x.flatten(1)
        classes, angle = flat, flat
        for layer in self.cls_fcs:
            classes = layer(classes).relu()
        for layer in self.angle_fcs:
            angle = layer(angle).relu()
        for conv in self.reg_convs:
            x = conv(x)
        box = self.fc_reg(self.strip(x).flatten(1))
        return self.fc_cls(classes), torch.cat([box, self.fc_angle(angle)], dim=1)


@MODELS.register_module()
class PerLevelAlignConv(BaseModule):
    """``mmrotate.AlignConv`` as mmrotate 0.x has it: weights ``ac.<level>.deform_conv`` per level.

    mmrotate 1.x shares one set among all levels, so weights of 0.x cannot be loaded there.

    Args:
        feat_channels: Channels of every level, in and out.
        kernel_size: Side of the kernel, odd.
        strides: Stride of each level in pixels.
        deform_groups: Groups of the deformable convolution.
    """

    def __init__(
        self, feat_channels: int, kernel_size: int, strides: Sequence[int], deform_groups: int = 1
    ) -> None:
        super().__init__()
        self.ac = ModuleList(
            [AlignConv(feat_channels, kernel_size, [stride], deform_groups) for stride in strides]
        )

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Sample each map at the positions of the boxes found so far.

        Args:
            maps: ``(N, C, H, W)`` per level.
            boxes: Per image, per level ``(H * W, 5)`` boxes in image pixels, row by row.

        Returns:
            ``(N, C, H, W)`` per level.
        """
        return [
            align([level], [[image[index]] for image in boxes])[0]
            for index, (align, level) in enumerate(zip(self.ac, maps, strict=True))
        ]
