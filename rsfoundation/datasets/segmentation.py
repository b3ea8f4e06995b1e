"""Segmentation data sets whose masks are colour-coded or hold indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from mmseg.datasets import BaseSegDataset

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.datasets.label_check import CheckSettings, check_samples
from rsfoundation.registry import DATASETS


@DATASETS.register_module()
class MaskDataset(BaseSegDataset):
    """A folder of images and a folder of masks, for :class:`LoadSegmentationMask`.

    Each sample carries the palette by which a colour-coded mask is read. ``metainfo`` gives classes and
    palette where the class has none of its own.

    Args:
        label_map: Class of numbers of the mask files, number -> class index: ``{255: 1}`` for masks of 0 and
            255. Numbers it does not name stay as they are.
        on_error: ``fail`` stops at missing and broken files and at labels of no class; ``skip`` looks at
            every file before the start and leaves such images out.
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Attributes:
        report: Problems found in images and masks.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: The image folder or the list of images is missing, or holds nothing; or, under ``fail``,
            :func:`~rsfoundation.datasets.label_check.check_samples` finds a problem.
    """

    def __init__(
        self, label_map: Mapping[int, int] | None = None, on_error: Policy = "fail", **kwargs: Any
    ) -> None:
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        self.number_map = {int(number): int(index) for number, index in (label_map or {}).items()}
        self.on_error = on_error
        self.report = DatasetReport()
        super().__init__(**kwargs)

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
        samples = [{**sample, "palette": palette, "number_map": self.number_map} for sample in samples]
        checks = CheckSettings(
            self.metainfo["classes"],
            "if 255 marks '{name}': label_map={{255: {index}}} in the data set",
            self.on_error,
            not self.test_mode,
        )
        self.report = DatasetReport()
        samples = check_samples(samples, self.pipeline.transforms, checks, self.report)
        self.report.log(str(where))
        return samples


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
