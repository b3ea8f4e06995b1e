"""Public change detection data sets as distributed: suffixes and label values of each.

Folders are set by ``data_prefix``; the docstrings name them. Facts from the data sets' pages and Open-CD.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, get_args

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from rsfoundation.core.errors import DataError, check_choice
from rsfoundation.core.reports import DatasetReport, Policy
from rsfoundation.datasets.label_check import CheckSettings, check_samples
from rsfoundation.registry import DATASETS

_FORMATS = (None, "to_binary")


@DATASETS.register_module(name="_BaseCDDataset")
class BaseChangeDataset(BaseSegDataset):
    """Two folders of equally named images, and a folder of change labels.

    With an ``ann_file`` its lines name the pairs (stems, to which the suffixes are added); without,
    the folders are listed, and must hold the same names.

    Args:
        format_seg_map: ``to_binary`` for labels of two values: 0 and 255, 0 and 1, colours on black;
            ``None`` for labels of class indices, where 255 is ignored.
        data_prefix: Folders ``img_path_from``, ``img_path_to`` and ``seg_map_path``.
        label_map: Class of numbers of labels of class indices, number -> class index.
        on_error: ``fail`` stops at missing and broken files and at labels of no class; ``skip`` looks at
            every file before the start and leaves such pairs out.
        **kwargs: As for mmseg's ``BaseSegDataset``.

    Attributes:
        report: Problems found in images and labels.

    Raises:
        ConfigError: An option has a value that it does not know.
        DataError: Under ``fail``, :func:`~rsfoundation.datasets.label_check.check_samples` finds a problem.
    """

    METAINFO: ClassVar[dict] = dict(classes=("unchanged", "changed"), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(
        self,
        format_seg_map: str | None = None,
        data_prefix: dict[str, str] = dict(img_path_from="A", img_path_to="B", seg_map_path="label"),  # noqa: B006
        label_map: Mapping[int, int] | None = None,
        on_error: Policy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(Policy), type(self).__name__)
        self.number_map = {int(number): int(index) for number, index in (label_map or {}).items()}
        self.on_error = on_error
        self.report = DatasetReport()
        if format_seg_map not in _FORMATS:
            raise DataError(
                f"format_seg_map is '{format_seg_map}'", fix="set it to 'to_binary', or leave it out"
            )
        self.format_seg_map = format_seg_map
        super().__init__(data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the pairs, sorted by name.

        Raises:
            DataError: A folder is missing or empty, or an image has no partner.
        """
        stems = self._listed_stems() if self.ann_file else self._paired_stems()
        checks = CheckSettings(
            self.metainfo["classes"],
            "if 255 marks change: format_seg_map='to_binary' in the data set",
            self.on_error,
            not self.test_mode,
        )
        self.report = DatasetReport()
        pairs = check_samples(
            [self._entry(stem) for stem in stems], self.pipeline.transforms, checks, self.report
        )
        self.report.log(str(self.ann_file or self.data_prefix["img_path_from"]))
        return pairs

    def _entry(self, stem: str) -> dict[str, Any]:
        prefix = self.data_prefix
        entry = dict(
            img_path=[
                fileio.join_path(prefix[key], stem + self.img_suffix)
                for key in ("img_path_from", "img_path_to")
            ],
            label_map=self.label_map,
            format_seg_map=self.format_seg_map,
            palette=(self.METAINFO if self.label_map else self.metainfo)["palette"],
            number_map=self.number_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        if prefix.get("seg_map_path"):
            entry["seg_map_path"] = fileio.join_path(prefix["seg_map_path"], stem + self.seg_map_suffix)
        return entry

    def _listed_stems(self) -> list[str]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise DataError("the list of pairs does not exist", where=self.ann_file)
        lines = fileio.get_text(self.ann_file, backend_args=self.backend_args).splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _paired_stems(self) -> list[str]:
        folders = [self.data_prefix[key] for key in ("img_path_from", "img_path_to")]
        before, after = (self._stems_in(folder) for folder in folders)
        for here, there, folder, other in ((before, after, *folders), (after, before, *folders[::-1])):
            alone = sorted(here - there)
            if alone:
                raise DataError(
                    f"{len(alone)} images have no partner in {other}, first: {alone[0]}{self.img_suffix}",
                    where=folder,
                    fix="give both dates of a pair the same file name, or list the pairs in an ann_file",
                )
        return sorted(before)

    def _stems_in(self, folder: str) -> set[str]:
        if not fileio.isdir(folder, backend_args=self.backend_args):
            raise DataError(
                "the image folder does not exist", where=folder, fix="check data_root and data_prefix"
            )
        names = fileio.list_dir_or_file(
            folder, list_dir=False, suffix=self.img_suffix, recursive=True, backend_args=self.backend_args
        )
        stems = {Path(name).as_posix().removesuffix(self.img_suffix) for name in names}
        if not stems:
            raise DataError(f"no file ends in '{self.img_suffix}'", where=folder, fix="set img_suffix")
        return stems


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
