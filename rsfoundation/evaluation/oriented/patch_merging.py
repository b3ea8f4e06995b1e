"""From patches to full images: detections by rotated NMS, ground truth from label files or patches."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.oriented.image_results import ImageResult
from rsfoundation.geometry.boxes import quad_to_rbox, suppress
from rsfoundation.io.dota import PatchName, parse_patch_name

_SAME_LABEL = 0.5  # pixels: labels of one object in two patches differ by the rounding of their files
# DOTA's first tool: the scale, and a place in a resized image
_RESIZED = re.compile(r".+__\d*\.\d+__\d+___\d+")

Truth = tuple[np.ndarray, np.ndarray, np.ndarray]  # truth, truth_labels, ignored of an ImageResult


def merge_patches(
    results: Sequence[ImageResult],
    iou: float = 0.1,
    read_truth: Callable[[str], Truth] | None = None,
    class_agnostic: bool = False,
) -> Iterator[ImageResult]:
    """Merge the patches of each full image, one image at a time, in the order of their names.

    Args:
        results: Patches, sorted by name; full images among them pass through the same NMS.
        iou: Of the NMS.
        read_truth: Returns the ground truth of a full image by its name. Not given: that of the patches is
            joined, and an object that several patches hold counts once.
        class_agnostic: Whether the NMS compares detections of different classes too.

    Raises:
        DataError: A patch name states no place in full-image pixels.
    """
    placed = [(parse_place(result.name), result) for result in results]
    placed.sort(key=lambda pair: pair[0].image)
    groups = groupby(placed, key=lambda pair: pair[0].image)
    return (_merge_image(name, list(group), iou, read_truth, class_agnostic) for name, group in groups)


def parse_place(name: str) -> PatchName:
    """Return a patch's place in its full image; a full image has a window of 0.

    Raises:
        DataError: The place is in pixels of a resized image.
    """
    place = parse_patch_name(name)
    if place is None and _RESIZED.fullmatch(name):
        raise DataError(
            f"patch {name!r} was cut from a resized image; expected <image>__<window>__<x>___<y>",
            fix="cut the images with `rsf prepare dota`, which cuts every scale in pixels of the full image",
        )
    return place or PatchName(name, 0, 0, 0)


def _merge_image(
    name: str,
    patches: list[tuple[PatchName, ImageResult]],
    iou: float,
    read_truth: Callable[[str], Truth] | None,
    class_agnostic: bool,
) -> ImageResult:
    boxes = _shift(np.concatenate([result.boxes for _, result in patches]), patches, "boxes")
    scores = np.concatenate([result.scores for _, result in patches])
    labels = np.concatenate([result.labels for _, result in patches])
    kept = suppress(boxes, scores, labels, iou, class_agnostic)
    truth, truth_labels, ignored = read_truth(name) if read_truth else _join_truth(patches)
    whole = len(patches) == 1 and patches[0][0].window == 0
    return ImageResult(
        name=name,
        path=patches[0][1].path,
        size=patches[0][1].size if whole else (0, 0),
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels[kept],
        truth=truth,
        truth_labels=truth_labels,
        ignored=ignored,
    )


def _join_truth(patches: list[tuple[PatchName, ImageResult]]) -> Truth:
    """Join the ground truth of patches; two of a class are one object when centre and size agree."""
    width = max(result.truth.shape[1] for _, result in patches)
    rows = [result.truth for _, result in patches if len(result.truth)]
    truth = _shift(np.concatenate(rows), patches, "truth") if rows else np.zeros((0, width))
    labels = np.concatenate([result.truth_labels for _, result in patches])
    ignored = np.concatenate([result.ignored for _, result in patches])
    patch = np.repeat(np.arange(len(patches)), [len(result.truth) for _, result in patches])
    fitted = quad_to_rbox(truth) if truth.shape[1] == 8 else truth
    side = np.sqrt(fitted[:, 2] * fitted[:, 3])
    far = 10 * _SAME_LABEL * labels  # classes are kept apart along an axis of their own
    from scipy.spatial import KDTree  # slow to import, and most patches need none

    pairs = KDTree(np.column_stack([fitted[:, :2], side, far])).query_pairs(
        _SAME_LABEL, output_type="ndarray"
    )
    first, again = pairs.min(axis=1), pairs.max(axis=1)
    elsewhere = patch[first] != patch[again]  # labelled twice within one patch: two objects, as in its file
    keep = np.ones(len(truth), dtype=bool)
    keep[again[elsewhere]] = False
    counted = np.zeros(len(truth), dtype=bool)  # cut in one patch, whole and counted in another
    counted[first[elsewhere & ~ignored[again]]] = True
    return truth[keep], labels[keep], (ignored & ~counted)[keep]


def _shift(rows: np.ndarray, patches: list[tuple[PatchName, ImageResult]], column: str) -> np.ndarray:
    """Move boxes ``(n, 5)`` or corners ``(n, 8)`` of all patches to the pixels of the full image."""
    counts = [len(getattr(result, column)) for _, result in patches]
    offsets = np.repeat([(place.x, place.y) for place, _ in patches], counts, axis=0)
    moved = rows.astype(np.float64)
    if rows.shape[1] == 8:
        moved += np.tile(offsets, 4)
    else:
        moved[:, :2] += offsets
    return moved
