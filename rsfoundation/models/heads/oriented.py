"""RoI extractors, the oriented RPN, Strip R-CNN's box head and S2ANet's aligned convolution."""

from collections.abc import Sequence
from typing import Any

import mmrotate.models.dense_heads as mmrotate_heads
import torch
from mmcv.ops import batched_nms
from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor as UpstreamExtractor
from mmengine.config import ConfigDict
from mmengine.model import BaseModule, ModuleList
from mmengine.structures import InstanceData
from mmrotate.models.layers import AlignConv
from mmrotate.models.roi_heads import RotatedSingleRoIExtractor as UpstreamRotatedExtractor
from mmrotate.structures.bbox import RotatedBoxes, rbox2hbox
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.backbones.gated_conv import StripGate
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


@MODELS.register_module()
class OrientedRPNHead(mmrotate_heads.OrientedRPNHead):
    """``mmrotate.OrientedRPNHead`` with equal proposals in a tenth of the time.

    Upstream indexes instances that hold boxes of a box type, which mmengine does one box at a time:
    thousands of slices per image. Here the plain tensors are indexed.
    """

    def _bbox_post_process(
        self,
        results: InstanceData,
        cfg: ConfigDict,
        rescale: bool = False,
        with_nms: bool = True,
        img_meta: dict | None = None,
    ) -> InstanceData:
        """Keep the proposals that an NMS of their upright rectangles leaves, level by level.

        Args:
            results: Candidates of one image: ``bboxes`` (RotatedBoxes), ``scores``, ``level_ids``.
            cfg: ``nms``, ``max_per_img``, ``min_bbox_size``.
            rescale: Proposals in pixels of the image file: left to upstream.
            with_nms: Always true for an RPN.
            img_meta: Of the image; for ``rescale`` only.

        Returns:
            ``bboxes`` (RotatedBoxes), ``scores``, ``labels`` (zeros), best first.
        """
        if rescale:
            return super()._bbox_post_process(results, cfg, rescale, with_nms, img_meta)
        rboxes = results.bboxes.tensor.reshape(-1, 5)
        scores, levels = results.scores, results.level_ids
        if cfg.get("min_bbox_size", -1) >= 0:
            large = (rboxes[:, 2:4] > cfg.min_bbox_size).all(dim=1)
            rboxes, scores, levels = rboxes[large], scores[large], levels[large]
        ranked, keep = scores[:, None], torch.arange(len(scores), device=scores.device)
        if len(rboxes):  # mmcv's NMS does not take an empty set
            ranked, keep = batched_nms(rbox2hbox(rboxes), scores, levels, cfg.nms)
            keep = keep[: cfg.max_per_img]
        return InstanceData(
            bboxes=RotatedBoxes(rboxes[keep], clone=False),
            scores=ranked[: cfg.max_per_img, -1],
            labels=torch.zeros(len(keep), dtype=torch.long, device=keep.device),
        )


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
