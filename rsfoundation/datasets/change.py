"""Public change detection data sets as distributed: suffixes and label values of each.

Folders are set by ``data_prefix``; the docstrings name them. Facts from the data sets' pages and Open-CD.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from mmengine import fileio
from mmseg.datasets import BaseSegDataset

from rsfoundation.core.errors import ConfigError, DataError, check_choice, nearest
from rsfoundation.core.reports import DatasetReport, ReadingPolicy
from rsfoundation.datasets.label_check import CheckSettings, check_samples
from rsfoundation.datasets.pair_check import check_pairs
from rsfoundation.io.label_maps import IGNORED
from rsfoundation.registry import DATASETS

_FORMATS = (None, "to_binary")
_DATES = ("img_path_from", "img_path_to")


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
        DataError: Under ``fail``, :func:`~rsfoundation.datasets.label_check.check_samples` or
            :func:`~rsfoundation.datasets.pair_check.check_pairs` finds a problem.
    """

    METAINFO: ClassVar[dict] = dict(classes=("unchanged", "changed"), palette=[[0, 0, 0], [255, 255, 255]])

    def __init__(
        self,
        format_seg_map: str | None = None,
        data_prefix: dict[str, str] = dict(img_path_from="A", img_path_to="B", seg_map_path="label"),  # noqa: B006
        label_map: Mapping[int, int] | None = None,
        on_error: ReadingPolicy = "fail",
        **kwargs: Any,
    ) -> None:
        check_choice("on_error", on_error, get_args(ReadingPolicy), type(self).__name__)
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
        steps = self.pipeline.transforms
        pairs = check_samples([self._entry(stem) for stem in stems], steps, checks, self.report)
        pairs = check_pairs(pairs, steps, self.report, measure=self.on_error != "count")
        self.report.enforce(self.on_error)
        self.report.images = len(pairs)
        self.report.log(str(self.ann_file or self.data_prefix["img_path_from"]))
        return pairs

    def _entry(self, stem: str) -> dict[str, Any]:
        """Return the entry of a pair called ``stem`` in all folders."""
        labels = [key for key in self.data_prefix if key.startswith("seg_map_path")]
        names = dict.fromkeys(_DATES, stem + self.img_suffix)
        return self.entry_of_files(names | dict.fromkeys(labels, stem + self.seg_map_suffix))

    def entry_of_files(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return the entry of a pair.

        Args:
            names: Name of each file below its folder of ``data_prefix``.
        """
        prefix = self.data_prefix
        entry = dict(
            img_path=[fileio.join_path(prefix[key], names[key]) for key in _DATES],
            label_map=self.label_map,
            format_seg_map=self.format_seg_map,
            palette=(self.METAINFO if self.label_map else self.metainfo)["palette"],
            number_map=self.number_map,
            reduce_zero_label=self.reduce_zero_label,
            seg_fields=[],
        )
        if prefix.get("seg_map_path") and "seg_map_path" in names:
            entry["seg_map_path"] = fileio.join_path(prefix["seg_map_path"], names["seg_map_path"])
        return entry

    def _listed_stems(self) -> list[str]:
        if not fileio.isfile(self.ann_file, backend_args=self.backend_args):
            raise DataError("the list of pairs does not exist", where=self.ann_file)
        lines = fileio.get_text(self.ann_file, backend_args=self.backend_args).splitlines()
        return [line.strip() for line in lines if line.strip()]

    def _paired_stems(self) -> list[str]:
        folders = [self.data_prefix[key] for key in _DATES]
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
class SYSU_CD_Dataset(_Preset):
    """SYSU-CD: ``{train,val,test}/{time1,time2,label}``, 20000 pairs of 256 px, 12000 / 4000 / 4000."""

    PRESET: ClassVar[dict[str, Any]] = _PNG_BINARY


@DATASETS.register_module()
class RSIPAC_CD_Dataset(_Preset):
    """RSIPAC: ``{train,val}/{A,B,label}``, 512 px, labels of 0 and 1."""

    PRESET: ClassVar[dict[str, Any]] = dict(img_suffix=".tif", seg_map_suffix=".png")


_IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".jp2", ".img", ".vrt")


@DATASETS.register_module()
class ChangePairs(BaseChangeDataset):
    """One's own pairs: images and labels of any format, found by name or listed in a file.

    Without an ``ann_file``, files of one name, whatever their suffix, are one pair. With one, every line
    names a pair: one name for all folders, with or without suffix, or the names of first date, second date
    and (where there are labels) label, separated by a tab, a comma or blanks.

    Args:
        format_seg_map: As for :class:`BaseChangeDataset`; by default labels have two values.
        img_suffix: Suffix of the images; ``None`` takes every image format.
        seg_map_suffix: Suffix of the labels, likewise.
        **kwargs: As for :class:`BaseChangeDataset`.
    """

    def __init__(
        self,
        format_seg_map: str | None = "to_binary",
        img_suffix: str | None = None,
        seg_map_suffix: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._found: dict[str, dict[str, str]] = {}
        kwargs |= dict(img_suffix=img_suffix or "", seg_map_suffix=seg_map_suffix or "")
        super().__init__(format_seg_map, **kwargs)

    def _stems_in(self, folder: str) -> set[str]:
        return set(self._files_in(folder, self.img_suffix))

    def _files_in(self, folder: str, suffix: str) -> dict[str, str]:
        """Return name without suffix -> name, of the images of a folder.

        Raises:
            DataError: The folder is missing or has no images, or two of them differ in suffix alone.
        """
        if folder not in self._found:
            if not fileio.isdir(folder, backend_args=self.backend_args):
                fix = "check data_root and data_prefix"
                raise DataError("the image folder does not exist", where=folder, fix=fix)
            self._found[folder] = self._list_files(folder, suffix)
        return self._found[folder]

    def _list_files(self, folder: str, suffix: str) -> dict[str, str]:
        found: dict[str, str] = {}
        listed = fileio.list_dir_or_file(
            folder, list_dir=False, recursive=True, backend_args=self.backend_args
        )
        for name in sorted(Path(name).as_posix() for name in listed):
            if not name.lower().endswith((suffix.lower(),) if suffix else _IMAGES):
                continue
            stem = name[: -len(suffix)] if suffix else str(Path(name).with_suffix("").as_posix())
            if stem in found:
                what = f"'{found[stem]}' and '{name}' have one name"
                fix = "set img_suffix or seg_map_suffix, or remove one of them"
                raise DataError(what, where=folder, fix=fix)
            found[stem] = name
        if not found:
            kinds = f"'{suffix}'" if suffix else ", ".join(_IMAGES)
            fix = "check data_root and data_prefix, or set img_suffix"
            raise DataError(f"no file ends in {kinds}", where=folder, fix=fix)
        return found

    def _entry(self, stem: str) -> dict[str, Any]:
        keys = [key for key in (*_DATES, "seg_map_path") if self.data_prefix.get(key)]
        whole = not self.ann_file or self._name_of(stem, _DATES[0]) is not None  # names may have blanks
        columns = [stem] if whole else [part for part in re.split(r"[\t,\s]+", stem) if part]
        if len(columns) == 1:
            return self.entry_of_files({key: self._name_of(columns[0], key) or columns[0] for key in keys})
        if len(columns) != len(keys):
            wanted = " and ".join(("first date", "second date", "label")[: len(keys)])
            raise DataError(
                f"a line of the list has {len(columns)} names: {stem!r}; expected one, or {wanted}",
                where=self.ann_file,
                fix="separate the names by a tab, a comma or blanks; names have none of these",
            )
        return self.entry_of_files(dict(zip(keys, columns, strict=True)))

    def _name_of(self, name: str, key: str) -> str | None:
        """Return the file of a folder that a name, with or without suffix, means."""
        suffix = self.seg_map_suffix if key == "seg_map_path" else self.img_suffix
        files = self._files_in(self.data_prefix[key], suffix)
        return files.get(name) or files.get(Path(name).with_suffix("").as_posix())


@DATASETS.register_module(name="BaseSCDDataset")
class BaseSemanticChangeDataset(BaseChangeDataset):
    """Pairs with a label of what changed, and with the land cover of either date.

    Lines of an ``ann_file`` have one name for all folders (suffixes are added), or five: first date, second
    date, change, land cover of the first and of the second date.

    Args:
        reduce_semantic_zero_label: Number 0 of the land cover is ignored, and 1 is class 0: for labels in
            which 0 is unchanged.
        data_prefix: Folders ``img_path_from``, ``img_path_to``, ``seg_map_path``, ``seg_map_path_from``
            and ``seg_map_path_to``.
        metainfo: May name other ``semantic_classes`` than the data set has, in any order, with
            ``semantic_palette``: land cover of the others is ignored.
        **kwargs: As for :class:`BaseChangeDataset`.
    """

    def __init__(
        self,
        reduce_semantic_zero_label: bool = False,
        data_prefix: dict[str, str] = dict(  # noqa: B006 (read only)
            img_path_from="im1",
            img_path_to="im2",
            seg_map_path="label",
            seg_map_path_from="label1",
            seg_map_path_to="label2",
        ),
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.reduce_semantic_zero_label = reduce_semantic_zero_label
        own = {**self.METAINFO, **(metainfo or {})}
        self.semantic_label_map = self._semantic_map(own.get("semantic_classes"))
        super().__init__(data_prefix=data_prefix, metainfo=metainfo, **kwargs)

    def _semantic_map(self, wanted: Sequence[str] | None) -> dict[int, int] | None:
        """Return what the data set's land cover numbers become; ``None`` where they stay.

        Raises:
            ConfigError: A class is not one of the data set.
        """
        known = self.METAINFO.get("semantic_classes")
        if wanted is None or known is None or tuple(wanted) == tuple(known):
            return None
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ConfigError(
                f"the data set has no land cover '{unknown[0]}'",
                where="metainfo.semantic_classes",
                fix=nearest(unknown[0], known) or f"known: {', '.join(known)}",
            )
        first = int(self.reduce_semantic_zero_label)  # the class that is number 0 once labels are reduced
        index = {name: number for number, name in enumerate(list(wanted)[first:])}
        return {old: index.get(name, IGNORED) for old, name in enumerate(list(known)[first:])}

    def entry_of_files(self, names: Mapping[str, str]) -> dict[str, Any]:
        """Return the entry of a pair.

        Args:
            names: Name of each file below its folder of ``data_prefix``.
        """
        entry = super().entry_of_files(names)
        entry |= dict(
            reduce_semantic_zero_label=self.reduce_semantic_zero_label,
            semantic_label_map=self.semantic_label_map,
            semantic_palette=self.METAINFO.get("semantic_palette"),
        )
        for key in ("seg_map_path_from", "seg_map_path_to"):
            if self.data_prefix.get(key) and key in names:
                entry[key] = fileio.join_path(self.data_prefix[key], names[key])
        return entry

    def _entry(self, stem: str) -> dict[str, Any]:
        columns = stem.split()
        if not self.ann_file or len(columns) == 1:
            return super()._entry(stem)
        if len(columns) != len(_FIVE):
            raise DataError(
                f"a line of the list has {len(columns)} names: {stem!r}; expected one or five",
                where=self.ann_file,
                fix="name first date, second date, change, and land cover of the first and the second date",
            )
        return self.entry_of_files(dict(zip(_FIVE, columns, strict=True)))


_FIVE = (*_DATES, "seg_map_path", "seg_map_path_from", "seg_map_path_to")


@DATASETS.register_module()
class SECOND_Dataset(_Preset, BaseSemanticChangeDataset):
    """SECOND: ``{train,val}/{im1,im2,label,label1,label2}``, 512 px, 2968 / 1694 public pairs.

    Land cover as numbers, or in the colours of the palette as first released.
    """

    METAINFO: ClassVar[dict] = dict(
        **BaseChangeDataset.METAINFO,
        semantic_classes=(
            *("unchanged", "water", "ground", "low vegetation", "tree", "building"),
            "sports field",
        ),
        semantic_palette=[
            *([255, 255, 255], [0, 0, 255], [128, 128, 128], [0, 128, 0], [0, 255, 0], [128, 0, 0]),
            [255, 0, 0],
        ],
    )
    PRESET: ClassVar[dict[str, Any]] = dict(
        img_suffix=".png", seg_map_suffix=".png", reduce_semantic_zero_label=True
    )


@DATASETS.register_module()
class Landsat_Dataset(_Preset, BaseSemanticChangeDataset):
    """Landsat-SCD: folders as SECOND, with a test split; 416 px, no official split."""

    METAINFO: ClassVar[dict] = dict(
        **BaseChangeDataset.METAINFO,
        semantic_classes=("unchanged", "farmland", "desert", "building", "water"),
        semantic_palette=[[255, 255, 255], [0, 155, 0], [255, 165, 0], [230, 30, 100], [0, 170, 240]],
    )
    PRESET: ClassVar[dict[str, Any]] = dict(
        img_suffix=".png", seg_map_suffix=".png", reduce_semantic_zero_label=True
    )


@DATASETS.register_module()
class BANDON_Dataset(_Preset, BaseSemanticChangeDataset):
    """BANDON: 2283 off-nadir pairs of 2048 px; lists ``train.txt`` and so on name the five files of a pair.

    Change is 0 and 1 with 255 ignored in training (``labels_unch0ch1ig255``), and 0 and 255 in validation and
    test (``format_seg_map='to_binary'``).
    """

    METAINFO: ClassVar[dict] = dict(
        **BaseChangeDataset.METAINFO,
        semantic_classes=("background", "roofs", "facades"),
        semantic_palette=[[0, 0, 0], [244, 177, 131], [143, 170, 220]],
    )
    PRESET: ClassVar[dict[str, Any]] = dict(img_suffix=".jpg", seg_map_suffix=".png")
