"""Loading, flips and rotations of single images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import mmdet.datasets.transforms as mmdet_transforms
import mmrotate.datasets.transforms as mmrotate_transforms
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from rsfoundation.core.errors import ConfigError, DataError, check_choice
from rsfoundation.io.loading import ImageLoading, OpenImages, PixelRange, read_window
from rsfoundation.registry import TRANSFORMS

_COLOR_TYPES = ("color", "grayscale", "unchanged")  # mmcv's names
_RED_FIRST = "tifffile"  # mmcv's decoder that leaves the bands of an unchanged image in their order


def image_loading(
    bands: Sequence[int | str] | str | None = None,
    pixel_range: Any = None,
    to_float32: bool = False,
    color_type: str = "color",
    imdecode_backend: str | None = None,
) -> ImageLoading:
    """Return the image loading of a loading step of a config.

    Args:
        bands: Bands by number from 1 or by name, or a text with commas; see :class:`ImageLoading`.
        pixel_range: ``(low, high)``, one such pair per band, a text with a comma, or ``'native'``.
        to_float32: Whether pixels come as float32.
        color_type: As for mmcv: ``color``, ``grayscale``, or ``unchanged`` (every band, values as they are).
        imdecode_backend: mmcv's decoder. All images are decoded alike here; for ``unchanged`` images it tells
            whether three or four bands start with blue (``cv2``, ``pillow``) or red (``tifffile``).

    Raises:
        ConfigError: An option has a value that it does not know, or two exclude each other.
    """
    check_choice("color_type", color_type, _COLOR_TYPES, "LoadImageFromFile")
    chosen = _bands(bands)
    if color_type == "unchanged" and chosen in (None, "all") and pixel_range in (None, "native"):
        blue_first = () if imdecode_backend == _RED_FIRST else (3, 4)
        return ImageLoading("all", "native", to_float32, blue_first=blue_first)
    scale = pixel_range if pixel_range in (None, "native") else PixelRange.parse(pixel_range)
    return ImageLoading(chosen, scale, to_float32, grey=color_type == "grayscale")


def _bands(value: Any) -> Any:
    """Return bands as :class:`ImageLoading` takes them; a text names them between commas."""
    if value is None or value == "all":
        return value
    words = [word.strip() for word in value.split(",")] if isinstance(value, str) else value
    words = [words] if isinstance(words, int) else list(words)
    bands = tuple(int(word) if str(word).isdigit() else word for word in words)
    if not bands or not all(isinstance(band, int) or (isinstance(band, str) and band) for band in bands):
        raise ConfigError(
            f"bands is {value!r}",
            where="bands",
            fix="bands=(3, 2, 1), bands=('red', 'nir') or bands='all'",
        )
    return bands


def local_file(path: str, backend_args: dict | None) -> AbstractContextManager[str]:
    """Lend a file of any file backend as a local one.

    Args:
        path: The file; its prefix chooses the backend where there are no arguments.
        backend_args: As for mmengine's ``fileio``.
    """
    if backend_args is None and "://" not in path:
        return nullcontext(path)
    return fileio.get_local_path(path, backend_args=backend_args)


class ImageLoader(BaseTransform):
    """Base of the loading steps of one and of two images.

    Args:
        bands: Bands by number from 1 or by name, ``'all'``, or ``None`` for colours; see
            :class:`~rsfoundation.io.loading.ImageLoading`.
        pixel_range: Values that become 0 and 255: ``(low, high)``, one such pair per band, or ``'native'``.
        to_float32: Whether pixels come as float32.
        color_type: ``color``, ``grayscale`` or ``unchanged``, as for mmcv.
        imdecode_backend: Accepted for mmcv's configs; see :func:`image_loading`.
        ignore_empty: Leave out images that cannot be read: the data set takes another one.
        backend_args: File backend of mmengine; remote files are copied here while they are read.
        cache_mb: Decoded files that each worker keeps, in megabytes; the last one is kept in any case.

    Attributes:
        loading: How pixels become arrays.

    Raises:
        ConfigError: An option has a value that it does not know.
    """

    def __init__(
        self,
        bands: Sequence[int | str] | Literal["all"] | None = None,
        pixel_range: Any = None,
        to_float32: bool = False,
        color_type: str = "color",
        imdecode_backend: str | None = None,
        ignore_empty: bool = False,
        backend_args: dict | None = None,
        cache_mb: float = 256,
    ) -> None:
        self.loading = image_loading(bands, pixel_range, to_float32, color_type, imdecode_backend)
        self.ignore_empty, self.backend_args = ignore_empty, backend_args
        self._open_images = OpenImages(cache_mb, self.loading)

    def read(self, path: str, window: tuple[int, int, int] | None = None) -> np.ndarray | None:
        """Return an image ``(H, W, C)``, or a square of it.

        Args:
            path: The file.
            window: Column, row and side of the square; parts beyond the image are padded.

        Returns:
            The pixels; ``None`` for an image that cannot be read where ``ignore_empty`` is set.

        Raises:
            DataError: The file is missing or cannot be decoded, lacks a band, or has values without a range.
        """
        try:
            with local_file(path, self.backend_args) as file:
                if window is None:
                    return self.loading.read(file)
                return read_window(self._open_images.open(str(file)), *window)
        except DataError:
            if self.ignore_empty:
                return None
            raise


def pipeline_loading(steps: Sequence[Any]) -> ImageLoading:
    """Return how a pipeline loads its images: as its first loading step does, else colours of 8 bit."""
    return next((step.loading for step in steps if isinstance(step, ImageLoader)), ImageLoading())


@TRANSFORMS.register_module()
class LoadImageFromFile(ImageLoader):
    """Load ``img_path`` as ``img``, for every task: BGR ``uint8`` ``(H, W, 3)`` unless asked otherwise.

    Adds ``img``, ``img_shape`` and ``ori_shape``. Where the entry has a ``window`` (a virtual patch), only
    that square of the file is the image. Takes the arguments of mmcv's step of this name, and ``bands``,
    ``pixel_range`` and ``cache_mb``: see :class:`ImageLoader`.
    """

    def transform(self, results: dict) -> dict | None:
        """Load the image of one results dict.

        Raises:
            DataError: As for :meth:`ImageLoader.read`.
        """
        image = self.read(str(results["img_path"]), results.get("window"))
        if image is None:
            return None
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


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
