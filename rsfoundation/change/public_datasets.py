"""Public change detection data sets as distributed: suffixes and label values of each.

Folders are set by ``data_prefix``; the docstrings name them. Facts from the data sets' pages and Open-CD.
"""

from __future__ import annotations

from typing import Any, ClassVar

from rsfoundation.change.dataset import BaseChangeDataset
from rsfoundation.registry import DATASETS


class _Preset(BaseChangeDataset):
    """A data set whose settings differ from the base class's by its ``PRESET`` alone."""

    PRESET: ClassVar[dict[str, Any]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**self.PRESET, **kwargs})


_PNG_BINARY: dict[str, Any] = dict(img_suffix=".png", seg_map_suffix=".png", format_seg_map="to_binary")


@DATASETS.register_module()
class LEVIR_CD_Dataset(_Preset):
    """LEVIR-CD: ``{train,val,test}/{A,B,label}``, 637 pairs of 1024 px, 445 / 64 / 128."""

    PRESET: ClassVar[dict[str, Any]] = _PNG_BINARY


@DATASETS.register_module()
class S2Looking_Dataset(_Preset):
    """S2Looking: ``{train,val,test}/{Image1,Image2,label}``, 5000 pairs of 1024 px, 3500 / 500 / 1000."""

    PRESET: ClassVar[dict[str, Any]] = _PNG_BINARY


@DATASETS.register_module()
class CLCD_Dataset(_Preset):
    """CLCD: ``{train,val,test}/{time1,time2,label}``, 600 pairs of 512 px, 360 / 120 / 120."""

    PRESET: ClassVar[dict[str, Any]] = _PNG_BINARY


@DATASETS.register_module()
class JL1_CD_Dataset(_Preset):
    """JL1-CD: ``{train,test}/{A,B,label}``, 5000 pairs of 512 px."""

    PRESET: ClassVar[dict[str, Any]] = _PNG_BINARY


@DATASETS.register_module()
class DSIFN_Dataset(_Preset):
    """DSIFN: ``{train,val,test}/{t1,t2,mask}``, 3600 / 340 / 48 pairs of 512 px, labels of 0 and 1."""

    PRESET: ClassVar[dict[str, Any]] = dict(img_suffix=".jpg", seg_map_suffix=".png")


@DATASETS.register_module()
class SVCD_Dataset(_Preset):
    """SVCD (CDD): ``{train,val,test}/{A,B,OUT}``, 16000 pairs of 256 px, JPEG labels near 0 and 255."""

    PRESET: ClassVar[dict[str, Any]] = dict(
        img_suffix=".jpg", seg_map_suffix=".jpg", format_seg_map="to_binary"
    )


@DATASETS.register_module()
class WHU_CD_Dataset(_Preset):
    """WHU-CD: ``{A,B,label}`` and ``list/{train,val,test}.txt`` whose lines carry the file extension."""

    PRESET: ClassVar[dict[str, Any]] = dict(img_suffix="", seg_map_suffix="", format_seg_map="to_binary")


@DATASETS.register_module()
class RSIPAC_CD_Dataset(_Preset):
    """RSIPAC: ``{train,val}/{A,B,label}``, 512 px, labels of 0 and 1."""

    PRESET: ClassVar[dict[str, Any]] = dict(img_suffix=".tif", seg_map_suffix=".png")
