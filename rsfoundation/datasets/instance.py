"""Instance segmentation data in COCO's json layout, checked before training starts.

The rules for ids, categories and shapes are those of :mod:`rsfoundation.io.coco`; this module adds those for
boxes, areas, crowds and image sizes. They are listed for users in ``docs/datasets.md``.
"""

import contextlib
import io
import os
from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import DataError, check_choice, nearest
from rsfoundation.core.parallel import run_jobs, with_progress
from rsfoundation.core.reports import SKIPPING, DatasetReport, Example, ReadingPolicy
from rsfoundation.datasets.transforms.images import pipeline_loading
from rsfoundation.datasets.transforms.mixing import prepare_mixed
from rsfoundation.io.coco import Content, annotation_error, read_coco, run_lengths
from rsfoundation.io.loading import ImageLoading
from rsfoundation.io.rasters import image_size
from rsfoundation.registry import DATASETS

_NAMED = 3  # missing files that an error names
_TOLERANCE = 2.0  # pixels; boxes are often those of whole pixels around a mask
_LEAST_OVERLAP = 0.5  # IoU of a box with the bounds of its mask
Corners = tuple[float, float, float, float]


@DATASETS.register_module()
class CocoInstanceDataset(CocoDataset):
    """mmdet's COCO data set with a check of everything at the start: labels, boxes, masks and image sizes.

    ``metainfo=dict(classes=(...))`` must list the classes to use in the order of the json file's
    ``categories``: mmdet numbers labels in that order whatever order the config has.

    Args:
        on_error: ``fail`` checks everything, then stops with one error for all that is broken or missing;
            ``skip`` leaves it out, and decodes every image once before the start to know which are broken.
        **kwargs: Passed to mmdet's ``CocoDataset``.

    Attributes:
        report: Counts, files and first places of all that was left out or repaired.

    Raises:
        ConfigError: There is no such policy.
        DataError: The json file is missing, broken or lacks a part; classes are unknown or in another
            order; under ``fail``, annotations or images are broken or missing.
    """

    def __init__(self, *args: Any, on_error: ReadingPolicy = "fail", **kwargs: Any) -> None:
        check_choice("on_error", on_error, get_args(ReadingPolicy), type(self).__name__)
        self.on_error = on_error
        self.report = DatasetReport()
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read and check the json file and the images, and hand mmdet what passes."""
        self.report = report = DatasetReport()
        content = read_instances(Path(self.ann_file), report)
        self._check_classes(content)
        content = self._check_images(content)
        report.enforce(self.on_error)
        if not content["images"]:
            raise DataError(
                f"no image is left{f': left out {report.describe()}' if report else ''}",
                where=self.ann_file,
                fix="check ann_file and data_prefix, and the files that were left out",
            )
        self._note_unused(content)
        self.COCOAPI = partial(_index_of, content)  # mmdet calls it with the path of the file
        try:
            data_list = super().load_data_list()
        finally:
            del self.COCOAPI
        self._add_totals(data_list)
        report.log(str(self.ann_file))
        return data_list

    def prepare_data(self, idx: int) -> Any:
        """Return a sample after the pipeline; a mosaic gets three further samples to compose with.

        Args:
            idx: Of the sample.
        """
        return prepare_mixed(self, super().prepare_data, idx)

    def filter_data(self) -> list[dict]:
        """Leave out images as ``filter_cfg`` says.

        Raises:
            DataError: No image has an object to train on.
        """
        kept = super().filter_data()
        if self.test_mode or not (self.filter_cfg or {}).get("filter_empty_gt", False):
            return kept
        if not any(_trainable(info) for info in kept):
            raise DataError(
                f"none of {len(self.data_list)} images has an object to train on",
                where=self.ann_file,
                fix="check annotations (crowds are not trained on) and classes, or set filter_cfg=None",
            )
        return kept

    def _check_classes(self, content: Content) -> None:
        known = [str(category["name"]) for category in content["categories"]]
        wanted = list(self.metainfo["classes"])
        for name in wanted:
            if name not in known:
                raise DataError(
                    f"class {name!r} is not among the categories {known}; {nearest(name, known)}".rstrip(
                        "; "
                    ),
                    where=self.ann_file,
                    fix="set metainfo=dict(classes=(...)) to names of the file",
                )
        in_file = [name for name in known if name in wanted]
        if in_file != wanted:
            raise DataError(
                f"classes {wanted} are in another order in the file: {in_file}",
                where=self.ann_file,
                fix="write metainfo=dict(classes=(...)) in the order of the file",
            )

    def _check_images(self, content: Content) -> Content:
        """Return the content with the images that exist and have the size that the file says."""
        folder = self.data_prefix.get("img", "")
        images = [(image, os.path.join(folder, image["file_name"])) for image in content["images"]]  # noqa: PTH118
        missing = [path for _, path in images if not Path(path).is_file()]
        if missing:
            error = DataError(
                f"{len(missing)} of {len(images)} images do not exist: {', '.join(missing[:_NAMED])}"
                + (", ..." if len(missing) > _NAMED else ""),
                where=self.ann_file,
                fix="set data_prefix=dict(img=...) to the folder of the images",
            )
            self.report.error("listed images that do not exist", error, *missing)
        absent = set(missing)
        present = [(image, path) for image, path in images if path not in absent]
        loading = pipeline_loading(self.pipeline.transforms) if self.on_error == "skip" else None
        check = partial(_image_error, Path(self.ann_file), loading=loading)
        errors = run_jobs(check, present, workers=os.cpu_count() or 1, title="checking images")
        for (_, path), found in zip(present, errors, strict=True):
            if found is not None:
                self.report.error(*found, path)
        kept = [image for (image, _), found in zip(present, errors, strict=True) if found is None]
        numbers = {image["id"] for image in kept}
        annotations = [item for item in content["annotations"] if item["image_id"] in numbers]
        return dict(content, images=kept, annotations=annotations)

    def _note_unused(self, content: Content) -> None:
        """Note what mmdet leaves out: other classes, boxes under 1 px or beyond the image, and crowds."""
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        sizes = {image["id"]: (int(image["width"]), int(image["height"])) for image in content["images"]}
        for item in content["annotations"]:
            name, (x, y, w, h) = names[item["category_id"]], item["bbox"]
            width, height = sizes[item["image_id"]]
            kind = None
            if name not in self.metainfo["classes"]:
                kind = f"objects of class {name}"
            elif item.get("ignore"):
                kind = "annotations marked 'ignore'"
            elif w < 1 or h < 1:
                kind = "boxes under 1 px"
            elif min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
                kind = "boxes beyond the image"
            elif item["iscrowd"]:
                meaning = "found or not, they do not count" if self.test_mode else "not trained on"
                kind = f"crowd regions ({meaning})"
            if kind is not None:
                example = Example(f"{self.ann_file}, annotation {item['id_in_file']}", kind)
                self.report.note(kind, [Path(self.ann_file).name], example)

    def _add_totals(self, data_list: Sequence[dict]) -> None:
        report = self.report
        report.images = len(data_list)
        report.objects = sum(len(info["instances"]) for info in data_list)
        if not any(map(_trainable, data_list)):
            crowds = f" ({report.objects} objects are crowds)" if report.objects else ""
            outcome = "COCO's metrics are -1" if self.test_mode else "nothing can be learned from it"
            report.warn(f"no labelled object at all: {outcome}{crowds}")
            return
        if self.test_mode:
            return
        seen = {item["bbox_label"] for info in data_list for item in info["instances"]}
        absent = [name for label, name in enumerate(self.metainfo["classes"]) if label not in seen]
        if absent:
            report.warn(f"no object of {len(absent)} classes: {', '.join(absent)}")


def read_instances(path: Path, report: DatasetReport) -> Content:
    """Read a COCO file whose annotations have a mask, a box around it, an area and ``iscrowd``.

    Args:
        path: The json file.
        report: Takes annotations that break a rule. Boxes that are not around their mask are errors, too;
            where errors are accepted, the box is that of the mask.

    Raises:
        DataError: The file is missing, no json, or lacks one of COCO's parts.
    """
    content = read_coco(path, report)
    sizes = {image["id"]: (int(image["width"]), int(image["height"])) for image in content["images"]}
    annotations = content["annotations"]
    for item in with_progress(annotations, total=len(annotations), title="checking annotations"):
        _complete(item, sizes[item["image_id"]], path, report)
    return content


def _complete(item: dict[str, Any], size: tuple[int, int], path: Path, report: DatasetReport) -> None:
    """Check the box of an annotation, and give it the fields that it lacks."""
    number, bounds = item["id_in_file"], _bounds(item["segmentation"], size)
    box = [bounds[0], bounds[1], bounds[2] - bounds[0], bounds[3] - bounds[1]]
    if "bbox" not in item:
        _note(report, "annotations without bbox (taken from the mask)", path, number)
        item["bbox"] = box
    else:
        problem = _box_problem(item["bbox"], bounds, size)
        if problem is not None:
            kind, what = problem
            fix = f"write x, y, width, height in pixels, or take the boxes from the masks with {SKIPPING}"
            report.error(kind, annotation_error(path, number, what, fix), path)
            item["bbox"] = box
    if not isinstance(item.get("area"), (int, float)) or not item["area"] > 0:
        _note(report, "annotations without area (computed from the mask)", path, number)
        item["area"] = float(coco_mask.area(run_lengths(item["segmentation"], size[1], size[0])))
    if "iscrowd" not in item:
        _note(report, "annotations without iscrowd (0 is taken)", path, number)
        item["iscrowd"] = 0


def _note(report: DatasetReport, kind: str, path: Path, number: object) -> None:
    report.note(kind, [path.name], Example(f"{path}, annotation {number}", kind))


def _bounds(segmentation: Any, size: tuple[int, int]) -> Corners:
    """Return the corners ``x1 y1 x2 y2`` around polygons or a mask."""
    if isinstance(segmentation, list):
        xs = [value for ring in segmentation for value in ring[0::2]]
        ys = [value for ring in segmentation for value in ring[1::2]]
        return min(xs), min(ys), max(xs), max(ys)
    x, y, w, h = coco_mask.toBbox(run_lengths(segmentation, size[1], size[0])).tolist()
    return x, y, x + w, y + h


def _box_problem(box: Any, bounds: Corners, size: tuple[int, int]) -> tuple[str, str] | None:
    """Return kind and description of the rule that a box breaks, if it does."""
    around = ", ".join(f"{value:g}" for value in bounds)
    try:
        a, b, c, d = (float(value) for value in box)
        finite = isfinite(a + b + c + d)
    except (TypeError, ValueError):
        finite = False
    if not finite:
        return "malformed boxes", f"bbox is {box!r}; expected 4 numbers x, y, width, height"
    tolerance = max(_TOLERANCE, 0.05 * max(bounds[2] - bounds[0], bounds[3] - bounds[1]))
    if _distance((a, b, a + c, b + d), bounds) <= tolerance:
        return None
    if _distance((a, b, c, d), bounds) <= tolerance:
        what = f"bbox {box} is given by its corners x1, y1, x2, y2: its mask reaches from and to {around}"
        return "boxes given as corners", what
    width, height = size
    scaled = (a * width, b * height, (a + c) * width, (b + d) * height)
    if max(a, b, c, d) <= 1 and _distance(scaled, bounds) <= tolerance:
        what = f"bbox {box} is given in fractions of the image: its mask reaches from and to {around}"
        return "boxes given as fractions of the image", what
    if _overlap((a, b, a + c, b + d), bounds) < _LEAST_OVERLAP:
        what = f"bbox {box} is not around its mask, which reaches from and to {around}"
        return "boxes that are not around their mask", what
    return None


def _distance(one: Corners, other: Corners) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _overlap(one: Corners, other: Corners) -> float:
    """Return the IoU of two boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)


def _image_error(
    ann_file: Path, entry: tuple[dict[str, Any], str], *, loading: ImageLoading | None
) -> tuple[str, DataError] | None:
    """Return kind and error of an image that cannot be read, or has another size than the json file says."""
    image, path = entry
    stated = (int(image["width"]), int(image["height"]))
    try:
        if loading is not None:
            height, width = loading.read(path).shape[:2]
        else:
            width, height = image_size(Path(path))
    except DataError as error:
        return "unreadable images", error
    if (width, height) == stated:
        return None
    swapped = (height, width) == stated
    what = f"{image['file_name']} is {width} x {height} px, and the file says {stated[0]} x {stated[1]}"
    return (
        "images with width and height exchanged in the file"
        if swapped
        else "images of another size than stated",
        DataError(
            what + (": width and height are exchanged" if swapped else ""),
            where=f"{ann_file}, image {image['id']}",
            fix="exchange width and height in the file"
            if swapped
            else "write the size of the image, with polygons and masks in its pixels",
        ),
    )


def _trainable(info: dict[str, Any]) -> bool:
    return any(not item["ignore_flag"] for item in info["instances"])


def _index_of(content: Content, path: str | None = None) -> COCO:
    """Return pycocotools' index of a content, in the place of reading ``path``."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        coco.createIndex()
    coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
    return coco


def coco_index(path: Path) -> COCO:
    """Return pycocotools' index of a COCO file as :class:`CocoInstanceDataset` reads it.

    Raises:
        DataError: The file is missing, no json, or lacks one of COCO's parts.
    """
    return _index_of(read_instances(path, DatasetReport()))


_COLOURS_NWPU = (
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
    (0, 255, 0),
    (0, 0, 255),
)
_CLASSES_NWPU = (
    "airplane",
    "ship",
    "storage_tank",
    "baseball_diamond",
    "tennis_court",
    "basketball_court",
    "ground_track_field",
    "harbor",
    "bridge",
    "vehicle",
)


@DATASETS.register_module()
class WHUInsSegDataset(CocoInstanceDataset):
    """WHU Building, aerial: one class, from the json that ``rsf prepare instances whu`` writes.

    Arguments: those of :class:`CocoInstanceDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=("building",), palette=[(0, 255, 0)])


@DATASETS.register_module()
class NWPUInsSegDataset(CocoInstanceDataset):
    """NWPU VHR-10 with masks, as RSPrompter splits it: 520 images to train, 130 to validate.

    Arguments: those of :class:`CocoInstanceDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=_CLASSES_NWPU, palette=list(_COLOURS_NWPU))


@DATASETS.register_module()
class SSDDInsSegDataset(CocoInstanceDataset):
    """SSDD, ships in SAR images, with masks: 928 images to train, 232 to validate.

    Arguments: those of :class:`CocoInstanceDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(classes=("ship",), palette=[(0, 0, 255)])


@DATASETS.register_module()
class ISAIDInsSegDataset(CocoInstanceDataset):
    """iSAID, objects of DOTA's images with masks, in the json of the patches that its toolkit writes.

    Classes are in the order of mmdet's converted files; a category ``background`` is not used. For a file
    with another order, ``metainfo=dict(classes=(...))`` gives it.
    Arguments: those of :class:`CocoInstanceDataset`.
    """

    METAINFO: ClassVar[dict[str, Any]] = dict(
        classes=(
            "ship",
            "store_tank",
            "baseball_diamond",
            "tennis_court",
            "basketball_court",
            "Ground_Track_Field",
            "Bridge",
            "Large_Vehicle",
            "Small_Vehicle",
            "Helicopter",
            "Swimming_pool",
            "Roundabout",
            "Soccer_ball_field",
            "plane",
            "Harbor",
        ),
        palette=[
            (0, 0, 63),
            (0, 63, 63),
            (0, 63, 0),
            (0, 63, 127),
            (0, 63, 191),
            (0, 63, 255),
            (0, 127, 63),
            (0, 127, 127),
            (0, 0, 127),
            (0, 0, 191),
            (0, 0, 255),
            (0, 191, 127),
            (0, 127, 191),
            (0, 127, 255),
            (0, 100, 155),
        ],
    )
