"""Loading masks, packing, and augmentation of images with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger
from mmseg.datasets.transforms import PackSegInputs as MMSegPackSegInputs

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.task import Window
from rsfoundation.datasets.transforms.images import local_file
from rsfoundation.datasets.transforms.mixing import MixingTransform
from rsfoundation.io.label_images import (
    NEAR,
    LabelImage,
    as_palette,
    decode_mask,
    is_tiff,
    nearest_colours,
    read_label_image,
    unknown_label_error,
)
from rsfoundation.io.label_maps import IGNORED, remap
from rsfoundation.io.rasters import RasterReader, image_size
from rsfoundation.registry import TRANSFORMS

Results = dict[str, Any]
Size = tuple[int, ...]  # width and height
_POLICIES = ("fail", "ignore", "nearest")
_FULL = 255.0  # the largest value of a pixel on the scale of images


@TRANSFORMS.register_module()
class LoadSegmentationMask(BaseTransform):
    """Read ``seg_map_path`` into ``gt_seg_map``: colours by the data set's palette, or indices as they are.

    Values are read by :func:`~rsfoundation.io.label_images.decode_mask`. After that the classes that a config
    leaves out are ignored, as in mmseg. Where the entry has a ``window`` (a patch), only that square is read;
    what is beyond the mask is ignored.

    Args:
        off_palette: Policy for pixels that carry no known label: ``fail``; ``ignore`` them in loss and metric
            and log their number; ``nearest`` takes the class of the nearest colour within ``tolerance`` and
            ignores the rest.
        tolerance: Of ``nearest``: Euclidean distance of colours, in values.
        ignore_nodata: Ignore pixels where a TIFF image has no data: its nodata value in every band, NaN, or
            its mask band. The image is then read once more.
        backend_args: File backend.

    Raises:
        ConfigError: The policy is unknown.
    """

    def __init__(
        self,
        off_palette: str = "fail",
        tolerance: float = NEAR,
        ignore_nodata: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        check_choice("off_palette", off_palette, _POLICIES, "LoadSegmentationMask")
        self.off_palette, self.tolerance = off_palette, tolerance
        self.ignore_nodata, self.backend_args = ignore_nodata, backend_args
        self._kept: tuple[str, LabelImage] | None = None  # of which windows are taken

    def transform(self, results: Results) -> Results:
        """Read the mask.

        Raises:
            DataError: The file is missing or unreadable, its size differs from the image's, or a pixel
                carries no known label.
        """
        results["gt_seg_map"] = self.labels(results)[0]
        results["seg_fields"].append("gt_seg_map")
        return results

    def labels(self, results: Results) -> tuple[np.ndarray, LabelImage]:
        """Return the labels ``(H, W)`` of an entry, and the mask that they were read from.

        Raises:
            DataError: As for :meth:`transform`.
        """
        path, square = results["seg_map_path"], results.get("window")
        window = None if square is None else Window(square[0], square[1], square[2], square[2])
        mask = self._read(path, window)
        if window is None:
            require_size(mask, results, "mask")
        else:
            _require_one_size(str(results["img_path"]), path)
        palette, reduce = as_palette(results["palette"]), results["reduce_zero_label"]
        labels, bad = decode_mask(
            mask, palette, reduce_zero_label=reduce, label_map=results.get("number_map")
        )
        for colour in results.get("ignored_colours", ()) if mask.coloured and bad.any() else ():
            bad &= (mask.values != colour).any(axis=2)
        if bad.any() and mask.coloured and self.off_palette == "nearest":
            labels[bad] = nearest_colours(mask.values[bad], palette, self.tolerance)
            bad &= labels == IGNORED
        if bad.any():
            if self.off_palette == "fail":
                raise unknown_label_error(mask, bad, palette, reduce)
            MMLogger.get_current_instance().warning(
                "%d pixels of %s carry no known label and are ignored", int(bad.sum()), path
            )
        labels = remap(labels, results.get("label_map"))
        if self.ignore_nodata and is_tiff(str(results.get("img_path", ""))):
            labels = _without_data(labels, str(results["img_path"]), window)
        if window is not None and labels.shape != (window.height, window.width):
            whole = np.full((window.height, window.width), IGNORED, labels.dtype)
            whole[: labels.shape[0], : labels.shape[1]] = labels
            labels = whole
        return labels, mask

    def _read(self, path: str, window: Window | None) -> LabelImage:
        if window is None or is_tiff(path):
            with local_file(path, self.backend_args) as file:
                return read_label_image(file, window)
        if self._kept is None or self._kept[0] != path:
            with local_file(path, self.backend_args) as file:
                self._kept = path, read_label_image(file)
        return self._kept[1].part(window)


def _without_data(labels: np.ndarray, image: str, window: Window | None) -> np.ndarray:
    if "://" in image:
        return labels
    with RasterReader(image) as reader:
        valid = reader.valid_mask(window)
    if valid.all() or valid.shape != labels.shape:
        return labels
    labels = labels.copy()
    labels[~valid] = IGNORED
    return labels


_size_of = lru_cache(maxsize=4096)(image_size)


def _require_one_size(image: str, mask: str) -> None:
    """Check that a mask has the size of its image by the heads of both files."""
    if "://" not in image and "://" not in mask and _size_of(image) != _size_of(mask):
        raise size_error(mask, _size_of(mask), _size_of(image))


def require_size(mask: LabelImage, results: dict, name: str) -> None:
    """Check that a mask has the size of its image, where that has been loaded.

    Args:
        mask: As read.
        results: Has ``ori_shape`` once the image is loaded.
        name: Of the mask in the error: ``mask`` or ``label``.

    Raises:
        DataError: They differ.
    """
    found = mask.values.shape[:2]
    expected = tuple(results.get("ori_shape", found))
    if found != expected:
        raise size_error(results["seg_map_path"], found[::-1], expected[::-1], name)


def size_error(where: str | Path, found: Size, expected: Size, name: str = "mask") -> DataError:
    """Return the error for a mask of another size than its image.

    Args:
        where: The mask's file.
        found: Its width and height.
        expected: Those of its image.
        name: As for :func:`require_size`.
    """
    kind = "its image" if name == "mask" else "its images are"
    return DataError(
        f"the {name} is {found[0]}x{found[1]}, {kind} {expected[0]}x{expected[1]} pixels",
        where=where,
        fix="replace the file by one of the same size",
    )


@TRANSFORMS.register_module()
class PackSegInputs(MMSegPackSegInputs):
    """mmseg's packing, which also keeps the ``window`` of a patch: pictures show that part of the image.

    Args:
        meta_keys: Names of the info that is kept.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            *("img_path", "seg_map_path", "ori_shape", "img_shape", "pad_shape", "scale_factor"),
            *("flip", "flip_direction", "reduce_zero_label", "window"),
        ),
    ) -> None:
        super().__init__(meta_keys)


@TRANSFORMS.register_module()
class RandomQuarterTurn(BaseTransform):
    """Turn image and labels by 90, 180 or 270 degrees; no value changes.

    Args:
        prob: Probability of a turn.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: Results) -> Results:
        """Turn one results dict."""
        if np.random.rand() >= self.prob:
            return results
        turns = int(np.random.randint(1, 4))
        for key in ("img", *results.get("seg_fields", [])):
            results[key] = np.ascontiguousarray(np.rot90(results[key], turns))
        results["img_shape"] = results["img"].shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomBrightnessContrast(BaseTransform):
    """Change brightness and contrast of an image of any number of bands, ``uint8`` or ``float32``.

    ``contrast * (x - mean) + mean + brightness``, with the mean of each band. Values stay within the scale of
    the image: 0..255, or where values are native, the range that the image has.

    Args:
        brightness: Largest change, as a share of the scale.
        contrast: The factor is drawn from ``1 - contrast`` to ``1 + contrast``.
        per_band: Draw both for each band by itself: sensors and seasons differ by band.
        prob: Probability of a change.
    """

    def __init__(
        self,
        brightness: float = 0.25,
        contrast: float = 0.25,
        per_band: bool = False,
        prob: float = 0.25,
    ) -> None:
        self.brightness, self.contrast, self.per_band, self.prob = brightness, contrast, per_band, prob

    def transform(self, results: Results) -> Results:
        """Change one results dict."""
        if np.random.rand() >= self.prob:
            return results
        image = results["img"] if results["img"].ndim == 3 else results["img"][..., None]
        bands = image.shape[2]
        drawn = bands if self.per_band else 1
        factors = np.random.uniform(1 - self.contrast, 1 + self.contrast, drawn)
        shifts = np.random.uniform(-self.brightness, self.brightness, drawn)
        factor, shift = (np.broadcast_to(one, bands).astype(np.float32) for one in (factors, shifts))
        low, high = (0.0, _FULL) if image.dtype == np.uint8 else _scale_of(image)
        means = np.array([cv2.mean(image[..., band])[0] for band in range(bands)], np.float32)
        changed = (image - means) * factor + (means + shift * np.float32(high - low))
        if image.dtype == np.uint8:
            changed = np.rint(changed)
        results["img"] = np.clip(changed, low, high).astype(image.dtype).reshape(results["img"].shape)
        return results


def _scale_of(image: np.ndarray) -> tuple[float, float]:
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    return (0.0, _FULL) if low >= 0 and 1 < high <= _FULL else (low, high)


@TRANSFORMS.register_module()
class Mosaic(MixingTransform):
    """Replace an image by a mosaic of crops of four: itself and three others of the data set.

    The centre of the mosaic is drawn within the middle half of the image, and each of the four parts is a
    crop of one image at full resolution, as UNetFormer trains; mmseg's ``RandomMosaic`` shrinks and pads
    instead. The mosaic has the size of the first image; parts that a smaller image does not cover are padded.

    Place it after the loading steps of a :class:`~rsfoundation.datasets.segmentation.MaskDataset`, which
    runs these steps for the other three.

    Args:
        prob: Probability of a mosaic.
        pad_value: Value of image pixels that no image covers; labels there are ignored.
    """

    def __init__(self, prob: float = 0.25, pad_value: float = 0) -> None:
        super().__init__(prob, others=3)
        self.pad_value = pad_value

    def transform(self, results: Results) -> Results:
        """Compose one results dict with those of ``mix_results``, where there are some."""
        others = results.pop("mix_results", None)
        if not others:
            return results
        keys = ("img", *results.get("seg_fields", []))
        height, width = results["img"].shape[:2]
        row = int(np.random.randint(height // 4, height - height // 4 + 1))
        column = int(np.random.randint(width // 4, width - width // 4 + 1))
        rows, columns = (slice(0, row), slice(row, height)), (slice(0, column), slice(column, width))
        fill = {key: self.pad_value if key == "img" else IGNORED for key in keys}
        canvas = {key: np.full_like(results[key], fill[key]) for key in keys}
        for place, source in enumerate([results, *others]):
            quarter = rows[place // 2], columns[place % 2]
            cut = tuple(
                _random_part(side, part.stop - part.start)
                for side, part in zip(source["img"].shape, quarter, strict=False)
            )
            for key in keys:
                part = source[key][cut]
                canvas[key][quarter][: part.shape[0], : part.shape[1]] = part
        results.update(canvas)
        return results


def _random_part(length: int, wanted: int) -> slice:
    start = int(np.random.randint(0, max(length - wanted, 0) + 1))
    return slice(start, start + wanted)
