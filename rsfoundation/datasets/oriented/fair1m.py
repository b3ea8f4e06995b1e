"""FAIR1M 1.0 and 2.0, as tiled and as distributed."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rsfoundation.core.choices import TilingPreset
from rsfoundation.core.reports import DatasetReport
from rsfoundation.datasets.oriented.annotations import Scan
from rsfoundation.datasets.oriented.classes import FAIR1M_CLASSES
from rsfoundation.datasets.oriented.dota import DOTADataset
from rsfoundation.datasets.oriented.reading import read_folders
from rsfoundation.geometry.tiling import FAIR1M_TILINGS, TilingSettings
from rsfoundation.io.xml_labels import find_fair1m, image_names, read_fair1m_xml
from rsfoundation.registry import DATASETS


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
    CUTS: ClassVar[Mapping[TilingPreset, TilingSettings]] = FAIR1M_TILINGS

    def __init__(self, *, metainfo: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(metainfo={"classes": FAIR1M_CLASSES, **(metainfo or {})}, **kwargs)

    def class_key(self, name: str) -> str:
        """Drop capitals and everything between words."""
        return re.sub(r"[\s_-]", "", name).lower()

    def _scan_split(self, folder: Path) -> Scan:
        parts = [] if _is_tiled(folder) else sorted(folder.glob("*/images"))
        if parts or any((folder / name).is_dir() for name in ("labelXml", "labelXmls")):
            files = find_fair1m(folder)
            scan = read_folders(
                files, read_fair1m_xml, self.on_error, DatasetReport(), needs_labels=not self.test_mode
            )
            names = {str(path): name for path, name in image_names(files).items()}
            pictures = tuple(replace(picture, name=names[picture.path]) for picture in scan.pictures)
            return replace(scan, pictures=pictures)
        return super()._scan_split(folder)


def _is_tiled(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("annfiles", "labelTxt"))
