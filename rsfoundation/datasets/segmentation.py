"""Segmentation data sets whose masks are colour-coded or hold indices."""

from __future__ import annotations

from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from rsfoundation.core.errors import DataError
from rsfoundation.registry import DATASETS


@DATASETS.register_module()
class MaskDataset(BaseSegDataset):
    """A folder of images and a folder of masks, for :class:`LoadSegmentationMask`.

    Each sample carries the palette by which a colour-coded mask is read. ``metainfo`` gives classes and
    palette where the class has none of its own.

    Args:
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Raises:
        DataError: The image folder or the list of images is missing, or holds nothing.
    """

    def load_data_list(self) -> list[dict[str, Any]]:
        """List images and masks, sorted by path."""
        palette = (self.METAINFO if self.label_map else self.metainfo)["palette"]
        where = self.ann_file or self.data_prefix.get("img_path")
        try:
            samples = super().load_data_list()
        except (OSError, AssertionError) as error:
            raise DataError(
                "the images cannot be listed", where=where, fix="check data_root and data_prefix"
            ) from error
        if not samples:
            raise DataError(
                f"no image ends in '{self.img_suffix}'", where=where, fix="check data_prefix and img_suffix"
            )
        return [{**sample, "palette": palette} for sample in samples]


@DATASETS.register_module()
class ISPRSColourDataset(MaskDataset):
    """ISPRS Potsdam and Vaihingen with the masks as distributed (RGB colours) or as indices 0..5.

    Potsdam: images ``*_RGB.tif``, masks ``*_label.tif``; Vaihingen: one name in both folders. Colours are
    those of the ISPRS benchmark. In eroded masks (``noBoundary``) boundaries are black: read them with
    ``off_palette='ignore'``.

    Args:
        img_suffix: End of the image names.
        seg_map_suffix: End of the mask names.
        **kwargs: As for :class:`MaskDataset`.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=("impervious_surface", "building", "low_vegetation", "tree", "car", "clutter"),
        palette=[[255, 255, 255], [0, 0, 255], [0, 255, 255], [0, 255, 0], [255, 255, 0], [255, 0, 0]],
    )

    def __init__(self, img_suffix: str = ".tif", seg_map_suffix: str = ".tif", **kwargs: Any) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
