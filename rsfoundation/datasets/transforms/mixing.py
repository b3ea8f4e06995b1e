"""Augmentation that composes several images of a data set into one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import BaseDataset, Compose
from numpy.typing import NDArray

from rsfoundation.core.errors import ConfigError
from rsfoundation.registry import TRANSFORMS

Results = dict[str, Any]
_INSTANCE_KEYS = ("gt_masks", "gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags")


class MixingTransform(BaseTransform):
    """Base of transforms that compose an image with others, whose results are in ``mix_results``.

    Args:
        prob: Probability of composing.
        others: How many other images there are.
    """

    def __init__(self, prob: float, others: int) -> None:
        self.prob, self.others = prob, others

    def draw(self, count: int) -> list[int]:
        """Return which samples to compose with, or none.

        Args:
            count: Samples of the data set.
        """
        chosen = np.random.rand() < self.prob
        return np.random.randint(0, count, self.others).tolist() if chosen else []


def prepare_mixed(dataset: BaseDataset, prepare: Callable[[int], Any], idx: int) -> Any:
    """Return a sample after the pipeline of a data set; a :class:`MixingTransform` gets further samples.

    The steps before that transform run for each of the samples.

    Args:
        dataset: The data set.
        prepare: Its own way, for pipelines without such a transform.
        idx: Of the sample.
    """
    steps = dataset.pipeline.transforms
    place = next((index for index, step in enumerate(steps) if isinstance(step, MixingTransform)), None)
    if place is None:
        return prepare(idx)
    loading, rest = Compose(steps[:place]), Compose(steps[place:])
    loaded = [loading(dataset.get_data_info(one)) for one in (idx, *steps[place].draw(len(dataset)))]
    if any(one is None for one in loaded):
        return None
    return rest({**loaded[0], "mix_results": loaded[1:]})


@TRANSFORMS.register_module()
class InstanceMosaic(MixingTransform):
    """Replace an image by a mosaic of itself and three others, turned, scaled, sheared and cropped.

    Each image is scaled to fit into ``scale`` with its proportions and has one corner at the centre of a
    canvas of twice that size; a random affine map brings the middle of the canvas to an image of ``scale``:
    mmdet's ``Mosaic`` and ``RandomAffine`` in one step, with the masks of objects, which those lack. RS4D
    trains its variant "pa11" with mosaics and affine maps.

    Place it after the loading steps of a :class:`~rsfoundation.datasets.instance.CocoInstanceDataset`, which
    runs these steps for the other three. Boxes are those of the masks afterwards; objects of which nothing
    is left are dropped.

    Args:
        scale: Width and height of the result in pixels.
        prob: Probability of a mosaic; without one the image stays as it is.
        center_range: Range of the centre, as a fraction of ``scale`` from the corner of the canvas.
        rotation: Largest angle in degrees.
        translation: Largest shift, as a fraction of ``scale``.
        scaling: Range of the scale factor.
        shear: Largest shear in degrees.
        pad_value: Value of pixels that no image covers.

    Raises:
        ConfigError: ``scaling`` is not a range above 0.
    """

    def __init__(
        self,
        scale: tuple[int, int],
        prob: float = 0.5,
        center_range: tuple[float, float] = (0.5, 1.5),
        rotation: float = 10.0,
        translation: float = 0.1,
        scaling: tuple[float, float] = (0.5, 1.5),
        shear: float = 2.0,
        pad_value: float = 114,
    ) -> None:
        super().__init__(prob, others=3)
        if not 0 < scaling[0] <= scaling[1]:
            raise ConfigError(
                f"scaling is {scaling}; expected the smallest and the largest factor, above 0",
                where="InstanceMosaic: scaling",
                fix="scaling=(0.5, 1.5)",
            )
        self.width, self.height = scale
        self.center_range, self.scaling = center_range, scaling
        self.rotation, self.translation, self.shear = rotation, translation, shear
        self.pad_value = pad_value

    def transform(self, results: Results) -> Results:
        """Compose one results dict with those of ``mix_results``, where there are some."""
        others = results.pop("mix_results", None)
        if not others:
            return results
        images = [results, *others]
        center = np.random.uniform(*self.center_range, 2) * (self.width, self.height)
        affine = self._affine()
        size = (self.width, self.height)
        bands = results["img"].shape[2:]
        canvas = np.full((self.height, self.width, *bands), self.pad_value, results["img"].dtype)
        masks, labels, flags = [], [], []
        for place, source in enumerate(images):
            matrix = (affine @ self._placing(source["img"].shape[:2], center, place))[:2]
            canvas = _paste(canvas, source["img"], matrix)
            found = [cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST) for mask in _bitmaps(source)]
            masks.append(np.array(found, np.uint8).reshape(-1, self.height, self.width))
            labels.append(source["gt_bboxes_labels"])
            flags.append(source["gt_ignore_flags"])
        return self._collect(results, canvas, np.concatenate(masks), labels, flags)

    def _collect(
        self,
        results: Results,
        canvas: NDArray[Any],
        masks: NDArray[np.uint8],
        labels: Sequence[NDArray[np.int64]],
        flags: Sequence[NDArray[np.bool_]],
    ) -> Results:
        seen = masks.any(axis=(1, 2)) if len(masks) else np.zeros(0, bool)
        kept = BitmapMasks(masks[seen], self.height, self.width)
        results.update(
            img=canvas,
            img_shape=(self.height, self.width),
            gt_masks=kept,
            gt_bboxes=kept.get_bboxes(HorizontalBoxes)
            if seen.any()
            else HorizontalBoxes(torch.zeros((0, 4))),
            gt_bboxes_labels=np.concatenate(labels)[seen],
            gt_ignore_flags=np.concatenate(flags)[seen],
        )
        for key in ("scale_factor", "flip", "flip_direction", "homography_matrix"):
            results.pop(key, None)
        return results

    def _placing(self, shape: tuple[int, int], center: NDArray[Any], place: int) -> NDArray[np.float64]:
        """Return the map of pixels of an image to those of the canvas; ``place`` counts by rows."""
        height, width = shape
        factor = min(self.width / width, self.height / height)
        left = center[0] - (factor * width if place % 2 == 0 else 0)
        top = center[1] - (factor * height if place < 2 else 0)
        # pixel centres are whole numbers: the corner of the image is at -0.5
        shift = 0.5 * factor - 0.5
        return np.array([[factor, 0, left + shift], [0, factor, top + shift], [0, 0, 1]])

    def _affine(self) -> NDArray[np.float64]:
        """Return a random map of the canvas, about its middle, to the result."""
        angle = math.radians(np.random.uniform(-self.rotation, self.rotation))
        factor = np.random.uniform(*self.scaling)
        shear = np.tan(np.radians(np.random.uniform(-self.shear, self.shear, 2)))
        shift = np.random.uniform(-self.translation, self.translation, 2) * (self.width, self.height)
        turn = factor * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = np.array([[1, shear[0]], [shear[1], 1]]) @ turn
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        middle = np.array([self.width - 0.5, self.height - 0.5])
        matrix[:2, 2] = (middle - 0.5) / 2 - linear @ middle + shift
        return matrix


def _paste(canvas: NDArray[Any], image: NDArray[Any], matrix: NDArray[np.float64]) -> NDArray[Any]:
    """Return a canvas with the part of it that an affine map of an image covers replaced."""
    size = (canvas.shape[1], canvas.shape[0])
    warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    covered = cv2.warpAffine(np.ones(image.shape[:2], np.uint8), matrix, size, flags=cv2.INTER_NEAREST)
    warped = warped.reshape(canvas.shape)
    return np.where(covered.astype(bool).reshape(*covered.shape, *[1] * (canvas.ndim - 2)), warped, canvas)


def _bitmaps(results: Results) -> NDArray[np.uint8]:
    """Return the masks of a results dict, ``(n, H, W)``.

    Raises:
        ConfigError: The loading steps before load no masks, boxes and labels.
    """
    missing = [key for key in _INSTANCE_KEYS if key not in results]
    if missing:
        raise ConfigError(
            f"a mosaic needs {missing[0]}, which the steps before it do not load",
            where="InstanceMosaic",
            fix="place it after LoadAnnotations(with_bbox=True, with_mask=True)",
        )
    masks = results["gt_masks"]
    if not len(masks):
        return np.zeros((0, *results["img"].shape[:2]), np.uint8)
    return masks.to_ndarray().astype(np.uint8)  # polygons give booleans, which OpenCV does not warp
