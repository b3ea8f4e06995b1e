"""Detectors as graphs: raw detections, before suppression, in shapes that depend on no value.

Proposals are suppressed inside the graph (ONNX has upright suppression), and so are the boxes of models with
masks. Suppression of rotated boxes is no operator of ONNX: it is the caller's last step, ``suppress``, which
docs/export.md shows in numpy. Heads decode by their own code; only what selects by value is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import ConfigDict
from mmrotate.structures.bbox import RotatedBoxes, rbox2hbox
from torch import Tensor, nn
from torchvision.ops import nms

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.oriented import EnlargingRoIExtractor
from rsfoundation.ops.roi_align import RoiGrid
from rsfoundation.ops.rotated_roi_align import pool_levels

_COMPARED = 200  # raw detections that a comparison takes at least
_NO_OVERLAP, _ALL = 1.1, 1 << 20  # an overlap that no two boxes have; more detections than there are
_BOX_TOLERANCE, _SCORE_TOLERANCE = 0.05, 1e-3  # pixels; of 1
_SELECTION = "filter_scores_and_topk"  # of mmdet: drops candidates by score
_ADAPTIVE_SAMPLES = 0


@dataclass(frozen=True)
class Agreement:
    """How the detections of a file agree with those of the model.

    Attributes:
        detections: Of the model, before suppression; after it for models with masks.
        matched: Share of them that the file has, too: same class, corners within 0.05 pixels, score within
            0.001; or of the file's that the model has, if that is less.
        box_difference: Largest distance of a corner along x or y among the matched, in pixels.
        score_difference: Largest difference of a score among the matched.
        mask_pixels: Share of equal pixels of their masks; 1 for models without.
    """

    detections: int
    matched: float
    box_difference: float
    score_difference: float
    mask_pixels: float = 1.0


def is_detector(model: nn.Module) -> bool:
    """Return whether a model gives boxes that :class:`RawDetections` can describe."""
    return any(hasattr(model, name) for name in ("roi_head", "bbox_head", "bbox_head_init"))


class RawDetections(nn.Module):
    """A detector: images in, detections before suppression out.

    Outputs are ``boxes`` (n, 5) of cx, cy, w, h, theta or (n, 4) of x1, y1, x2, y2 in pixels, ``scores`` (n,)
    and ``labels`` (n,); a row is one box of one class.

    Args:
        model: A detector of mmdet or mmrotate: one stage, with refinements, or with regions of interest.

    Raises:
        ConfigError: A part of the detector that no graph can have.
    """

    output_names: tuple[str, ...] = ("boxes", "scores", "labels")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        roi_head: Any = getattr(model, "roi_head", None)
        if roi_head is not None and type(roi_head) not in (StandardRoIHead, CascadeRoIHead):
            raise _unsupported("roi_head", roi_head, "it is neither StandardRoIHead nor CascadeRoIHead")
        self.stages = _stages(roi_head) if roi_head is not None else []
        self.masks = bool(getattr(roi_head, "with_mask", False))
        if self.masks and (len(self.stages) > 1 or getattr(roi_head, "share_roi_extractor", False)):
            raise _unsupported("roi_head", roi_head, "masks are exported of one stage with its own extractor")
        config: Any = model.test_cfg
        self.settings: ConfigDict = config.rcnn if roi_head is not None else config
        nms_type = self.settings.nms.get("type")
        if nms_type not in ("nms", "nms_rotated"):
            raise ConfigError(
                f"suppression of type '{nms_type}' is not exported",
                where="model.test_cfg",
                fix="use nms or nms_rotated, or export the backbone alone: --part backbone",
            )
        if self.masks:
            self.output_names = ("boxes", "scores", "labels", "masks")

    def metadata(self) -> dict[str, Any]:
        """Return what the step after the graph needs to know."""
        upright = self.settings.nms.type == "nms"
        return {
            "boxes": "x1 y1 x2 y2" if upright else "cx cy w h theta (radians, clockwise)",
            "suppressed": self.masks,
            "score_threshold": float(self.settings.score_thr),
            "iou_threshold": float(self.settings.nms.iou_threshold),
            "max_per_image": int(self.settings.max_per_img),
        } | ({"mask_threshold": float(self.settings.mask_thr_binary)} if self.masks else {})

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the raw detections of one normalised image ``(1, C, H, W)``."""
        maps = self.model.extract_feat(images)  # type: ignore[operator]
        size = (images.shape[2], images.shape[3])
        if self.stages:
            boxes, scores = self._regions(maps, size)
            classes = scores.shape[1]
            boxes = boxes.expand(-1, classes, -1).reshape(-1, boxes.shape[-1])
            labels = torch.arange(classes).expand(len(scores), -1).reshape(-1)
            found = boxes, scores.reshape(-1), labels
            return self._with_masks(maps, *found) if self.masks else found
        return self._dense(maps, size)

    def compare(self, images: Tensor, found: Sequence[Tensor]) -> Agreement:
        """Compare a file's detections with those of the model's own prediction.

        Both are taken before suppression: an overlap at its threshold may be rounded to either side, and
        one box more or less changes what others suppress. The threshold of the scores is that of the model
        or, where that leaves few, the one that 200 raw detections pass. Detections with masks are
        suppressed in the graph and compared afterwards.

        Args:
            images: The normalised image ``(1, C, H, W)``.
            found: The file's outputs for it.
        """
        settings = self.metadata()
        limit = settings["score_threshold"]
        if self.masks:
            expected = self._own_prediction(images)
            rows = get_box_tensor(expected.bboxes), expected.scores, expected.labels
            return _agreement(rows, found, limit, (expected.masks, found[3], settings["mask_threshold"]))
        if len(found[1]) > _COMPARED:
            limit = min(limit, float(found[1].topk(_COMPARED).values[-1]))
        with _without_suppression(self.model, limit - _SCORE_TOLERANCE):
            expected = self._own_prediction(images)
        return _agreement((get_box_tensor(expected.bboxes), expected.scores, expected.labels), found, limit)

    def _own_prediction(self, images: Tensor) -> Any:
        from mmdet.structures import DetDataSample

        size = tuple(images.shape[2:])
        meta = dict(
            img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0)
        )
        samples = [DetDataSample(metainfo=meta)]
        return self.model.predict(images, samples, rescale=True)[0].pred_instances  # type: ignore[operator]

    def _dense(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """One stage, or one with refinements: candidates of every level, decoded by the head."""
        model: Any = self.model
        extra: dict[str, Any] = {}
        if hasattr(model, "bbox_head_init"):
            head = model.bbox_head_init
            outputs = head(maps)
            boxes = head.filter_bboxes(*outputs)
            for index, head in enumerate(model.bbox_head_refine):
                outputs = head(head.feature_refine(maps, boxes))
                if index + 1 < len(model.bbox_head_refine):
                    boxes = head.refine_bboxes(*outputs, boxes)
            extra["rois"] = boxes
        else:
            head = model.bbox_head
            outputs = head(maps)
        settings = ConfigDict({**self.settings, "min_bbox_size": -1})
        with _selecting_by_rank(head):
            (found,) = head.predict_by_feat(
                *outputs,
                **extra,
                batch_img_metas=[dict(img_shape=size)],
                cfg=settings,
                rescale=False,
                with_nms=False,
            )
        boxes, scores = get_box_tensor(found.bboxes), found.scores
        if self.settings.get("min_bbox_size", -1) >= 0:
            scores = scores * (_sides(boxes) > self.settings.min_bbox_size).all(1)
        return boxes, scores, found.labels

    def _regions(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Proposals through every stage: boxes ``(n, 1 or classes, 5 or 4)``, scores ``(n, classes)``."""
        boxes, valid = _proposals(self.model.rpn_head, maps, size)
        total: Tensor | None = None
        for number, (extractor, head) in enumerate(self.stages):
            pooled = _pool(extractor, maps, _with_image_index(boxes))
            logits, deltas = head(pooled)
            total = logits if total is None else total + logits
            if number + 1 < len(self.stages):
                best = logits[:, :-1].argmax(1)
                boxes = get_box_tensor(head.regress_by_class(boxes, best, deltas, dict(img_shape=size)))
        assert total is not None
        scores = (total / len(self.stages)).softmax(-1)[:, :-1] * valid[:, None]
        each = 1 if head.reg_class_agnostic else head.num_classes
        starts = boxes[:, None].expand(-1, each, -1).reshape(-1, boxes.shape[1])
        decoded = head.bbox_coder.decode(starts, deltas.view(-1, head.bbox_coder.encode_size), max_shape=size)
        decoded = get_box_tensor(decoded)
        return decoded.view(len(boxes), each, decoded.shape[-1]), scores

    def _with_masks(self, maps: Sequence[Tensor], boxes: Tensor, scores: Tensor, labels: Tensor) -> Any:
        """Suppress, then predict masks ``(k, h, w)`` of what is left, as shares of 1 over each box."""
        head: Any = self.model.roi_head
        settings = self.settings
        able = (scores > settings.score_thr).nonzero()[:, 0]
        # boxes of unlike classes are moved apart, as mmcv does
        apart = labels[able].to(boxes) * (boxes.max() + 1)
        keep = nms(boxes[able] + apart[:, None], scores[able], settings.nms.iou_threshold)
        rank = torch.zeros_like(scores).index_fill(0, able[keep], 1) * scores
        best, index = rank.topk(min(settings.max_per_img, len(rank)))
        index = index[(best > 0).nonzero()[:, 0]]
        boxes, scores, labels = boxes[index], scores[index], labels[index]
        logits = head.mask_head(_pool(head.mask_roi_extractor, maps, _with_image_index(boxes)))
        if logits.shape[1] == 1:
            return boxes, scores, labels, logits[:, 0].sigmoid()
        chosen = labels[:, None, None, None].expand(-1, 1, logits.shape[2], logits.shape[3])
        return boxes, scores, labels, logits.gather(1, chosen)[:, 0].sigmoid()


def suppress(
    boxes: Tensor, scores: Tensor, labels: Tensor, settings: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the detections that a file's raw ones leave, best first.

    Args:
        boxes: ``(n, 5)`` or ``(n, 4)``.
        scores: ``(n,)``.
        labels: ``(n,)``.
        settings: ``score_threshold``, ``iou_threshold``, ``max_per_image``; see ``RawDetections.metadata``.
    """
    from rsfoundation.ops import nms_rotated

    able = scores > settings["score_threshold"]
    boxes, scores, labels = boxes[able], scores[able], labels[able]
    if boxes.shape[1] == 5:
        keep = nms_rotated(boxes, scores, settings["iou_threshold"], labels)
    elif len(boxes):
        apart = labels.to(boxes) * (boxes.max() + 1)
        keep = nms(boxes + apart[:, None], scores, settings["iou_threshold"])
    else:
        keep = labels
    keep = keep[: settings["max_per_image"]]
    return boxes[keep], scores[keep], labels[keep]


def _agreement(
    expected: Sequence[Tensor],
    found: Sequence[Tensor],
    limit: float,
    masks: tuple[Tensor, Tensor, float] | None = None,
) -> Agreement:
    """Match the detections over a score in both directions.

    Args:
        expected: Boxes, scores and labels of the model.
        found: Those of the file.
        limit: The score; the other side's detections count from a thousandth below it on.
        masks: Masks of the model in pixels, those of the file over their boxes, and their threshold.
    """
    ours, theirs = (
        [part[rows[1] > limit - _SCORE_TOLERANCE] for part in rows[:3]] for rows in (found, expected)
    )
    sides = [int((rows[1] > limit).sum()) for rows in (theirs, ours)]
    if not min(sides):
        return Agreement(sides[0], float(sides[0] == sides[1]), 0.0, 0.0)
    near, box, score, good = _partners(theirs, ours)
    able = theirs[1] > limit
    back = _partners(ours, theirs)[3][ours[1] > limit]
    good = good & able
    share = min(float(good.sum()) / sides[0], float(back.float().mean()))
    if not bool(good.any()):
        return Agreement(sides[0], 0.0, float("inf"), float("inf"), 0.0)
    equal = 1.0
    if masks is not None:
        known, own, threshold = masks
        place = (found[1] > limit - _SCORE_TOLERANCE).nonzero()[:, 0][near]
        known = known[expected[1] > limit - _SCORE_TOLERANCE]
        pasted = paste_masks(own[place], found[0][place], known.shape[1:]) >= threshold
        equal = float((pasted == known)[good].float().mean())
    return Agreement(sides[0], share, float(box[good].max()), float(score[good].max()), equal)


def _partners(some: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the nearest other detection of the same class, how far it is, and whether it is the same one.

    Args:
        some: Boxes, scores and labels.
        others: Boxes, scores and labels.
    """
    places, other_places = corners_of(some[0]), corners_of(others[0])
    # corners of a near-square box may start at another one
    turned = torch.stack([other_places.roll(shift, 1) for shift in range(4)]).flatten(2)
    apart = torch.cdist(places.flatten(1).expand(4, -1, -1), turned).amin(0)
    # of equal boxes (two anchors, one object) the one of the nearest score
    apart = apart + (some[1][:, None] - others[1][None]).abs()
    apart = torch.where(some[2][:, None] == others[2][None], apart, torch.inf)
    near = apart.argmin(1)
    box = (turned[:, near] - places.flatten(1)).abs().amax(2).amin(0)
    score = (some[1] - others[1][near]).abs()
    same = (box <= _BOX_TOLERANCE) & (score <= _SCORE_TOLERANCE) & torch.isfinite(apart.amin(1))
    return near, box, score, same


def corners_of(boxes: Tensor) -> Tensor:
    """Return the corners ``(n, 4, 2)`` of rotated boxes ``(n, 5)`` or upright ones ``(n, 4)``."""
    if boxes.shape[1] == 4:
        x1, y1, x2, y2 = boxes.unbind(1)
        return torch.stack([x1, y1, x2, y1, x2, y2, x1, y2], 1).view(-1, 4, 2)
    return RotatedBoxes.rbox2corner(boxes)


def paste_masks(masks: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """Return masks ``(n, H, W)`` of an image from shares ``(n, h, w)`` over upright boxes, as mmdet pastes.

    Args:
        masks: Values 0 to 1.
        boxes: ``(n, 4)`` in pixels.
        size: Height and width of the image.
    """
    height, width = size
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    x = (torch.arange(width) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(height) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], -1)
    return nn.functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


@contextmanager
def _without_suppression(model: nn.Module, score: float) -> Iterator[None]:
    """Let a model report all detections over a score."""
    configs = [
        config for part in model.modules() if "score_thr" in (config := getattr(part, "test_cfg", None) or {})
    ]
    before = [(config["score_thr"], config["nms"], config["max_per_img"]) for config in configs]

    def set_all(config: Any, settings: tuple[Any, Any, Any]) -> None:
        # by key: `update` of a ConfigDict changes the nested one in place, and with it what is to be restored
        config["score_thr"], config["nms"], config["max_per_img"] = settings

    try:
        for config, (_, nms_config, _) in zip(configs, before, strict=True):
            set_all(config, (score, ConfigDict({**nms_config, "iou_threshold": _NO_OVERLAP}), _ALL))
        yield
    finally:
        for config, settings in zip(configs, before, strict=True):
            set_all(config, settings)


def _stages(roi_head: Any) -> list[tuple[Any, Any]]:
    """Return the pairs of extractor and box head."""
    if isinstance(roi_head, CascadeRoIHead):
        pairs = list(zip(roi_head.bbox_roi_extractor, roi_head.bbox_head, strict=True))
    else:
        pairs = [(roi_head.bbox_roi_extractor, roi_head.bbox_head)]
    for extractor, head in pairs:
        if head.custom_cls_channels:
            raise _unsupported("roi_head.bbox_head", head, "its loss has an activation of its own")
        layer = extractor.roi_layers[0]
        if type(layer).__name__ not in ("RoIAlign", "RoIAlignRotated"):
            raise _unsupported("roi_head.bbox_roi_extractor", layer, "only RoIAlign has an equivalent")
        if type(layer).__name__ == "RoIAlignRotated" and layer.sampling_ratio == _ADAPTIVE_SAMPLES:
            raise _unsupported(
                "roi_head.bbox_roi_extractor",
                layer,
                "sampling_ratio=0 takes as many samples as a region has pixels",
            )
    return pairs


def _unsupported(key: str, part: nn.Module, why: str) -> ConfigError:
    return ConfigError(
        f"the part {key} ({type(part).__name__}) cannot be exported: {why}",
        where=f"model.{key}",
        fix="export the backbone alone: --part backbone",
    )


def _sides(boxes: Tensor) -> Tensor:
    return boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:] - boxes[:, :2]


def _with_image_index(boxes: Tensor) -> Tensor:
    return torch.cat([boxes.new_zeros(boxes.shape[0], 1), boxes], 1)  # len() would ask for a number


def _proposals(rpn: Any, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return proposals ``(n, 5 or 4)`` of one image and which of them count (1 or 0).

    Suppressed ones stay as rows that do not count, so that their number depends on no value.
    """
    if not rpn.use_sigmoid_cls:
        raise _unsupported("rpn_head", rpn, "its scores are no sigmoid")
    settings = rpn.test_cfg
    scores, deltas = rpn(maps)
    priors = rpn.prior_generator.grid_priors([one.shape[-2:] for one in scores], device=scores[0].device)
    boxes, ranks = [], []
    for level, prior in enumerate(priors):
        score = scores[level][0].permute(1, 2, 0).reshape(-1).sigmoid()
        delta = deltas[level][0].permute(1, 2, 0).reshape(score.shape[0], -1)
        best, index = score.topk(min(settings.nms_pre, len(score)))
        anchors = get_box_tensor(prior)[index]
        found = get_box_tensor(rpn.bbox_coder.decode(anchors, delta[index], max_shape=size))
        upright = rbox2hbox(found) if found.shape[1] == 5 else found
        kept = torch.zeros_like(best).index_fill(0, nms(upright, best, settings.nms.iou_threshold), 1)
        if settings.get("min_bbox_size", -1) >= 0:
            kept = kept * (_sides(found) > settings.min_bbox_size).all(1)
        boxes.append(found)
        ranks.append(torch.where(kept > 0, best, -1))
    rank = torch.cat(ranks)
    best, index = rank.topk(min(settings.max_per_img, len(rank)))
    return torch.cat(boxes)[index], (best >= 0).to(best)


def _pool(extractor: Any, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
    """Pool regions ``(n, 6)`` or ``(n, 5)``, image index first, each from its level."""
    layers = list(extractor.roi_layers)
    maps = maps[: len(layers)]
    levels = extractor.map_roi_levels(rois, len(layers))
    if isinstance(extractor, EnlargingRoIExtractor):
        width, height = extractor.enlarge
        rois = extractor.roi_rescale(rois, (height, width))
    if rois.shape[1] == 6:
        grids = [RoiGrid(one.spatial_scale, one.sampling_ratio, one.aligned, one.clockwise) for one in layers]
        return pool_levels(maps, rois, levels, _pair(layers[0].output_size), grids)
    total: Tensor | None = None
    for level, (layer, one) in enumerate(zip(layers, maps, strict=True)):
        here = (levels == level).to(rois)[:, None]
        # regions of other levels have no size: they cost nothing, and what they give is dropped
        pooled = layer(one, torch.cat([rois[:, :1], rois[:, 1:] * here], 1)) * here[:, :, None, None]
        total = pooled if total is None else total + pooled
    assert total is not None
    return total


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@contextmanager
def _selecting_by_rank(head: nn.Module) -> Iterator[None]:
    """Let a head of mmdet or mmrotate select candidates by rank alone; thresholds are applied later.

    Its own function drops candidates under the threshold first: a number that depends on values. The best of
    all, thresholded later, are the same.
    """
    modules = {sys.modules[kind.__module__] for kind in type(head).__mro__}
    changed = [module for module in modules if hasattr(module, _SELECTION)]
    before = [getattr(module, _SELECTION) for module in changed]
    try:
        for module in changed:
            setattr(module, _SELECTION, _best_candidates)
        yield
    finally:
        for module, function in zip(changed, before, strict=True):
            setattr(module, _SELECTION, function)


def _best_candidates(
    scores: Tensor, score_thr: float, topk: int, results: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
    """Return scores, labels, places and what belongs to them, of the best pairs of candidate and class."""
    candidates, classes = scores.shape
    count = candidates * classes
    best, index = scores.flatten().topk(min(topk, count) if topk > 0 else count)
    places = index // classes
    return best, index % classes, places, {name: part[places] for name, part in results.items()}
