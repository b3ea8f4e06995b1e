"""DOTA and FAIR1M: every version, as distributed or as tiled."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsfoundation.core.choices import TilingPreset
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.files import read_manifest
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import AnnotationTable, join_splits, read_folders
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, FAIR1M_CLASSES, DotaVersion
from rsfoundation.datasets.oriented.patch_index import INDEX, changes_since, read_index
from rsfoundation.geometry.tiling import (
    DOTA_TILINGS,
    FAIR1M_TILINGS,
    TilingSettings,
    window_sizes,
)
from rsfoundation.io.dota import PatchName, find_split, parse_patch_name, read_dota_txt
from rsfoundation.io.xml_labels import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.registry import DATASETS

_SINCE = {"container-crane": "1.5", "airport": "2.0", "helipad": "2.0"}  # the version that brought a class


@DATASETS.register_module()
class DOTADataset(OrientedDataset):
    """Images and oriented boxes of ``<data_root>/<split>/{images, labelTxt | annfiles}``, in name order.

    Args:
        data_root: Folder of the data set.
        split: Folder of the split below it, such as ``train``; or several, read as one.
        label_dir: Label folder below the split; ``None`` takes the one that names the version,
            ``labelTxt`` or ``annfiles``.
        version: Chooses the class list, where ``metainfo`` has none.
        preset: The tiling (``ss``, ``ms``) that the folder must be of; ``None`` takes any folder.
        metainfo: See :class:`OrientedDataset`.
        **kwargs: See :class:`OrientedDataset`.

    Raises:
        ConfigError: There is no such preset.
        DataError: A folder is missing; under ``fail``, a label or image is broken or missing, or the
            patches are of another tiling than the preset's.
    """

    FAMILY = frozenset(DOTA_CLASSES["2.0"])
    TILINGS: ClassVar[Mapping[TilingPreset, TilingSettings]] = DOTA_TILINGS

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "train",
        label_dir: str | None = None,
        version: DotaVersion = "1.0",
        preset: TilingPreset | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.splits = (split,) if isinstance(split, str) else tuple(split)
        self.label_dir = label_dir
        self.version = _known_version(version)
        if preset is not None and preset not in self.TILINGS:
            raise ConfigError(
                f"there is no preset {preset!r}",
                where=f"preset of {type(self).__name__}",
                fix=f"one of {', '.join(self.TILINGS)}, or None for any tiling",
            )
        self.preset = preset
        meta = {"classes": DOTA_CLASSES[self.version], **(metainfo or {})}
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    def read_annotations(self, report: DatasetReport) -> AnnotationTable:
        """Read the index or the label files of every split."""
        folders = [Path(self.data_root) / split for split in self.splits]
        tables = [self._read_split(folder, report) for folder in folders]
        if self.preset is not None:
            for folder, table in zip(folders, tables, strict=True):
                _check_tiling(folder, table.names.tolist(), self.TILINGS[self.preset], report)
        return join_splits(tables, report)

    def _read_split(self, folder: Path, report: DatasetReport) -> AnnotationTable:
        if self.label_dir is None and (folder / INDEX).is_file():
            table = self._read_index(folder, report)
            if table is not None:
                return table
        files = find_split(folder, "", self.label_dir, self.version)
        return read_folders([files], read_dota_txt, report, needs_labels=not self.test_mode)

    def _read_index(self, folder: Path, report: DatasetReport) -> AnnotationTable | None:
        """Return the table of the folder's index, or ``None`` where the files must be read.

        An index that the folder has changed since is not used, with a warning.
        """
        index = read_index(folder)
        if index is None:
            return None
        changed = changes_since(folder, index)
        if changed:
            shown = ", ".join(changed[:3])
            found = f"{len(changed)} files differ from the index of the folder, such as {shown}"
            if index.virtual:
                raise DataError(found, where=folder, fix="make the windows again with `rsf prepare`")
            report.warn(
                f"{found}: the label files are read instead; `rsf prepare index {folder}` updates the index"
            )
            return None
        if not self.test_mode and not index.labelled:
            raise DataError(
                "no labels, and training needs them",
                where=folder,
                fix="tile a split that has labelTxt/ next to images/",
            )
        return index.table

    def _warnings(self, table: AnnotationTable) -> list[str]:
        return [*super()._warnings(table), *self._version_warnings(table)]

    def _version_warnings(self, table: AnnotationTable) -> list[str]:
        """Warn of labels that look like those of another version than the class list's."""
        classes = self._metainfo["classes"]
        if classes != DOTA_CLASSES[self.version]:
            return []
        newer = [_SINCE[name] for name in _SINCE if f"objects of class {name}" in self.report.counts]
        if newer:
            return [f"labels of DOTA {max(newer)} are read with the classes of {self.version}"]
        own = [classes.index(name) for name, since in _SINCE.items() if since == self.version]
        if own and len(table.labels) and not np.isin(own, table.labels).any() and not self.test_mode:
            return [f"no object of a class that DOTA {self.version} brought: are the labels older?"]
        return []

    def _described(self) -> str:
        return str(Path(self.data_root) / "+".join(self.splits))


def _known_version(version: str | float) -> DotaVersion:
    """Return a version of DOTA; the command line makes a number of it.

    Raises:
        ConfigError: There is none of that name.
    """
    for known in DOTA_CLASSES:
        if known == str(float(version) if isinstance(version, int) else version):
            return known
    raise ConfigError(
        f"there is no version {version!r} of DOTA", where="version", fix=f"one of {', '.join(DOTA_CLASSES)}"
    )


def _check_tiling(folder: Path, names: Sequence[str], tiling: TilingSettings, report: DatasetReport) -> None:
    """Report a folder of patches of another tiling than a config's: by its manifest, else by their names."""
    manifest = read_manifest(folder)
    stated = manifest.parameters.get("cut") if manifest else None
    if stated == tiling.record():
        return
    if stated is not None:
        found = f"was made with {_describe_tiling(stated)}"
    else:
        odd = _names_of_another_tiling(names, tiling)
        if not odd:
            return
        found = f"has {len(odd)} of {len(names)} images that no such tiling makes: {', '.join(odd[:3])}"
    error = DataError(
        f"the config states {tiling.describe()}, and the folder {found}",
        where=folder,
        fix="tile it again with `rsf prepare`, or set preset=None in the data sets of the config",
    )
    report.error("folders of another tiling (read as they are)", error, folder)
    report.warn(error.what)


def _names_of_another_tiling(names: Sequence[str], tiling: TilingSettings) -> list[str]:
    """Return the patches whose side or place the tiling does not make.

    The last window of a row or column is shifted back inside the image: any place is right for it.
    """
    sizes = window_sizes(tiling.window, tiling.gap, tiling.rates)
    steps = {size: size - shared for size, shared in sizes}
    patches = {name: parse_patch_name(name) for name in names}
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for patch in filter(None, patches.values()):
        x, y = last.get((patch.image, patch.window), (0, 0))
        last[patch.image, patch.window] = max(x, patch.x), max(y, patch.y)

    def fits(patch: PatchName | None) -> bool:
        if patch is None or patch.window not in steps:
            return False
        x, y = last[patch.image, patch.window]
        step = steps[patch.window]
        return (patch.x % step == 0 or patch.x == x) and (patch.y % step == 0 or patch.y == y)

    return [name for name, patch in patches.items() if not fits(patch)]


def _describe_tiling(record: Mapping[str, Any]) -> str:
    try:
        return TilingSettings(**{**record, "rates": tuple(record["rates"])}).describe()
    except (TypeError, KeyError):
        return str(dict(record))


@DATASETS.register_module()
class FAIR1MDataset(DOTADataset):
    """FAIR1M with its 37 classes: patches made by ``rsf prepare fair1m``, or the folders as distributed.

    A folder with ``annfiles/`` or ``labelTxt/`` is read as DOTA's are; others as
    ``<split>/[part1|part2/]{images/*.tif, labelXml|labelXmls/*.xml}``. Class names are compared without
    capitals, blanks, hyphens and underscores: ``Passenger Ship`` is ``Passenger_Ship``.

    Args:
        metainfo: See :class:`OrientedDataset`.
        **kwargs: See :class:`DOTADataset`.
    """

    FAMILY = frozenset(FAIR1M_CLASSES)
    TILINGS: ClassVar[Mapping[TilingPreset, TilingSettings]] = FAIR1M_TILINGS

    def __init__(self, *, metainfo: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(metainfo={"classes": FAIR1M_CLASSES, **(metainfo or {})}, **kwargs)

    def class_key(self, name: str) -> str:
        """Drop capitals and everything between words."""
        return re.sub(r"[\s_-]", "", name).lower()

    def _read_split(self, folder: Path, report: DatasetReport) -> AnnotationTable:
        parts = [] if _is_tiled(folder) else sorted(folder.glob("*/images"))
        if not parts and not any((folder / name).is_dir() for name in ("labelXml", "labelXmls")):
            return super()._read_split(folder, report)
        files = find_fair1m(folder)
        table = read_folders(files, read_fair1m_xml, report, needs_labels=not self.test_mode)
        names = {str(path): name for path, name in image_names(files).items()}
        return replace(table, names=np.array([names[path] for path in table.paths.tolist()], dtype=np.str_))


def _is_tiled(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("annfiles", "labelTxt"))
