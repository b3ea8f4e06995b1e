"""Colour transforms of two dates, and the exchange of the dates, under Open-CD's names."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Normalize
from mmseg.datasets.transforms import CLAHE, AdjustGamma, PhotoMetricDistortion, Rerange, RGB2Gray

from rsfoundation.change.pairwise import OwnDraw, Results
from rsfoundation.registry import TRANSFORMS


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
    """Swap the dates, and their semantic labels where there are any; what changed stays.

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
