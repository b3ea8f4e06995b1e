"""Transforms of scene recognition and pretraining, for images of any number of bands."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement

from rsfoundation.core.errors import ConfigError
from rsfoundation.io.loading import PixelRange
from rsfoundation.io.rasters import RasterReader
from rsfoundation.registry import TRANSFORMS

_TRIES = 10
_OPENCV_CHANNELS = 4  # that its warps take at once
_FULL = 10.0  # magnitude at which an operation is at its strongest
_META_KEYS = ("img_path", "img_shape", "ori_shape", "window", "sample_idx", "image_key")


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut a random part of the image and resize it.

    Shrinking averages the pixels of the part (``INTER_AREA``), enlarging interpolates linearly.

    Args:
        size: Side of the result, or its height and width.
        scale: Least and largest share of the image's area.
        ratio: Least and largest ratio of width to height.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = _pair(size)
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])

    def transform(self, results: dict) -> dict:
        """Replace ``img`` and ``img_shape``."""
        image = results["img"]
        top, left, height, width = self._part(*image.shape[:2])
        results["img"] = resize(image[top : top + height, left : left + width], self.size)
        results["img_shape"] = self.size
        return results

    def _part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a part: top, left, height, width; where none fits, the largest central one."""
        for _ in range(_TRIES):
            area = height * width * np.random.uniform(*self.scale)
            ratio = math.exp(np.random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                top = int(np.random.randint(height - tall + 1))
                return top, int(np.random.randint(width - wide + 1)), tall, wide
        wide = min(width, round(height * self.ratio[1]))
        tall = min(height, round(width / self.ratio[0]))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image of any number of bands; shrinking averages.

    Args:
        image: ``(H, W, C)``.
        size: Height and width of the result.
    """
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _by_channels(image, lambda part: cv2.resize(part, size[::-1], interpolation=method))


def _by_channels(image: np.ndarray, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Apply a function of OpenCV to at most four channels at a time."""
    count = image.shape[2]
    if count <= _OPENCV_CHANNELS:
        done = work(image)
        return done if done.ndim == 3 else done[..., None]
    starts = range(0, count, _OPENCV_CHANNELS)
    parts = [work(np.ascontiguousarray(image[..., start : start + _OPENCV_CHANNELS])) for start in starts]
    return np.concatenate([part if part.ndim == 3 else part[..., None] for part in parts], axis=2)


@TRANSFORMS.register_module()
class CentralCrop(BaseTransform):
    """Resize the central square, as classifiers are tested.

    Args:
        size: Side of the result.
        share: Side of the square as a share of the shorter side of the image.
    """

    def __init__(self, size: int, share: float = 0.875) -> None:
        self.size, self.share = _pair(size), share

    def transform(self, results: dict) -> dict:
        """Replace ``img`` and ``img_shape``."""
        image = results["img"]
        side = max(1, round(min(image.shape[:2]) * self.share))
        top, left = ((length - side) // 2 for length in image.shape[:2])
        results["img"] = resize(image[top : top + side, left : left + side], self.size)
        results["img_shape"] = self.size
        return results


Operation = Callable[[np.ndarray, float], np.ndarray]


def _table(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Map values by a table of 256 entries, or by one per band ``(256, C)``."""
    if table.ndim == 1:
        return np.ascontiguousarray(cv2.LUT(image, table)).reshape(image.shape)
    return np.stack([cv2.LUT(image[..., band], table[:, band]) for band in range(image.shape[2])], axis=2)


_VALUES = np.arange(256, dtype=np.float32)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _blend(image: np.ndarray, other: np.ndarray, factor: float) -> np.ndarray:
    """Return ``other`` for 0, the image for 1, beyond it for more."""
    return _bytes(other + (image.astype(np.float32) - other) * np.float32(factor))


def _factor(strength: float) -> float:
    return 1 + _signed(0.9 * strength)


def _signed(value: float) -> float:
    return -value if np.random.random() < 0.5 else value


def _auto_contrast(image: np.ndarray, strength: float) -> np.ndarray:
    low = image.min(axis=(0, 1)).astype(np.float32)
    span = np.maximum(image.max(axis=(0, 1)) - low, 1)
    return _table(image, _bytes((_VALUES[:, None] - low) * (255 / span)))


def _equalize(image: np.ndarray, strength: float) -> np.ndarray:
    planes = [cv2.equalizeHist(np.ascontiguousarray(image[..., band])) for band in range(image.shape[2])]
    return np.stack(planes, axis=2)


def _invert(image: np.ndarray, strength: float) -> np.ndarray:
    return 255 - image


def _posterize(image: np.ndarray, strength: float) -> np.ndarray:
    bits = 4 - int(strength * 4)
    return image & np.uint8(0xFF << (8 - bits) & 0xFF)


def _solarize(image: np.ndarray, strength: float) -> np.ndarray:
    limit = 256 - int(strength * 256)
    return _table(image, _bytes(np.where(limit > _VALUES, _VALUES, 255 - _VALUES)))


def _solarize_add(image: np.ndarray, strength: float) -> np.ndarray:
    return _table(image, _bytes(np.where(_VALUES < 128, _VALUES + strength * 110, _VALUES)))


def _color(image: np.ndarray, strength: float) -> np.ndarray:
    grey = image.astype(np.float32).mean(axis=2, keepdims=True)
    return _blend(image, grey, _factor(strength))


def _contrast(image: np.ndarray, strength: float) -> np.ndarray:
    mean, factor = float(image.mean()), _factor(strength)
    return _table(image, _bytes(mean + (_VALUES - mean) * factor))


def _brightness(image: np.ndarray, strength: float) -> np.ndarray:
    return _table(image, _bytes(_VALUES * _factor(strength)))


def _sharpness(image: np.ndarray, strength: float) -> np.ndarray:
    smooth = _by_channels(image, lambda part: cv2.blur(part, (3, 3)))
    return _blend(image, smooth.astype(np.float32), _factor(strength))


def _warp(image: np.ndarray, matrix: Sequence[Sequence[float]]) -> np.ndarray:
    size, made = image.shape[1::-1], np.asarray(matrix, dtype=np.float64)
    border: dict[str, Any] = dict(borderMode=cv2.BORDER_CONSTANT, borderValue=(124,) * _OPENCV_CHANNELS)
    return _by_channels(
        image, lambda part: cv2.warpAffine(part, made, size, flags=cv2.INTER_LINEAR, **border)
    )


def _rotate(image: np.ndarray, strength: float) -> np.ndarray:
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    return _warp(image, cv2.getRotationMatrix2D(centre, _signed(30 * strength), 1.0).tolist())


def _shear_x(image: np.ndarray, strength: float) -> np.ndarray:
    return _warp(image, ((1, _signed(0.3 * strength), 0), (0, 1, 0)))


def _shear_y(image: np.ndarray, strength: float) -> np.ndarray:
    return _warp(image, ((1, 0, 0), (_signed(0.3 * strength), 1, 0)))


def _move_x(image: np.ndarray, strength: float) -> np.ndarray:
    return _warp(image, ((1, 0, _signed(0.45 * strength) * image.shape[1]), (0, 1, 0)))


def _move_y(image: np.ndarray, strength: float) -> np.ndarray:
    return _warp(image, ((1, 0, 0), (0, 1, _signed(0.45 * strength) * image.shape[0])))


_OPERATIONS: tuple[Operation, ...] = (
    *(_auto_contrast, _equalize, _invert, _rotate, _posterize, _solarize, _solarize_add, _color),
    *(_contrast, _brightness, _sharpness, _shear_x, _shear_y, _move_x, _move_y),
)


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """Apply a few operations drawn from fifteen (RandAugment, arXiv 1909.13719, with timm's settings).

    The defaults are timm's ``rand-m9-mstd0.5-inc1``, which the published recipes use. Operations work on
    images of any number of bands.

    Args:
        magnitude: Strength from 0 to 10.
        deviation: Standard deviation of the strength.
        count: Operations drawn for each image.
        probability: That a drawn operation is applied.
    """

    def __init__(
        self, magnitude: float = 9.0, deviation: float = 0.5, count: int = 2, probability: float = 0.5
    ) -> None:
        self.magnitude, self.deviation = magnitude, deviation
        self.count, self.probability = count, probability

    def transform(self, results: dict) -> dict:
        """Replace ``img``, which must be ``uint8``."""
        image = results["img"]
        if image.dtype != np.uint8:
            raise ConfigError(
                f"RandAugment works on 8-bit images, found {image.dtype}",
                where="RandAugment of the pipeline",
                fix="give the loading step a pixel_range, without to_float32; or leave RandAugment out",
            )
        for index in np.random.randint(len(_OPERATIONS), size=self.count):
            strength = float(np.clip(np.random.normal(self.magnitude, self.deviation), 0, _FULL) / _FULL)
            if np.random.random() < self.probability:
                image = _OPERATIONS[index](image, strength)
        results["img"] = np.ascontiguousarray(image)
        return results


@TRANSFORMS.register_module()
class LoadBandFiles(BaseTransform):
    """Load a folder with one raster per band as one image, ``<folder>/<folder name>_<band>.tif``.

    Bands of other pixel sizes are resized to the first one.

    Args:
        bands: Ends of the file names, in the model's order.
        pixel_range: Values that become 0 and 255, as ``uint8``; without it, values stay as they
            are, ``float32``.
    """

    def __init__(self, bands: Sequence[str], pixel_range: Any = None) -> None:
        self.bands = tuple(bands)
        self.pixel_range = None if pixel_range is None else PixelRange.parse(pixel_range)

    def transform(self, results: dict) -> dict:
        """Give ``img``, ``img_shape`` and ``ori_shape`` for the folder ``img_path``.

        Raises:
            DataError: A band is missing or cannot be read.
        """
        folder = Path(results["img_path"])
        planes: list[np.ndarray] = []
        for band in self.bands:
            with RasterReader(folder / f"{folder.name}_{band}.tif") as reader:
                plane = reader.read()[..., :1].astype(np.float32)
            planes.append(resize(plane, planes[0].shape[:2]) if planes else plane)
        image = np.concatenate(planes, axis=2)
        if self.pixel_range is not None:
            image = np.rint(self.pixel_range.apply(image)).astype(np.uint8)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


@TRANSFORMS.register_module()
class ImageKey(BaseTransform):
    """Give an image the hash of its pixels as ``image_key``: features of a cache are found by it.

    It comes after every step that changes pixels; equal pixels, size included, have equal keys.
    """

    def transform(self, results: dict) -> dict[str, Any]:
        """Add ``image_key``, 32 hex digits."""
        pixels = np.ascontiguousarray(results["img"])
        digest = hashlib.blake2b(f"{pixels.dtype} {pixels.shape}".encode(), digest_size=16)
        digest.update(pixels.data)
        results["image_key"] = digest.hexdigest()
        return results


@TRANSFORMS.register_module()
class PackSceneInputs(BaseTransform):
    """Turn an image and its labels into what :class:`rsfoundation.models.classifiers.SceneClassifier` takes.

    Gives ``inputs`` ``(C, H, W)`` and ``data_samples``, whose ``gt_label`` holds the class indices ``(k,)``
    where there are any.

    Args:
        meta_keys: What the sample keeps of the results, where it is there.
    """

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict[str, Any]:
        """Return ``inputs`` and ``data_samples``."""
        pixels = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        sample = BaseDataElement(metainfo={key: results[key] for key in self.meta_keys if key in results})
        if "gt_label" in results:
            sample.gt_label = torch.as_tensor(results["gt_label"], dtype=torch.long).reshape(-1)
        return dict(inputs=torch.from_numpy(pixels), data_samples=sample)
