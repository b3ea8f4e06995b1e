"""Flips and rotations that move boxes exactly as they move pixels.

mmdet maps x to ``W - x`` and mmrotate, 0.x and 1.x alike, turns boxes about ``W / 2``, while the images
follow pixel centres (``W - 1 - x`` and ``(W - 1) / 2``): boxes end up to a pixel off. ``compat`` brings
the shifts of a version back, for comparison with detectors trained there.
"""

from collections.abc import Sequence
from typing import Literal

import mmdet.datasets.transforms as mmdet_transforms
import mmrotate.datasets.transforms as mmrotate_transforms
import numpy as np

from rsfoundation.registry import TRANSFORMS

Compat = Literal["0.x", "1.x"]
_ANNOTATIONS = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags")
_LEAST_SIDE = 5.0  # pixels; mmrotate 0.x drops rectangles with a side of this or less after rotating


@TRANSFORMS.register_module()
class RandomFlip(mmdet_transforms.RandomFlip):
    """``mmdet.RandomFlip`` with boxes mirrored about the middle of the pixel grid.

    Args:
        *args: Passed to mmdet's.
        compat: ``1.x`` mirrors boxes about ``W / 2`` as mmdet does; 0.x was exact.
        **kwargs: Passed to mmdet's.
    """

    def __init__(self, *args: object, compat: Compat | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.compat = compat

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        direction = results["flip_direction"]
        if "gt_bboxes" in results and self.compat != "1.x":
            dx = -1.0 if direction in ("horizontal", "diagonal") else 0.0
            dy = -1.0 if direction in ("vertical", "diagonal") else 0.0
            results["gt_bboxes"].translate_((dx, dy))


@TRANSFORMS.register_module()
class Rotate(mmrotate_transforms.Rotate):
    """``mmrotate.Rotate`` with boxes turned about the same point as the image.

    Args:
        *args: Passed to mmrotate's.
        compat: Either version turns boxes about ``W / 2``, half a pixel from the image's centre.
        **kwargs: Passed to mmrotate's.
    """

    def __init__(self, *args: object, compat: Compat | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.compat = compat

    def _transform_bboxes(self, results: dict) -> None:
        height, width = results["img_shape"][:2]
        pixel = 0 if self.compat else 1
        results["gt_bboxes"].rotate_(((width - pixel) * 0.5, (height - pixel) * 0.5), self.rotate_angle)


@TRANSFORMS.register_module()
class RandomRotate(mmrotate_transforms.RandomRotate):
    """``mmrotate.RandomRotate`` over :class:`Rotate`; boxes whose centre leaves the image are dropped.

    As in mmrotate 0.x, narrow boxes are dropped whether the image was turned or not, and an image that
    loses all its boxes gives way to another one.

    Args:
        prob: Of turning.
        angle_range: Degrees to either side.
        rect_obj_labels: An image with one of these labels turns by right angles; ``None`` takes the
            ``upright_classes`` of the data set.
        min_side: Boxes with a side of this many pixels or less are dropped; ``None``: 5, and 0 under
            ``compat='1.x'``.
        resample_empty: Make an image that lost all its boxes here give way to another of the data set;
            ``None``: do, but not under ``compat='1.x'``.
        compat: Move and drop boxes as mmrotate of that version does.
    """

    def __init__(
        self,
        prob: float = 0.5,
        angle_range: int = 180,
        rect_obj_labels: Sequence[int] | None = None,
        min_side: float | None = None,
        resample_empty: bool | None = None,
        compat: Compat | None = None,
    ) -> None:
        super().__init__(prob, angle_range, rect_obj_labels, rotate_type="rsfoundation.Rotate", compat=compat)
        newer = compat == "1.x"
        self.min_side = (0.0 if newer else _LEAST_SIDE) if min_side is None else min_side
        self.resample_empty = not newer if resample_empty is None else resample_empty

    def transform(self, results: dict) -> dict | None:
        """Turn image and boxes; ``None`` asks the data set for another image."""
        before = len(results.get("gt_bboxes", ()))
        if self._is_rotate():
            self.rotate.rotate_angle = self._angle(results)
            results = self.rotate(results)
        results = drop_narrow(results, self.min_side)
        emptied = before and not len(results["gt_bboxes"])
        return None if emptied and self.resample_empty else results

    def _angle(self, results: dict) -> float:
        upright = results.get("upright_labels", ()) if self.rect_obj_labels is None else self.rect_obj_labels
        if np.isin(results.get("gt_bboxes_labels", ()), list(upright)).any():
            return float(self._random_horizontal_angle())
        return float(self._random_angle())


def drop_narrow(results: dict, min_side: float) -> dict:
    """Drop rotated boxes with a side of ``min_side`` pixels or less, with their labels and flags.

    Args:
        results: Of a pipeline, with ``gt_bboxes``.
        min_side: In pixels.
    """
    if "gt_bboxes" in results and len(results["gt_bboxes"]):
        keep = (results["gt_bboxes"].tensor[:, 2:4].amin(dim=1) > min_side).numpy()
        results.update({key: results[key][keep] for key in _ANNOTATIONS if key in results})
    return results
