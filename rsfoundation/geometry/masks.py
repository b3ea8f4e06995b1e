"""A mask kept as the small array inside its bounding box, so that a scene may hold many of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from rsfoundation.core.task import Window


@dataclass(frozen=True)
class CroppedMask:
    """One object's pixels.

    Attributes:
        left: Column of the scene at which the array begins.
        top: Row of the scene at which it begins.
        bitmap: ``(h, w)`` booleans; its outermost rows and columns hold at least one pixel each.
    """

    left: int
    top: int
    bitmap: np.ndarray

    @classmethod
    def cut_out(cls, mask: np.ndarray, left: int = 0, top: int = 0) -> CroppedMask | None:
        """Crop a mask ``(H, W)`` to its pixels; None when it has none.

        Args:
            mask: The mask.
            left: Column of the scene of the mask's first pixel.
            top: Row of that pixel.
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return None
        bitmap = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(bool)
        return cls(left + int(columns[0]), top + int(rows[0]), bitmap)

    @classmethod
    def union(cls, masks: Sequence[CroppedMask]) -> CroppedMask:
        """Return the pixels that belong to at least one of ``masks``."""
        left, top = min(mask.left for mask in masks), min(mask.top for mask in masks)
        right, bottom = max(mask.right for mask in masks), max(mask.bottom for mask in masks)
        bitmap = np.zeros((bottom - top, right - left), dtype=bool)
        for mask in masks:
            bitmap[mask.top - top : mask.bottom - top, mask.left - left : mask.right - left] |= mask.bitmap
        return cls(left, top, bitmap)

    @property
    def right(self) -> int:
        """Column after the last one."""
        return self.left + self.bitmap.shape[1]

    @property
    def bottom(self) -> int:
        """Row after the last one."""
        return self.top + self.bitmap.shape[0]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """COCO's ``x, y, width, height`` in whole pixels."""
        return self.left, self.top, self.bitmap.shape[1], self.bitmap.shape[0]

    def within(self, region: Window) -> np.ndarray:
        """Return the part of the array that is inside ``region``; empty when they do not meet."""
        rows = slice(max(0, region.top - self.top), max(0, region.top + region.height - self.top))
        columns = slice(max(0, region.left - self.left), max(0, region.left + region.width - self.left))
        return self.bitmap[rows, columns]

    def intersection(self, other: CroppedMask) -> int:
        """Return how many pixels both masks have."""
        shared = common_region(Window(*self.box), Window(*other.box))
        return 0 if shared is None else int((self.within(shared) & other.within(shared)).sum())

    def rle(self, height: int, width: int) -> dict[str, object]:
        """Return COCO's compressed run lengths in an image of ``height`` x ``width``.

        Only the crop is walked: nothing of the image's size is made.

        Args:
            height: Of the image.
            width: Of the image.
        """
        columns, rows = np.nonzero(self.bitmap.T)
        places = (columns + self.left) * height + rows + self.top  # COCO counts column by column
        breaks = np.flatnonzero(np.diff(places) > 1)
        starts = np.concatenate([places[:1], places[breaks + 1]])
        ends = np.concatenate([places[breaks], places[-1:]]) + 1
        edges = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
        counts = np.diff(edges).tolist()
        coded = coco_mask.frPyObjects(dict(size=[height, width], counts=counts), height, width)
        return dict(size=[height, width], counts=coded["counts"].decode())


def common_region(one: Window, other: Window) -> Window | None:
    """Return the rectangle that two rectangles share, or None.

    Args:
        one: A rectangle.
        other: Another one.
    """
    left, top = max(one.left, other.left), max(one.top, other.top)
    width = min(one.left + one.width, other.left + other.width) - left
    height = min(one.top + one.height, other.top + other.height) - top
    return Window(left, top, width, height) if width > 0 and height > 0 else None


def turn_labels(labels: np.ndarray, quarters: int, fill: int) -> np.ndarray:
    """Turn a label map clockwise about its centre, within its own size, by whole quarters.

    Where one side is odd and the other even, an odd number of quarters puts every pixel between two: the one
    to the right, and below, is taken. OpenCV's choice there depends on its version.

    Args:
        labels: ``(H, W)``.
        quarters: Number of quarter turns; negative ones are counterclockwise.
        fill: Label of pixels that nothing covers.
    """
    height, width = labels.shape[:2]
    y, x = np.ogrid[: 2 * height : 2, : 2 * width : 2]  # doubled, so that half pixels are whole numbers
    dy, dx = y - (height - 1), x - (width - 1)
    for _ in range(quarters % 4):  # back to where each pixel comes from
        dy, dx = -dx, dy
    rows, columns = (dy + height) // 2, (dx + width) // 2  # (dy + height - 1 + 1) / 2, rounded down
    rows, columns = np.broadcast_arrays(rows, columns)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    turned = np.full_like(labels, fill)
    turned[inside] = labels[rows[inside], columns[inside]]
    return turned
