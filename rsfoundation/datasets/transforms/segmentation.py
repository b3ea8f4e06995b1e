"""Loading label masks that are colour-coded or hold indices."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import MMLogger

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.datasets.transforms.loading import local_file
from rsfoundation.io.label_images import (
    LabelImage,
    as_palette,
    decode_mask,
    read_label_image,
    unknown_label_error,
)
from rsfoundation.io.label_maps import remap
from rsfoundation.registry import TRANSFORMS

_POLICIES = ("fail", "ignore")


@TRANSFORMS.register_module()
class LoadSegmentationMask(BaseTransform):
    """Read ``seg_map_path`` into ``gt_seg_map``: colours by the data set's palette, or indices as they are.

    Values are read by :func:`~rsfoundation.io.label_images.decode_mask`. After that the
    classes that a config leaves out are ignored, as in mmseg.

    Args:
        off_palette: Policy for pixels that carry no known label: ``fail``, or ``ignore`` them in
            loss and metric and log their number.
        backend_args: File backend.

    Raises:
        ConfigError: The policy is unknown.
    """

    def __init__(self, off_palette: str = "fail", backend_args: dict | None = None) -> None:
        check_choice("off_palette", off_palette, _POLICIES, "LoadSegmentationMask")
        self.off_palette = off_palette
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Read the mask.

        Raises:
            DataError: The file is missing or unreadable, its size differs from the image's, or a pixel
                carries no known label.
        """
        results["gt_seg_map"] = self.labels(results)[0]
        results["seg_fields"].append("gt_seg_map")
        return results

    def labels(self, results: dict) -> tuple[np.ndarray, LabelImage]:
        """Return the labels ``(H, W)`` of an entry, and the mask that they were read from.

        Raises:
            DataError: As for :meth:`transform`.
        """
        path = results["seg_map_path"]
        with local_file(path, self.backend_args) as file:
            mask = read_label_image(file)
        require_size(mask, results, "mask")
        palette, reduce = as_palette(results["palette"]), results["reduce_zero_label"]
        labels, bad = decode_mask(
            mask, palette, reduce_zero_label=reduce, label_map=results.get("number_map")
        )
        if bad.any():
            if self.off_palette == "fail":
                raise unknown_label_error(mask, bad, palette, reduce)
            MMLogger.get_current_instance().warning(
                "%d pixels of %s carry no known label and are ignored", int(bad.sum()), path
            )
        return remap(labels, results.get("label_map")), mask


def require_size(mask: LabelImage, results: dict, name: str) -> None:
    """Check that a mask has the size of its image, where that has been loaded.

    Args:
        mask: As read.
        results: Has ``ori_shape`` once the image is loaded.
        name: Of the mask in the error: ``mask`` or ``label``.

    Raises:
        DataError: They differ.
    """
    height, width = mask.values.shape[:2]
    expected = tuple(results.get("ori_shape", (height, width)))
    if (height, width) != expected:
        kind = "its image" if name == "mask" else "its images are"
        raise DataError(
            f"the {name} is {width}x{height}, {kind} {expected[1]}x{expected[0]} pixels",
            where=results["seg_map_path"],
            fix="replace the file by one of the same size",
        )
