"""Loading label masks that are colour-coded or hold indices."""

from __future__ import annotations

import io

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import MMLogger
from PIL import Image, UnidentifiedImageError

from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.io.label_maps import (
    IGNORED,
    as_palette,
    decode_colours,
    off_palette_error,
    reduce_zero,
    remap,
)
from rsfoundation.registry import TRANSFORMS

_POLICIES = ("fail", "ignore")
_MODES = ("1", "L", "P", "RGB", "RGBA")  # Pillow's names; a palette picture (P) reads as its indices


@TRANSFORMS.register_module()
class LoadSegmentationMask(BaseTransform):
    """Read ``seg_map_path`` into ``gt_seg_map``: colours by the data set's palette, or indices as they are.

    A mask with three or more channels is colour-coded, one with a single channel holds indices. After
    that ``reduce_zero_label`` (index masks only) and ``label_map`` apply as in mmseg.

    Args:
        off_palette: What to do with pixels that carry no known label: ``fail``, or ``ignore`` them in
            loss and metric and log their number.
        backend_args: File backend.

    Raises:
        ConfigError: The policy is unknown.
    """

    def __init__(self, off_palette: str = "fail", backend_args: dict | None = None) -> None:
        if off_palette not in _POLICIES:
            raise ConfigError(
                f"off_palette is '{off_palette}'",
                where="LoadSegmentationMask",
                fix=f"choose among {', '.join(_POLICIES)}",
            )
        self.off_palette = off_palette
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Read the mask.

        Raises:
            DataError: The file is missing or unreadable, its size differs from the image's, or a pixel
                carries no known label.
        """
        mask = self._read(results)
        palette = as_palette(results["palette"])
        if mask.ndim == 3:
            label = decode_colours(mask[..., :3], palette)
            bad = label == IGNORED
        else:
            label = reduce_zero(mask) if results["reduce_zero_label"] else mask.copy()
            bad = (label >= len(palette)) & (label != IGNORED)
        if bad.any():
            self._handle(mask, bad, results)
            label[bad] = IGNORED
        results["gt_seg_map"] = remap(label, results.get("label_map"))
        results["seg_fields"].append("gt_seg_map")
        return results

    def _read(self, results: dict) -> np.ndarray:
        """Decode the mask: RGB ``(H, W, 3)`` or indices ``(H, W)``."""
        path = results["seg_map_path"]
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            picture = Image.open(io.BytesIO(content))
            mask = np.asarray(picture, dtype=np.uint8)
        except (OSError, UnidentifiedImageError) as error:
            raise DataError("the mask cannot be read", where=path) from error
        if picture.mode not in _MODES:
            raise DataError(
                f"the mask has pixels of kind {picture.mode}; known are {', '.join(_MODES)}", where=path
            )
        if mask.shape[:2] != tuple(results.get("ori_shape", mask.shape[:2])):
            height, width = results["ori_shape"]
            raise DataError(
                f"the mask is {mask.shape[1]}x{mask.shape[0]}, its image {width}x{height} pixels", where=path
            )
        return mask

    def _handle(self, mask: np.ndarray, bad: np.ndarray, results: dict) -> None:
        if self.off_palette == "fail":
            raise off_palette_error(mask, bad, as_palette(results["palette"]), results["seg_map_path"])
        MMLogger.get_current_instance().warning(
            "%d pixels of %s carry no known label and are ignored", int(bad.sum()), results["seg_map_path"]
        )
