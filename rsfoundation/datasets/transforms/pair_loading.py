"""Loading and packing of two dates and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from rsfoundation.core.errors import DataError
from rsfoundation.datasets.transforms.images import ImageLoader, local_file
from rsfoundation.datasets.transforms.pairs import Results
from rsfoundation.datasets.transforms.segmentation import require_size
from rsfoundation.io.label_images import (
    CHANGED_FROM,
    LabelImage,
    as_palette,
    decode_change,
    decode_mask,
    read_label_image,
    unknown_label_error,
)
from rsfoundation.io.label_maps import IGNORED, reduce_zero, remap
from rsfoundation.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiImgLoadImageFromFile(ImageLoader):
    """Read the files of ``img_path``; ``img`` becomes a list of arrays of one size.

    Parameters are those of :class:`~rsfoundation.datasets.transforms.images.LoadImageFromFile`.
    """

    def transform(self, results: Results) -> Results | None:
        """Read both dates.

        Raises:
            DataError: A file is missing or unreadable, or the dates differ in size or in bands.
        """
        images = [self.read(str(path)) for path in results["img_path"]]
        found = [image for image in images if image is not None]
        return with_images(results, found) if len(found) == len(images) else None


@TRANSFORMS.register_module()
class MultiImgLoadLoadImageFromNDArray(MultiImgLoadImageFromFile):
    """Take two arrays from ``img`` instead of reading files. (The doubled "Load" is Open-CD's.)"""

    def transform(self, results: Results) -> Results:
        """Take the arrays.

        Raises:
            DataError: The arrays differ in size.
        """
        kind = np.float32 if self.loading.to_float32 else None
        images = [np.asarray(image, dtype=kind) for image in results["img"]]
        return with_images({**results, "img_path": None}, images)


@TRANSFORMS.register_module()
class MultiImgLoadInferencerLoader(BaseTransform):
    """Accept a pair of paths, a pair of arrays, or a results dict with either.

    Args:
        **kwargs: Go to the loader of files and to that of arrays.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.from_file = MultiImgLoadImageFromFile(**kwargs)
        self.from_ndarray = MultiImgLoadLoadImageFromNDArray(**kwargs)

    def transform(self, single_input: Any) -> Results | None:
        """Load the pair."""
        results = single_input if isinstance(single_input, dict) else self._wrap(single_input)
        return self.from_ndarray(results) if "img" in results else self.from_file(results)

    @staticmethod
    def _wrap(pair: Any) -> Results:
        key = "img_path" if all(isinstance(item, str) for item in pair) else "img"
        return {key: list(pair)}


@TRANSFORMS.register_module()
class MultiImgLoadAnnotations(BaseTransform):
    """Read the change label into ``gt_seg_map``.

    With the data set's ``format_seg_map='to_binary'`` every usual spelling of change becomes 0 and 1, see
    :func:`~rsfoundation.io.label_images.decode_change`; nothing is ignored then. Without it labels are class
    indices, and 255 is ignored. ``reduce_zero_label`` comes first, ``label_map`` last.

    Args:
        reduce_zero_label: Overrides the data set's own setting.
        backend_args: File backend.
        imdecode_backend: Accepted for Open-CD's configs: all labels are decoded alike.
    """

    def __init__(
        self,
        reduce_zero_label: bool | None = None,
        backend_args: dict | None = None,
        imdecode_backend: str = "pillow",
    ) -> None:
        self.reduce_zero_label = reduce_zero_label
        self.backend_args = backend_args
        self.imdecode_backend = imdecode_backend

    def transform(self, results: Results) -> Results:
        """Read the label.

        Raises:
            DataError: The file is missing or unreadable, its size differs from the images', or it has values
                that the data set's setting does not know.
        """
        return self.put(results, "gt_seg_map", self.labels(results)[0])

    def labels(self, results: Results) -> tuple[np.ndarray, LabelImage]:
        """Return the labels ``(H, W)`` of an entry, and the file that they were read from.

        Raises:
            DataError: As for :meth:`transform`.
        """
        image = self.read(results, "seg_map_path")
        own = self.reduce_zero_label
        reduce = results["reduce_zero_label"] if own is None else own
        binary = results.get("format_seg_map") == "to_binary"
        if binary and not reduce:
            label = decode_change(image)
        else:
            label = self._indices(image, results, reduce)
            label = (label >= CHANGED_FROM).astype(np.uint8) if binary else label
        return remap(label, results.get("label_map")), image

    def _indices(self, image: LabelImage, results: Results, reduce: bool) -> np.ndarray:
        """Decode class indices, which may have any value where the entry knows no classes."""
        if "palette" not in results:
            image = replace(image, palette=None)
        palette = as_palette(results.get("palette") or [(number,) * 3 for number in range(IGNORED)])
        numbers = results.get("number_map")
        label, bad = decode_mask(image, palette, reduce_zero_label=reduce, label_map=numbers)
        if bad.any():
            error = unknown_label_error(image, bad, palette, reduce)
            two = len(palette) == 2 and not numbers
            fix = "format_seg_map='to_binary' in the data set reads 0 and 255, and colours on black"
            raise DataError(error.what, where=error.where, fix=fix if two else error.fix)
        return label

    def read(self, results: Results, path_key: str) -> LabelImage:
        """Read the label file under ``path_key``.

        Args:
            results: The entry.
            path_key: Such as ``seg_map_path``.

        Raises:
            DataError: It is missing or unreadable, or its size differs from the images'.
        """
        with local_file(results[path_key], self.backend_args) as file:
            label = read_label_image(file)
        require_size(label, {**results, "seg_map_path": results[path_key]}, "label")
        return label

    @staticmethod
    def put(results: Results, key: str, label: np.ndarray) -> Results:
        """Return results with one more label.

        Args:
            results: The entry.
            key: Where the label goes; listed in ``seg_fields``.
            label: ``(H, W)``.
        """
        return {**results, key: label, "seg_fields": [*results.get("seg_fields", []), key]}


@TRANSFORMS.register_module()
class MultiImgMultiAnnLoadAnnotations(MultiImgLoadAnnotations):
    """Read the change label and the semantic labels of both dates.

    Args:
        reduce_semantic_zero_label: Overrides the data set's own setting, for the semantic labels.
        **kwargs: As for :class:`MultiImgLoadAnnotations`.
    """

    def __init__(self, reduce_semantic_zero_label: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reduce_semantic_zero_label = reduce_semantic_zero_label

    def transform(self, results: Results) -> Results:
        """Read the three labels."""
        results = super().transform(results)
        override = self.reduce_semantic_zero_label
        reduce = override if override is not None else results.get("reduce_semantic_zero_label", False)
        palette = results.get("semantic_palette")
        for date in ("from", "to"):
            image = self.read(results, f"seg_map_path_{date}")
            label = self._indices(image, {"palette": palette} if palette else {}, reduce=False)
            # After the colours, which know no number: 0 is ignored however it was written.
            label = reduce_zero(label) if reduce else label
            label = remap(label, results.get("semantic_label_map"))
            results = self.put(results, f"gt_seg_map_{date}", label)
        return results


def with_images(results: Results, images: list[np.ndarray]) -> Results:
    """Return results that hold the images of all dates.

    Args:
        results: As from the data set.
        images: One array per date.

    Raises:
        DataError: The images differ in size or in bands.
    """
    bands = {np.atleast_3d(image).shape[2] for image in images}
    if len(bands) > 1:
        raise DataError(
            f"the dates of one pair differ in bands: {' and '.join(map(str, sorted(bands)))}",
            where=" and ".join(str(path) for path in results.get("img_path") or []) or None,
            fix="choose bands that both dates have: image_loading=dict(bands=(1, 2, 3)) in the config",
        )
    sizes = [image.shape[:2] for image in images]
    if len(set(sizes)) > 1:
        raise DataError(
            "the dates of one pair differ in size: " + " and ".join(f"{w}x{h}" for h, w in sizes),
            where=" and ".join(str(path) for path in results.get("img_path") or []) or None,
            fix="bring both dates onto one pixel grid first",
        )
    return {**results, "img": images, "img_shape": sizes[0], "ori_shape": sizes[0]}


_LABELS = {
    "gt_seg_map": "gt_sem_seg",
    "gt_edge_map": "gt_edge_map",
    "gt_seg_map_from": "gt_sem_seg_from",
    "gt_seg_map_to": "gt_sem_seg_to",
}
_META_KEYS = (
    "img_path",
    "seg_map_path",
    "seg_map_path_from",
    "seg_map_path_to",
    "ori_shape",
    "img_shape",
    "pad_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


@TRANSFORMS.register_module()
class MultiImgPackSegInputs(BaseTransform):
    """Pack a pair as ``inputs`` ``(2C, H, W)`` (first date first) and a ``SegDataSample``.

    Args:
        meta_keys: Keys of the results dict kept as metainfo, where present.
    """

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS) -> None:
        self.meta_keys = meta_keys

    def transform(self, results: Results) -> dict[str, Any]:
        """Pack the pair; labels become int64 ``(1, H, W)``."""
        packed: dict[str, Any] = {}
        if "img" in results:
            stacked = np.concatenate([np.atleast_3d(image) for image in results["img"]], axis=2)
            packed["inputs"] = torch.from_numpy(np.ascontiguousarray(stacked.transpose(2, 0, 1)))
        sample = SegDataSample()
        for key, field in _LABELS.items():
            if key in results:
                label = torch.from_numpy(results[key].astype(np.int64))[None]
                sample.set_data({field: PixelData(data=label)})
        sample.set_metainfo({key: results[key] for key in self.meta_keys if key in results})
        packed["data_samples"] = sample
        return packed
