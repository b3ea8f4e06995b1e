"""COCO's json layout, with the rules for ids, categories and shapes that every reader of it applies.

What breaks a rule is counted in a :class:`~rsfoundation.core.reports.DatasetReport` under the id it has in
the file, and left out. Categories of one name are one class, and annotations are numbered from 1 on:
COCO's evaluation takes a match with annotation 0 for no match.
"""

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from rsfoundation.core.errors import DataError
from rsfoundation.core.reports import SKIPPING, DatasetReport, Example

SAME_ID = "images with the id of an earlier one"  # kinds in reports
NO_SHAPE = "annotations without a polygon or mask"
NO_IMAGE = "annotations of an image that is not listed"
NO_CATEGORY = "annotations of an unknown category"
MASK_SIZE = "masks of another size than their image"
_LEAST = 6  # numbers of a polygon: three points
_PARTS = ("images", "annotations", "categories")
_FIX = f"correct the annotation, or leave such annotations out with {SKIPPING}"
Content = dict[str, list[dict[str, Any]]]


def read_coco(path: Path, report: DatasetReport, *, need_masks: bool = True) -> Content:
    """Read a COCO file.

    Args:
        path: The file.
        report: Takes annotations and images that break a rule; they are left out.
        need_masks: Whether annotations without a ``segmentation`` break one although they have a ``bbox``.

    Returns:
        ``images`` with unique ids, ``categories`` with unique ids and names, and ``annotations`` with new
        ids (``id_in_file`` is the old one), each of a listed image and category and with a
        ``segmentation`` of three points or more.

    Raises:
        DataError: The file is missing, no json, or lacks one of COCO's parts.
    """
    content = _load(path)
    categories, canonical = _unique_categories(content["categories"], path, report)
    images = _unique_images(content["images"], path, report)
    sizes = {image["id"]: (int(image["height"]), int(image["width"])) for image in images}
    annotations = []
    for annotation in content["annotations"]:
        problem = _problem(annotation, sizes, canonical, need_masks)
        if problem is not None:
            kind, what = problem
            report.error(kind, annotation_error(path, annotation.get("id"), what), path)
            continue
        _remove_short_rings(annotation, path, report)
        annotations.append(dict(annotation, category_id=canonical[annotation["category_id"]]))
    _note_repeated_ids(annotations, path, report)
    for number, annotation in enumerate(annotations, start=1):
        annotation.update(id=number, id_in_file=annotation.get("id"))
    return dict(images=images, annotations=annotations, categories=categories)


def annotation_error(path: Path, number: object, what: str, fix: str = _FIX) -> DataError:
    """Return the error for one annotation.

    Args:
        path: The json file.
        number: Id of the annotation in it.
        what: What was found and expected.
        fix: How to repair it.
    """
    return DataError(what, where=f"{path}, annotation {number}", fix=fix)


def run_lengths(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Return the compressed run lengths of polygons, or of run lengths of either kind.

    Args:
        segmentation: As in a COCO annotation.
        height: Of the image.
        width: Of the image.
    """
    if isinstance(segmentation, list):
        return dict(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width)))
    if isinstance(segmentation["counts"], list):
        return dict(coco_mask.frPyObjects(segmentation, height, width))
    return dict(segmentation)


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Return a segmentation as a mask ``(height, width)`` of 0 and 1.

    Args:
        segmentation: As in a COCO annotation.
        height: Of the image.
        width: Of the image.
    """
    return np.asarray(coco_mask.decode(run_lengths(segmentation, height, width)))


def _load(path: Path) -> Content:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(
            "the annotation file does not exist", where=path, fix="set data_root and ann_file to its place"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _no_coco(path, f"it cannot be read as text: {error}") from error
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _no_coco(path, f"it is no json: {error}") from error
    absent = [part for part in _PARTS if not isinstance(content, dict) or part not in content]
    if absent:
        raise _no_coco(path, f"it lacks {', '.join(absent)}")
    try:
        for image in content["images"]:
            hash(image["id"]), str(image["file_name"]), int(image["width"]), int(image["height"])
        for category in content["categories"]:
            hash(category["id"]), str(category["name"])
        for annotation in content["annotations"]:
            annotation.get("id")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _no_coco(path, f"an entry lacks a field, or has another type: {error!r}") from error
    return {part: content[part] for part in _PARTS}


def _no_coco(path: Path, problem: str) -> DataError:
    return DataError(
        f"the annotation file is no COCO json: {problem}",
        where=path,
        fix="replace it by a file with COCO's images, annotations and categories",
    )


def _unique_categories(
    categories: Sequence[dict[str, Any]], path: Path, report: DatasetReport
) -> tuple[list[dict[str, Any]], dict[Any, Any]]:
    """Return one category for each name, and for each id the id of the category that it counts as.

    Of the categories of one name the last is kept: exports of Roboflow begin with an unused one that has
    the name of the project, which is mostly that of a class.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    ids: dict[Any, str] = {}
    for category in categories:
        name = str(category["name"])
        earlier = ids.setdefault(category["id"], name)
        if earlier != name:
            what = f"categories {earlier!r} and {name!r} have the id {category['id']!r}"
            error = DataError(what, where=path, fix="give every category an id of its own")
            report.error("categories with the id of an earlier one", error, path)
        else:
            by_name.setdefault(name, []).append(category)
    for name, same in by_name.items():
        if len(same) > 1:
            numbers = ", ".join(str(category["id"]) for category in same)
            what = f"categories {numbers} all have the name {name!r} and are read as one class"
            kind = "categories with the name of another one (read as one class)"
            report.note(kind, [path.name] * (len(same) - 1), Example(str(path), what))
    kept = [same[-1] for same in by_name.values()]
    canonical = {category["id"]: same[-1]["id"] for same in by_name.values() for category in same}
    return kept, canonical


def _unique_images(
    images: Sequence[dict[str, Any]], path: Path, report: DatasetReport
) -> list[dict[str, Any]]:
    """Return the images with ids of their own: objects cannot be assigned otherwise."""
    first: dict[Any, dict[str, Any]] = {}
    for image in images:
        earlier = first.setdefault(image["id"], image)
        if earlier is not image:
            what = f"{earlier['file_name']} and {image['file_name']} have the id {image['id']!r}"
            error = DataError(what, where=path, fix="give every image an id of its own")
            report.error(SAME_ID, error, path)
    return list(first.values())


def _problem(
    annotation: dict[str, Any],
    sizes: dict[Any, tuple[int, int]],
    categories: dict[Any, Any],
    need_masks: bool,
) -> tuple[str, str] | None:
    """Return kind and description of the rule that an annotation breaks, if it does."""
    image, category = annotation.get("image_id"), annotation.get("category_id")
    if not _known(image, sizes):
        hint = _id_of_another_type(image, sizes)
        return NO_IMAGE, f"image_id {image!r} is not among the images{hint}"
    if not _known(category, categories):
        hint = _id_of_another_type(category, categories)
        return NO_CATEGORY, f"category_id {category!r} is not among the categories{hint}"
    segmentation = annotation.get("segmentation")
    if not segmentation and not need_masks and _is_box(annotation.get("bbox")):
        return None
    if isinstance(segmentation, dict):
        return _run_length_problem(segmentation, sizes[image])
    return _polygon_problem(segmentation)


def _is_box(box: Any) -> bool:
    """Return whether a bbox has the numbers of an upright, a rotated or a four-cornered box."""
    return isinstance(box, list) and len(box) in (4, 5, 8) and all(map(_is_finite, box))


def _is_finite(number: Any) -> bool:
    return isinstance(number, (int, float)) and isfinite(number)


def _known(number: Any, known: dict[Any, Any]) -> bool:
    try:
        return number in known
    except TypeError:  # a list or a dict
        return False


def _id_of_another_type(number: Any, known: dict[Any, Any]) -> str:
    for other in known:
        if str(other) == str(number):
            return f" ({other!r} is: write both as whole numbers)"
    return ""


def _run_length_problem(segmentation: dict[str, Any], size: tuple[int, int]) -> tuple[str, str] | None:
    found, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(found, list) or not isinstance(counts, (list, str)) or not counts:
        return NO_SHAPE, "run lengths without size or counts"
    if tuple(found) != size:
        height, width = size
        what = f"the mask is {found[-1]} x {found[0]}, and its image {width} x {height} (width x height)"
        return MASK_SIZE, what
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        return NO_SHAPE, f"run lengths of {sum(counts)} pixels; expected {size[0] * size[1]}"
    return None


def _polygon_problem(polygons: Any) -> tuple[str, str] | None:
    if not polygons:
        return (
            NO_SHAPE,
            "neither a polygon nor a mask (0 points); expected a polygon of at least 3 points",
        )
    try:
        odd = [ring for ring in polygons if len(ring) % 2 or not isfinite(sum(ring))]
        longest = max(len(ring) for ring in polygons)
    except TypeError:
        return NO_SHAPE, "the segmentation is no list of polygons [[x1, y1, x2, y2, ...], ...]"
    if odd:
        return NO_SHAPE, "a polygon has an odd count of numbers, or one that is not finite"
    if longest < _LEAST:
        return NO_SHAPE, f"a polygon of {longest // 2} points; expected at least 3"
    return None


def _remove_short_rings(annotation: dict[str, Any], path: Path, report: DatasetReport) -> None:
    """Remove polygons of less than three points next to longer ones: a mask cannot be made of them."""
    polygons = annotation.get("segmentation")
    if isinstance(polygons, list) and polygons and min(map(len, polygons)) < _LEAST:
        annotation["segmentation"] = [ring for ring in polygons if len(ring) >= _LEAST]
        removed = len(polygons) - len(annotation["segmentation"])
        example = Example(f"{path}, annotation {annotation.get('id')}", "a polygon of less than 3 points")
        report.note("polygons of less than 3 points (removed)", [path.name] * removed, example)


def _note_repeated_ids(annotations: Sequence[dict[str, Any]], path: Path, report: DatasetReport) -> None:
    seen: set[Any] = set()
    for annotation in annotations:
        number = annotation.get("id")
        if number is not None and str(number) in seen:
            example = Example(f"{path}, annotation {number}", "another annotation has this id")
            report.note("annotations with the id of another one (renumbered)", [path.name], example)
        seen.add(str(number))
