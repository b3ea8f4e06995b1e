"""Labels of full images, read by name when their patches have been merged."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsfoundation.detection.classes import DOTA_CLASSES
from rsfoundation.errors import DataError, nearest
from rsfoundation.structures.dota_txt import read_dota_txt


@dataclass(frozen=True)
class LabelFolder:
    """A folder of DOTA label files, one per full image.

    Attributes:
        folder: Where ``<image>.txt`` lies.
        classes: Names, in label order; objects of other DOTA classes are left out.
        ignore_difficulty: Objects this difficult or more do not count; ``None`` counts all.
    """

    folder: Path
    classes: tuple[str, ...]
    ignore_difficulty: int | None = None

    def read(self, image: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the corners ``(m, 8)``, labels ``(m,)`` and ignored flags ``(m,)`` of an image.

        Raises:
            DataError: The file is missing or broken, or names a class that is no DOTA class either.
        """
        file = self.folder / f"{image}.txt"
        if not file.is_file():
            raise DataError(
                f"the full image {image!r} has no label file",
                where=file,
                cure="set full_image_labels to the full images' own labels, such as data/DOTA/val/labelTxt",
            )
        objects = []
        for item in read_dota_txt(file).objects:
            if item.name in self.classes:
                objects.append(item)
            elif item.name not in DOTA_CLASSES["2.0"]:
                hint = nearest(item.name, self.classes)
                raise DataError(
                    f"unknown class {item.name!r}{f'; {hint}' if hint else ''}",
                    where=f"{file}:{item.line}",
                    cure="mend the label, or list the class in the data set's metainfo",
                )
        hard = self.ignore_difficulty
        return (
            np.array([item.quad for item in objects], dtype=np.float64).reshape(-1, 8),
            np.array([self.classes.index(item.name) for item in objects], dtype=np.int16),
            np.array([hard is not None and item.difficulty >= hard for item in objects], dtype=bool),
        )
