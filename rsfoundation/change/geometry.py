"""Geometric transforms of two dates and their labels, under Open-CD's names.

Parameters are those of the mmcv or mmseg transform without the prefix ``MultiImg``; both dates and
every label map in ``seg_fields`` are moved alike.
"""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, Pad, RandomResize
from mmseg.datasets.transforms import (
    RandomCrop,
    RandomCutOut,
    RandomFlip,
    RandomRotate,
    Resize,
    ResizeShortestEdge,
    ResizeToMultiple,
)

from rsfoundation.change.pairwise import Results, SameDraw
from rsfoundation.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiImgResize(SameDraw, Resize):
    """Resize to ``scale`` (width, height) or by ``scale_factor``; labels by nearest neighbour."""


@TRANSFORMS.register_module()
class MultiImgResizeShortestEdge(SameDraw, ResizeShortestEdge):
    """Resize the shorter side to ``scale``, the longer one never above ``max_size``."""


@TRANSFORMS.register_module()
class MultiImgResizeToMultiple(SameDraw, ResizeToMultiple):
    """Resize both sides up to multiples of ``size_divisor``."""


@TRANSFORMS.register_module()
class MultiImgRandomResize(RandomResize):
    """Resize by a random ratio; ``resize_kwargs`` go to ``resize_type``."""

    def __init__(
        self,
        scale: Any,
        ratio_range: tuple[float, float] | None = None,
        resize_type: str = "MultiImgResize",
        **resize_kwargs: Any,
    ) -> None:
        BaseTransform.__init__(self)
        self.scale = scale
        self.ratio_range = ratio_range
        self.resize_cfg = dict(type=resize_type, scale=0, **resize_kwargs)
        self.resize = TRANSFORMS.build(self.resize_cfg)


@TRANSFORMS.register_module()
class MultiImgRandomCrop(SameDraw, RandomCrop):
    """Cut one box; redrawn up to ten times while a class covers ``cat_max_ratio`` or is alone."""


@TRANSFORMS.register_module()
class MultiImgRandomFlip(SameDraw, RandomFlip):
    """Flip in ``direction``: horizontal, vertical, diagonal, or a list to choose from."""


@TRANSFORMS.register_module()
class MultiImgRandomRotate(SameDraw, RandomRotate):
    """Rotate by an angle of ``degree``; uncovered label pixels become ``seg_pad_val``."""


@TRANSFORMS.register_module()
class MultiImgRandomCutOut(SameDraw, RandomCutOut):
    """Blank the same random holes in both dates."""


@TRANSFORMS.register_module()
class MultiImgPad(SameDraw, Pad):
    """Pad right and bottom; labels are padded with ``pad_val['seg']``."""

    def _pad_seg(self, results: Results) -> None:
        """Pad every label map, where mmcv pads ``gt_seg_map`` alone."""
        for key in results.get("seg_fields", []):
            results[key] = mmcv.impad(
                results[key],
                shape=results["pad_shape"][:2],
                pad_val=self.pad_val.get("seg", 255),
                padding_mode=self.padding_mode,
            )


class _RotFlip(BaseTransform):
    """Rotates by any angle, or else by quarter turns and a flip; labels keep their values."""

    def __init__(
        self,
        rotate_prob: float = 0.5,
        flip_prob: float = 0.5,
        degree: float | tuple[float, float] = (-20, 20),
        pad_val: int = 0,
        seg_pad_val: int = 255,
    ) -> None:
        self.rotate_prob, self.flip_prob = rotate_prob, flip_prob
        self.lowest, self.highest = (-degree, degree) if isinstance(degree, (int, float)) else degree
        self.pad_val, self.seg_pad_val = pad_val, seg_pad_val

    def transform(self, results: Results) -> Results | None:
        if np.random.rand() < self.rotate_prob:
            return self._rotate(results, np.random.uniform(self.lowest, self.highest))
        if np.random.rand() < self.flip_prob:
            return self._turn(results, np.random.randint(4), np.random.randint(2))
        return results

    def _rotate(self, results: Results, angle: float) -> Results:
        results["img"] = mmcv.imrotate(results["img"], angle, border_value=self.pad_val)
        for key in results.get("seg_fields", []):
            results[key] = mmcv.imrotate(
                results[key], angle, border_value=self.seg_pad_val, interpolation="nearest"
            )
        return results

    def _turn(self, results: Results, quarters: int, axis: int) -> Results:
        for key in ("img", *results.get("seg_fields", [])):
            results[key] = np.ascontiguousarray(np.flip(np.rot90(results[key], quarters), axis))
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class MultiImgRandomRotFlip(SameDraw, _RotFlip):
    """With ``rotate_prob`` rotate by ``degree``; otherwise with ``flip_prob`` quarter turns and a flip."""
