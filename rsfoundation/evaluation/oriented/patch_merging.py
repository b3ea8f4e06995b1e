"""From patches to full images: detections by rotated NMS, labels from their files or from the patches."""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from scipy.spatial import KDTree

from rsfoundation.core.errors import DataError
from rsfoundation.evaluation.oriented.records import ImageRecord
from rsfoundation.geometry.boxes import quad_to_rbox, suppress
from rsfoundation.geometry.tiling import PatchName, parse_patch_name

Result = TypeVar("Result", covariant=True)
More = TypeVar("More")


class PrefetchMap(Iterable[Result], Generic[Result]):
    """What ``work`` makes of each item, in the order of the items.

    As many are worked on at a time as torch has threads, and no more than that wait to be taken, however
    many items there are. What is done next with each result joins the same work: see :meth:`then`.

    Args:
        work: Makes a result of an item, in any thread.
        items: Taken one by one as results are.
    """

    def __init__(self, work: Callable[[Any], Result], items: Iterable[Any]) -> None:
        self._work, self._items = work, items

    def then(self, more: Callable[[Result], More]) -> "PrefetchMap[More]":
        """Return what ``more`` makes of the results: in one piece of work with them, for threads that hand
        small pieces to each other wait for Python's lock longer than they work."""
        work = self._work
        return PrefetchMap(lambda item: more(work(item)), self._items)

    def __iter__(self) -> Iterator[Result]:
        threads = max(1, torch.get_num_threads())
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Result]] = deque()
            for item in self._items:
                waiting.append(pool.submit(self._work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def as_prefetch_map(items: Iterable[More]) -> PrefetchMap[More]:
    """Return the items as they are, for work on them that goes ahead."""
    return items if isinstance(items, PrefetchMap) else PrefetchMap(lambda item: item, items)


_SAME_LABEL = 0.5  # pixels: labels of one object in two patches differ by the rounding of their files

_RESIZED = re.compile(
    r".+__\d*\.\d+__\d+___\d+"
)  # DOTA's first tool: the scale, and a place in a resized image

Truth = tuple[np.ndarray, np.ndarray, np.ndarray]  # truth, truth_labels, ignored of an ImageRecord


def merge_patches(
    records: Sequence[ImageRecord], iou: float = 0.1, read_truth: Callable[[str], Truth] | None = None
) -> PrefetchMap[ImageRecord]:
    """Merge the patches of each full image; several images are worked on at a time.

    Args:
        records: Patches, sorted by name; full images among them pass through the same NMS.
        iou: Of the NMS.
        read_truth: Returns the labels of a full image by its name. Not given: those of the patches are
            joined, and an object that several patches hold counts once.

    Raises:
        DataError: A patch name tells no place in full-image pixels.
    """
    placed = [(place_of(record.name), record) for record in records]
    placed.sort(key=lambda pair: pair[0].image)
    groups = ((name, list(group)) for name, group in groupby(placed, key=lambda pair: pair[0].image))
    return PrefetchMap(lambda group: _merge_one(group[0], group[1], iou, read_truth), groups)


def place_of(name: str) -> PatchName:
    """Return a patch's place in its full image; a full image has a window of 0.

    Raises:
        DataError: The place is meant in pixels of a resized image.
    """
    place = parse_patch_name(name)
    if place is None and _RESIZED.fullmatch(name):
        raise DataError(
            f"patch {name!r} was cut from a resized image; expected <image>__<window>__<x>___<y>",
            fix="cut the images with `rsf prepare dota`, which cuts every scale in pixels of the full image",
        )
    return place or PatchName(name, 0, 0, 0)


def _merge_one(
    name: str,
    parts: list[tuple[PatchName, ImageRecord]],
    iou: float,
    read_truth: Callable[[str], Truth] | None,
) -> ImageRecord:
    boxes = _moved(np.concatenate([record.boxes for _, record in parts]), parts, "boxes")
    scores = np.concatenate([record.scores for _, record in parts])
    labels = np.concatenate([record.labels for _, record in parts])
    kept = suppress(boxes, scores, labels, iou)
    truth, truth_labels, ignored = read_truth(name) if read_truth else _union(parts)
    whole = len(parts) == 1 and parts[0][0].window == 0
    return ImageRecord(
        name=name,
        path=parts[0][1].path,
        size=parts[0][1].size if whole else (0, 0),
        boxes=boxes[kept],
        scores=scores[kept],
        labels=labels[kept],
        truth=truth,
        truth_labels=truth_labels,
        ignored=ignored,
    )


def _union(parts: list[tuple[PatchName, ImageRecord]]) -> Truth:
    """Join the labels of patches; two of a class are one object when centre and size agree."""
    width = max(record.truth.shape[1] for _, record in parts)
    rows = [record.truth for _, record in parts if len(record.truth)]
    truth = _moved(np.concatenate(rows), parts, "truth") if rows else np.zeros((0, width))
    labels = np.concatenate([record.truth_labels for _, record in parts])
    ignored = np.concatenate([record.ignored for _, record in parts])
    patch = np.repeat(np.arange(len(parts)), [len(record.truth) for _, record in parts])
    fitted = quad_to_rbox(truth) if truth.shape[1] == 8 else truth
    side = np.sqrt(fitted[:, 2] * fitted[:, 3])
    far = 10 * _SAME_LABEL * labels  # classes are kept apart along an axis of their own
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


def _moved(rows: np.ndarray, parts: list[tuple[PatchName, ImageRecord]], column: str) -> np.ndarray:
    """Move boxes ``(n, 5)`` or corners ``(n, 8)`` of all patches to the pixels of the full image."""
    counts = [len(getattr(record, column)) for _, record in parts]
    offsets = np.repeat([(place.x, place.y) for place, _ in parts], counts, axis=0)
    moved = rows.astype(np.float64)
    if rows.shape[1] == 8:
        moved += np.tile(offsets, 4)
    else:
        moved[:, :2] += offsets
    return moved
