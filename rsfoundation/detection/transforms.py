"""Flips and rotations that move boxes exactly as they move pixels.

mmdet maps x to ``W - x`` and mmrotate turns boxes about ``W / 2``, while the images follow pixel centres
(``W - 1 - x`` and ``(W - 1) / 2``): boxes end up to a pixel off. mmrotate 0.x, which the published
detectors were trained with, had no such shift.
"""

import mmdet.datasets.transforms as mmdet_transforms
import mmrotate.datasets.transforms as mmrotate_transforms

from rsfoundation.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomFlip(mmdet_transforms.RandomFlip):
    """``mmdet.RandomFlip`` with boxes mirrored about the middle of the pixel grid."""

    def _flip(self, results: dict) -> None:
        super()._flip(results)
        direction = results["flip_direction"]
        if "gt_bboxes" in results:
            dx = -1.0 if direction in ("horizontal", "diagonal") else 0.0
            dy = -1.0 if direction in ("vertical", "diagonal") else 0.0
            results["gt_bboxes"].translate_((dx, dy))


@TRANSFORMS.register_module()
class Rotate(mmrotate_transforms.Rotate):
    """``mmrotate.Rotate`` with boxes turned about the same point as the image."""

    def _transform_bboxes(self, results: dict) -> None:
        height, width = results["img_shape"][:2]
        results["gt_bboxes"].rotate_(((width - 1) * 0.5, (height - 1) * 0.5), self.rotate_angle)


@TRANSFORMS.register_module()
class RandomRotate(mmrotate_transforms.RandomRotate):
    """``mmrotate.RandomRotate`` over :class:`Rotate`; boxes whose centre leaves the image are dropped."""

    def __init__(
        self, prob: float = 0.5, angle_range: int = 180, rect_obj_labels: list[int] | None = None
    ) -> None:
        super().__init__(prob, angle_range, rect_obj_labels, rotate_type="rsfoundation.Rotate")
