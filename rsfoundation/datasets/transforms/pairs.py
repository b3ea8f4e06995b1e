"""Transforms of two dates: geometry and photometry of Open-CD's pipelines."""

from __future__ import annotations

from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, Normalize, Pad, RandomResize
from mmseg.datasets.transforms import (
    CLAHE,
    AdjustGamma,
    PhotoMetricDistortion,
    RandomCrop,
    RandomCutOut,
    RandomFlip,
    RandomRotate,
    Rerange,
    Resize,
    ResizeShortestEdge,
    ResizeToMultiple,
    RGB2Gray,
)

from rsfoundation.geometry.masks import turn_labels
from rsfoundation.registry import TRANSFORMS

Results = dict[str, Any]


class SameDraw(BaseTransform):
    """Mixin before a single-image transform: runs it on each date from the same random state.

    Labels go through it with each date, so that a draw that looks at them (such as a crop that avoids
    one-class patches) comes out the same; those of the first run are kept.
    """

    def transform(self, results: Results) -> Results | None:
        """Transform both dates of ``results['img']`` and every label in ``seg_fields`` alike."""
        before, after = results["img"]
        state = np.random.get_state()
        first = super().transform({**results, "img": before})
        np.random.set_state(state)
        second = super().transform({**results, "img": after})
        if first is None or second is None:
            return None
        return {**first, "img": [first["img"], second["img"]]}


class OwnDraw(BaseTransform):
    """Mixin before a single-image transform that leaves labels alone: each date draws for itself."""

    def transform(self, results: Results) -> Results | None:
        """Transform each date of ``results['img']``."""
        single = super().transform
        return {**results, "img": [single({**results, "img": image})["img"] for image in results["img"]]}


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
    """Crop one box; redrawn up to ten times while a class covers ``cat_max_ratio`` or is alone."""


@TRANSFORMS.register_module()
class MultiImgRandomFlip(SameDraw, RandomFlip):
    """Flip in ``direction``: horizontal, vertical, diagonal, or a list to choose from."""


def rotate_labels(labels: np.ndarray, angle: float, fill: int) -> np.ndarray:
    """Rotate a label map clockwise about its centre by nearest neighbour; quarter turns are exact.

    Args:
        labels: ``(H, W)``.
        angle: In degrees.
        fill: Label of pixels that nothing covers.
    """
    if angle % 90 == 0:
        return turn_labels(labels, round(angle / 90), fill)
    return mmcv.imrotate(labels, angle, border_value=fill, interpolation="nearest")


class _Rotate(RandomRotate):
    """``RandomRotate`` whose labels are exact where it draws quarter turns about the centre."""

    def generate_degree(self) -> tuple[bool, float]:
        self._drawn = super().generate_degree()
        return self._drawn

    def transform(self, results: Results) -> Results | None:
        labels = {key: results[key] for key in results.get("seg_fields", [])}
        results = super().transform(results)
        rotated, angle = self._drawn
        if rotated and angle % 90 == 0 and self.center is None and not self.auto_bound:
            results.update({key: rotate_labels(one, angle, self.seg_pad_val) for key, one in labels.items()})
        return results


@TRANSFORMS.register_module()
class MultiImgRandomRotate(SameDraw, _Rotate):
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
            results[key] = rotate_labels(results[key], angle, self.seg_pad_val)
        return results

    def _turn(self, results: Results, quarters: int, axis: int) -> Results:
        for key in ("img", *results.get("seg_fields", [])):
            results[key] = np.ascontiguousarray(np.flip(np.rot90(results[key], quarters), axis))
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class MultiImgRandomRotFlip(SameDraw, _RotFlip):
    """With ``rotate_prob`` rotate by ``degree``; otherwise with ``flip_prob`` quarter turns and a flip."""


class _CropAndEnlarge(BaseTransform):
    """With probability ``prob`` enlarges a part to the size of the whole; subclasses draw the part."""

    prob: float

    def draw_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return top, bottom, left and right of the part."""
        raise NotImplementedError

    def transform(self, results: Results) -> Results | None:
        if np.random.rand() >= self.prob:
            return results
        height, width = results["img"].shape[:2]
        top, bottom, left, right = self.draw_part(height, width)
        for key in ("img", *results.get("seg_fields", [])):
            interpolation = "bilinear" if key == "img" else "nearest"
            part = np.ascontiguousarray(results[key][top:bottom, left:right])
            results[key] = mmcv.imresize(part, (width, height), interpolation=interpolation)
        return results


class _BorderCrop(_CropAndEnlarge):
    def __init__(self, prob: float = 0.5, max_border: int = 8) -> None:
        self.prob, self.max_border = prob, max_border

    def draw_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        top, bottom, left, right = np.random.randint(self.max_border + 1, size=4)
        return top, height - bottom, left, width - right


@TRANSFORMS.register_module()
class MultiImgRandomBorderCrop(SameDraw, _BorderCrop):
    """With ``prob`` cut 0 to ``max_border`` pixels off each side and enlarge what is left (A2Net)."""


class _ResizedCrop(_CropAndEnlarge):
    def __init__(
        self,
        prob: float = 0.5,
        scale: tuple[float, float] = (1 / 3, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.prob, self.scale, self.ratio = prob, scale, ratio

    def draw_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        share = np.random.uniform(*self.scale)
        stretch = np.exp(np.random.uniform(*np.log(self.ratio)))
        rows = int(np.clip(round(height * (share / stretch) ** 0.5), 1, height))
        columns = int(np.clip(round(width * (share * stretch) ** 0.5), 1, width))
        top, left = np.random.randint(height - rows + 1), np.random.randint(width - columns + 1)
        return top, top + rows, left, left + columns


@TRANSFORMS.register_module()
class MultiImgRandomResizedCrop(SameDraw, _ResizedCrop):
    """With ``prob`` enlarge a part to the size of the whole.

    The part has a share of the area in ``scale``, and is ``ratio`` times as wide as the whole is.
    """


@TRANSFORMS.register_module()
class MultiImgPhotoMetricDistortion(PhotoMetricDistortion):
    """Brightness, contrast, saturation and hue, drawn for each date by itself.

    Two dates differ in season, sun and sensor; drawing apart teaches that such differences are no change.

    Args:
        consistent_contrast_mode: Whether contrast comes at the same place of the order for both dates.
        **kwargs: As for mmseg's ``PhotoMetricDistortion``.
    """

    def __init__(self, consistent_contrast_mode: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.consistent_contrast_mode = consistent_contrast_mode

    def transform(self, results: Results) -> Results:
        """Distort each date of ``results['img']``."""
        contrast_last = [bool(np.random.randint(2)) for _ in results["img"]]
        if self.consistent_contrast_mode:
            contrast_last = contrast_last[:1] * len(contrast_last)
        images = [
            self._distort(image, last) for image, last in zip(results["img"], contrast_last, strict=True)
        ]
        return {**results, "img": images}

    def _distort(self, image: np.ndarray, contrast_last: bool) -> np.ndarray:
        image = self.brightness(image)
        if not contrast_last:
            image = self.contrast(image)
        image = self.hue(self.saturation(image))
        return self.contrast(image) if contrast_last else image


@TRANSFORMS.register_module()
class MultiImgExchangeTime(BaseTransform):
    """Swap the dates, and their semantic labels where there are any; the change label stays.

    Args:
        prob: Probability of the swap.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: Results) -> Results:
        """Swap with the given probability."""
        if np.random.rand() >= self.prob:
            return results
        swapped = {**results, "img": results["img"][::-1]}
        if "gt_seg_map_from" in results and "gt_seg_map_to" in results:
            swapped["gt_seg_map_from"] = results["gt_seg_map_to"]
            swapped["gt_seg_map_to"] = results["gt_seg_map_from"]
        return swapped


@TRANSFORMS.register_module()
class MultiImgNormalize(OwnDraw, Normalize):
    """Normalise in the pipeline; as a rule the data preprocessor does it."""


@TRANSFORMS.register_module()
class MultiImgRerange(OwnDraw, Rerange):
    """Stretch each date's values to a range."""


@TRANSFORMS.register_module()
class MultiImgCLAHE(OwnDraw, CLAHE):
    """Equalise each date's histogram locally."""


@TRANSFORMS.register_module()
class MultiImgRGB2Gray(OwnDraw, RGB2Gray):
    """Turn each date into grey values."""


@TRANSFORMS.register_module()
class MultiImgAdjustGamma(OwnDraw, AdjustGamma):
    """Correct each date's gamma."""
