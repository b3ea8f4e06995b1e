"""COCO's metrics of boxes and masks, computed by hotcoco, with the numbers of pycocotools."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mmdet.evaluation
import numpy as np
from mmengine.logging import MMLogger
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import ConfigError, check_choice
from rsfoundation.datasets.instance import coco_index
from rsfoundation.io.coco import Content, run_lengths
from rsfoundation.registry import METRICS

IouType = Literal["bbox", "segm"]
AREAS = ("all", "small", "medium", "large")  # pycocotools' order: up to 32², to 96², above
IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())


@dataclass(frozen=True)
class CocoDetections:
    """Detections of all images, one row each.

    Attributes:
        image_ids: ``n`` ids as in the annotations.
        category_ids: ``n`` ids as in the annotations.
        scores: ``(n,)``.
        boxes: ``(n, 4)``: x, y, width, height.
        masks: ``n`` compressed run lengths; empty where only boxes are evaluated.
    """

    image_ids: Sequence[Any]
    category_ids: Sequence[Any]
    scores: np.ndarray
    boxes: np.ndarray
    masks: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class CocoScores:
    """Precision and recall of COCO's evaluation; -1 where there is no object.

    Attributes:
        precision: ``(T, R, K, A, M)`` at T IoU thresholds, 101 recalls, K categories, A areas and M limits of
            detections an image.
        recall: ``(T, K, A, M)``.
        thresholds: The T thresholds.
        limits: The M limits, ascending.
    """

    precision: np.ndarray
    recall: np.ndarray
    thresholds: tuple[float, ...]
    limits: tuple[int, ...]

    def average_precision(
        self,
        iou: float | None = None,
        area: str = "all",
        limit: int | None = None,
        category: int | None = None,
    ) -> float:
        """Return the mean precision, or -1 where there is no object.

        Args:
            iou: At this threshold only; all when not given.
            area: One of :data:`AREAS`.
            limit: Detections an image; the largest limit when not given.
            category: Index of one category; all when not given.
        """
        table = self.precision[self._chosen(iou)]
        table = table[:, :, :, AREAS.index(area), [self._place(limit)]]
        return _mean(table if category is None else table[:, :, category])

    def average_recall(self, area: str = "all", limit: int | None = None) -> float:
        """Return the mean of the largest recalls, or -1 where there is no object.

        Args:
            area: One of :data:`AREAS`.
            limit: Detections an image; the largest limit when not given.
        """
        return _mean(self.recall[:, :, AREAS.index(area), [self._place(limit)]])

    def _chosen(self, iou: float | None) -> np.ndarray:
        known = np.asarray(self.thresholds)
        return np.arange(len(known)) if iou is None else np.flatnonzero(known == iou)

    def _place(self, limit: int | None) -> int:
        return len(self.limits) - 1 if limit is None else self.limits.index(limit)


def _mean(table: np.ndarray) -> float:
    values = table[table > -1]
    return float(np.mean(values)) if len(values) else -1.0


def evaluate_coco(
    truth: Content,
    detections: CocoDetections,
    iou_type: IouType,
    category_ids: Sequence[Any],
    image_ids: Sequence[Any],
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    limits: Sequence[int] = (1, 10, 100),
    use_categories: bool = True,
) -> CocoScores:
    """Match detections with annotations as pycocotools does, to the last bit.

    Annotations, images and categories are numbered anew: an annotation with id 0 would count as never found.
    Of equal scores the earlier detection of the image with the smaller id is the better one.

    Args:
        truth: ``images`` and ``annotations`` of a COCO file.
        detections: Those of other images or categories are left out.
        iou_type: Whether boxes or masks are compared.
        category_ids: Of the categories that count, in the order of the result.
        image_ids: Of the images that count.
        thresholds: IoU thresholds, ascending.
        limits: Numbers of best detections an image that are taken.
        use_categories: Whether detections only match annotations of their category.
    """
    import hotcoco

    categories = {number: place for place, number in enumerate(category_ids, start=1)}
    images = {number: place for place, number in enumerate(sorted(set(image_ids)), start=1)}
    known = _index(truth, images, categories, iou_type)
    found = _load(known, detections, images, categories, iou_type)
    evaluator = hotcoco.COCOeval(known, found, iou_type)
    parameters = evaluator.params
    parameters.img_ids, parameters.cat_ids = list(images.values()), list(categories.values())
    parameters.iou_thrs, parameters.max_dets = list(thresholds), sorted(limits)
    parameters.use_cats = use_categories
    evaluator.evaluate()
    evaluator.accumulate()
    tables: dict[str, Any] = evaluator.eval or {}
    shape = (len(thresholds), -1, len(categories) if use_categories else 1, len(AREAS), len(limits))
    return CocoScores(
        np.asarray(tables["precision"]).reshape(shape),
        np.asarray(tables["recall"]).reshape(shape[:1] + shape[2:]),
        tuple(thresholds),
        tuple(sorted(limits)),
    )


def _index(
    truth: Content, images: Mapping[Any, int], categories: Mapping[Any, int], iou_type: IouType
) -> Any:
    """Return hotcoco's index of the annotations that count, with masks as pycocotools rasterises them."""
    import hotcoco

    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in truth["images"]}
    rows = [
        item
        for item in truth["annotations"]
        if item["image_id"] in images and item["category_id"] in categories
    ]
    masks: list[dict[str, Any] | list[list[float]]] | None = None
    if iou_type == "segm":
        masks = [run_lengths(item["segmentation"], *sizes[item["image_id"]]) for item in rows]
    return hotcoco.COCO.from_arrays(
        [
            dict(id=images[number], height=size[0], width=size[1])
            for number, size in sizes.items()
            if number in images
        ],
        [dict(id=place, name=str(place)) for place in categories.values()],
        np.array([images[item["image_id"]] for item in rows], int),
        np.array([categories[item["category_id"]] for item in rows], int),
        np.array([item["bbox"] for item in rows], float).reshape(-1, 4),
        area=np.array([item["area"] for item in rows], float),
        iscrowd=np.array([int(item.get("iscrowd", 0)) for item in rows], int),
        segmentation=masks,
    )


def _load(
    known: Any,
    detections: CocoDetections,
    images: Mapping[Any, int],
    categories: Mapping[Any, int],
    iou_type: IouType,
) -> Any:
    """Return hotcoco's index of the detections that count; the area of a mask is its number of pixels."""
    image_places = np.array([images.get(number, 0) for number in detections.image_ids], int)
    category_places = np.array([categories.get(number, 0) for number in detections.category_ids], int)
    rows = np.flatnonzero((image_places > 0) & (category_places > 0))
    table = np.empty((len(rows), 7))
    table[:, 0], table[:, 6] = image_places[rows], category_places[rows]
    table[:, 1:5], table[:, 5] = detections.boxes[rows], detections.scores[rows]
    if iou_type == "bbox" or not len(rows):
        return known.load_res(table)
    masks = [detections.masks[row] for row in rows.tolist()]
    found = known.load_res(table, segmentation=masks)
    found.update_anns(ids=np.arange(1, len(rows) + 1), area=_areas(masks))
    return found


def _areas(masks: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the pixels of each mask, ``(n,)``; pycocotools 2.0.11 raises for more than 255 at a time."""
    chunks = [masks[start : start + 255] for start in range(0, len(masks), 255)]
    return np.concatenate([coco_mask.area(chunk) for chunk in chunks]).astype(float)


_STATS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
_RECALLS = ("AR@100", "AR@300", "AR@1000", "AR_s@1000", "AR_m@1000", "AR_l@1000")


@METRICS.register_module()
class CocoMetric(mmdet.evaluation.CocoMetric):
    """mmdet's ``CocoMetric`` with a fast evaluator: same options, keys and numbers.

    Annotations are those that passed the data set's rules, and only images that were tested count. Upstream
    reads the file itself: an annotation with id 0 then counts as never found, and two categories of one name
    shift the labels. Where nothing at all was found, metrics are 0; upstream reports none.

    Args:
        ann_file: The json file; the instance task sets it to that of the data set. Not given: annotations
            come with the samples.
        **kwargs: Passed to mmdet's.
    """

    def __init__(self, ann_file: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for item in self.metric_items or ():
            check_choice("metric_items", item, (*_STATS, *_RECALLS), "CocoMetric")
        if ann_file is not None:
            self._coco_api = coco_index(Path(ann_file))

    def compute_metrics(self, results: Sequence[tuple[dict, dict]]) -> dict[str, float]:
        """Compute the metrics over the images of ``results``."""
        predictions = [prediction for _, prediction in results]
        self.img_ids = [prediction["img_id"] for prediction in predictions]
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or str(Path(folder) / "results")
            truth = self._truth([truth for truth, _ in results], prefix)
            self.cat_ids = self._category_ids(truth)
            if self.format_only or self.outfile_prefix is not None:
                self.results2json(predictions, prefix)
        if self.format_only:
            return {}
        metrics: dict[str, float] = {}
        for kind in self.metrics:
            if kind == "proposal_fast":
                recalls = self.fast_eval_recall(predictions, self.proposal_nums, self.iou_thrs)
                pairs = zip(self.proposal_nums, recalls.tolist(), strict=True)
                metrics.update({f"AR@{count}": recall for count, recall in pairs})
            else:
                metrics.update(self._evaluate(kind, truth, predictions))
        return metrics

    def _truth(self, samples: Sequence[dict], prefix: str) -> Content:
        if self._coco_api is not None:
            return self._coco_api.dataset
        content = json.loads(Path(self.gt_to_coco_json(samples, prefix)).read_text(encoding="utf-8"))
        return {"annotations": [], **content}

    def _category_ids(self, truth: Content) -> list[Any]:
        ids = {category["name"]: category["id"] for category in truth["categories"]}
        absent = [name for name in self.dataset_meta["classes"] if name not in ids]
        if absent:
            raise ConfigError(
                f"classes of the data set that are no categories of the annotations: {', '.join(absent)}",
                where="metainfo.classes of the data set; ann_file of the evaluator",
                fix=f"choose among {', '.join(ids)}",
            )
        return [ids[name] for name in self.dataset_meta["classes"]]

    def _evaluate(self, kind: str, truth: Content, predictions: Sequence[dict]) -> dict[str, float]:
        iou_type: IouType = "segm" if kind == "segm" else "bbox"
        detections = self._detections(predictions, iou_type)
        logger = MMLogger.get_current_instance()
        if not len(detections.scores):
            logger.warning("%s: there is no detection at all", kind)
        by_category = kind != "proposal"
        scores = evaluate_coco(
            truth,
            detections,
            iou_type,
            self.cat_ids if by_category else [category["id"] for category in truth["categories"]],
            self.img_ids,
            tuple(np.asarray(self.iou_thrs, float).reshape(-1).tolist()),
            self.proposal_nums,
            use_categories=by_category,
        )
        stats = _summary(scores)
        logger.info("COCO %s: %s", kind, ", ".join(f"{name} {value:.3f}" for name, value in stats.items()))
        if kind == "proposal":
            return {name: round(stats[name], 3) for name in self.metric_items or _RECALLS}
        metrics = {}
        if self.classwise:
            metrics.update(self._by_class(scores, kind))
        metrics.update({f"{kind}_{name}": round(stats[name], 3) for name in self.metric_items or _STATS})
        return metrics

    def _by_class(self, scores: CocoScores, kind: str) -> dict[str, float]:
        names = self.dataset_meta["classes"]
        rows = [
            [
                scores.average_precision(category=place),
                *(scores.average_precision(iou=iou, category=place) for iou in (0.5, 0.75)),
                *(scores.average_precision(area=area, category=place) for area in AREAS[1:]),
            ]
            for place in range(len(names))
        ]
        lines = [f"{'class':<20}" + "".join(f"{name:>8}" for name in _STATS)]
        for name, row in zip(names, rows, strict=True):
            lines.append(f"{name:<20}" + "".join(f"{value:>8.3f}" for value in row))
        MMLogger.get_current_instance().info("COCO %s of each class\n%s", kind, "\n".join(lines))
        return {
            f"{name}_precision": round(row[0], 3) if row[0] > -1 else float("nan")
            for name, row in zip(names, rows, strict=True)
        }

    def _detections(self, predictions: Sequence[dict], iou_type: IouType) -> CocoDetections:
        """Join predictions into rows; masks have scores of their own where the model gives them.

        Raises:
            ConfigError: There are no masks; or the model has more classes than the data set.
        """
        if iou_type == "segm" and predictions and "masks" not in predictions[0]:
            raise ConfigError(
                "the model predicts no masks",
                where="metric of the evaluator",
                fix="leave 'segm' out: metric='bbox'",
            )
        counts = [len(one["labels"]) for one in predictions]
        labels = np.concatenate([one["labels"] for one in predictions]) if predictions else np.zeros(0, int)
        if len(labels) and labels.max() >= len(self.cat_ids):
            raise ConfigError(
                f"the model found an object of class number {labels.max() + 1}, and the data set has "
                f"{len(self.cat_ids)}",
                where="num_classes of the model, classes of the data set",
                fix="test on the classes that the model was trained with",
            )
        key = "mask_scores" if iou_type == "segm" else "scores"
        corners = _joined([one["bboxes"] for one in predictions], 4)
        boxes = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        detections = CocoDetections(
            [number for number, count in zip(self.img_ids, counts, strict=True) for _ in range(count)],
            [self.cat_ids[label] for label in labels.tolist()],
            _joined([one.get(key, one["scores"]) for one in predictions]),
            boxes,
        )
        if iou_type == "bbox":
            return detections
        return replace(detections, masks=[mask for one in predictions for mask in one["masks"]])


def _joined(arrays: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """Join arrays as float64: differences of float32 corners would round."""
    empty = np.zeros((0,) if columns is None else (0, columns))
    return np.concatenate([empty, *(np.asarray(array, dtype=np.float64) for array in arrays)])


def _summary(scores: CocoScores) -> dict[str, float]:
    """Return mmdet's twelve numbers; mAP alone is that of 100 detections an image, where it is a limit."""
    hundred = 100 if 100 in scores.limits else None
    stats = {
        "mAP": scores.average_precision(limit=hundred),
        "mAP_50": scores.average_precision(iou=0.5),
        "mAP_75": scores.average_precision(iou=0.75),
        **{f"mAP_{area[0]}": scores.average_precision(area=area) for area in AREAS[1:]},
    }
    limits = (*scores.limits[:3], *[scores.limits[-1]] * 3)[:3]
    for name, limit in zip(_RECALLS, limits, strict=False):
        stats[name] = scores.average_recall(limit=limit)
    for name, area in zip(_RECALLS[3:], AREAS[1:], strict=True):
        stats[name] = scores.average_recall(area=area)
    return stats
