"""The DOTA data set: every version, as distributed or as tiled."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsfoundation.core.choices import TilingPreset
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import Entries, ImageInfo, Scan, join_scans
from rsfoundation.datasets.oriented.base import OrientedDataset
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, DotaVersion
from rsfoundation.datasets.oriented.patch_index import PatchIndex, changes_since, read_index
from rsfoundation.datasets.oriented.reading import read_folders
from rsfoundation.geometry.tiling import DOTA_TILINGS, TilingSettings, check_tiling
from rsfoundation.io.dota import find_split, read_dota_txt
from rsfoundation.registry import DATASETS


def scan_of_index(folder: Path, index: PatchIndex, *, needs_labels: bool) -> Scan:
    """Return the patches and objects of an index as a data set reads them.

    Args:
        folder: Of the index.
        index: What it says; checked to be of the folder as it is.
        needs_labels: Whether a folder without labels is an error.

    Raises:
        DataError: Labels are needed and there are none.
    """
    if needs_labels and not index.labels:
        raise DataError(
            "no labels, and training needs them",
            where=folder,
            fix="cut a split with labelTxt/ beside images/",
        )
    base = str(folder)
    place = {path: f"{base}/{path}" for path in {*index.images, *index.labels}}
    if index.virtual:  # sources lie elsewhere: '..' in their paths
        place = {path: os.path.normpath(full) for path, full in place.items()}
    labels = index.labels or (None,) * len(index.names)
    windows = map(tuple, index.windows.tolist()) if index.virtual else (None,) * len(index.names)
    rows = zip(index.names, index.images, labels, map(tuple, index.sizes.tolist()), windows, strict=True)
    pictures = tuple(
        ImageInfo(name, place[image], place[label] if label else None, size, window)
        for name, image, label, size, window in rows
    )
    return Scan(pictures, index.table)


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
        preset: The cut (``ss``, ``ms``) that the folder must be of; ``None`` takes any folder.
        metainfo: See :class:`OrientedDataset`.
        **kwargs: See :class:`OrientedDataset`.

    Raises:
        ConfigError: There is no such preset.
        DataError: A folder is missing; under ``fail``, a label or image is broken or missing, or the
            patches are of another cut than the preset's.
    """

    FAMILY = frozenset(DOTA_CLASSES["2.0"])
    CUTS: ClassVar[Mapping[TilingPreset, TilingSettings]] = DOTA_TILINGS

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
        if preset is not None and preset not in self.CUTS:
            raise ConfigError(
                f"there is no preset {preset!r}",
                where=f"preset of {type(self).__name__}",
                fix=f"one of {', '.join(self.CUTS)}, or None for any cut",
            )
        self.preset = preset
        meta = {"classes": DOTA_CLASSES[self.version], **(metainfo or {})}
        super().__init__(data_root=data_root, metainfo=meta, **kwargs)

    def scan(self) -> Scan:
        """Read the label files of every split."""
        folders = [Path(self.data_root) / split for split in self.splits]
        scans = [self._scan_split(folder) for folder in folders]
        if self.preset is not None:
            for folder, scan in zip(folders, scans, strict=True):
                self._check_cut(folder, scan, self.CUTS[self.preset])
        return join_scans(scans, self.on_error)

    def _scan_split(self, folder: Path) -> Scan:
        indexed = self._read_index(folder) if self.label_dir is None else None
        if indexed is not None:
            return indexed
        files = find_split(folder, "", self.label_dir, self.version)
        return read_folders(
            [files], read_dota_txt, self.on_error, DatasetReport(), needs_labels=not self.test_mode
        )

    def _read_index(self, folder: Path) -> Scan | None:
        """Return what the folder's index says, or ``None`` where the files must be read.

        An index that the folder has changed since is not used, which is remarked on.
        """
        index = read_index(folder)
        if index is None:
            return None
        changed = changes_since(folder, index)
        if not changed:
            return scan_of_index(folder, index, needs_labels=not self.test_mode)
        shown = ", ".join(changed[:3])
        found = f"{len(changed)} files differ from the index of the folder, such as {shown}"
        if index.virtual:
            raise DataError(found, where=folder, fix="lay the windows out again with `rsf prepare`")
        self.remarks.append(
            f"{found}: the label files are read instead; `rsf prepare index {folder}` mends it"
        )
        return None

    def _check_cut(self, folder: Path, scan: Scan, cut: TilingSettings) -> None:
        try:
            check_tiling(folder, [picture.name for picture in scan.pictures], cut)
        except DataError as error:
            if self.on_error == "fail":
                raise
            self.remarks.append(error.what)

    def _remarks(self, entries: Entries) -> list[str]:
        return [*super()._remarks(entries), *self._version_remarks(entries)]

    def _version_remarks(self, entries: Entries) -> list[str]:
        """Tell of labels that look like those of another version than the class list's."""
        classes = self._metainfo["classes"]
        if classes != DOTA_CLASSES[self.version]:
            return []
        newer = [_SINCE[name] for name in _SINCE if self.left_out.counts.get(f"objects of class {name}")]
        if newer:
            return [f"labels of DOTA {max(newer)} are read with the classes of {self.version}"]
        own = [classes.index(name) for name, since in _SINCE.items() if since == self.version]
        if own and len(entries.labels) and not np.isin(own, entries.labels).any() and not self.test_mode:
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
