"""The DOTA data set: every version, as distributed or as tiled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsfoundation.detection.classes import DOTA_CLASSES, DotaVersion
from rsfoundation.detection.cuts import DOTA_CUTS, Cut, PresetName, check_cut
from rsfoundation.detection.datasets.base import OrientedDataset
from rsfoundation.detection.datasets.entries import Entries
from rsfoundation.detection.datasets.folders import read_folders
from rsfoundation.detection.datasets.indexed import scan_of_index
from rsfoundation.detection.datasets.scan import Scan, join_scans
from rsfoundation.detection.dota_files import find_split
from rsfoundation.detection.left_out import LeftOut
from rsfoundation.detection.patch_index import changes_since, read_index
from rsfoundation.errors import ConfigError, DataError
from rsfoundation.registry import DATASETS
from rsfoundation.structures.dota_txt import read_dota_txt

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
    CUTS: ClassVar[Mapping[PresetName, Cut]] = DOTA_CUTS

    def __init__(
        self,
        *,
        data_root: str,
        split: str | Sequence[str] = "train",
        label_dir: str | None = None,
        version: DotaVersion = "1.0",
        preset: PresetName | None = None,
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
                cure=f"one of {', '.join(self.CUTS)}, or None for any cut",
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
        return read_folders([files], read_dota_txt, self.on_error, LeftOut(), needs_labels=not self.test_mode)

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
            raise DataError(found, where=folder, cure="lay the windows out again with `rsf prepare`")
        self.remarks.append(
            f"{found}: the label files are read instead; `rsf prepare index {folder}` mends it"
        )
        return None

    def _check_cut(self, folder: Path, scan: Scan, cut: Cut) -> None:
        try:
            check_cut(folder, [picture.name for picture in scan.pictures], cut)
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
        newer = [_SINCE[name] for name in _SINCE if self.left_out[f"objects of class {name}"]]
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
        f"there is no version {version!r} of DOTA", where="version", cure=f"one of {', '.join(DOTA_CLASSES)}"
    )
