"""ISPRS layout as mmseg's converters leave it, with the colour-coded masks beside it.

``img_dir/<split>/P0001.png``, ``ann_dir/<split>/P0001.png`` with 1..6 (0 would be unlabelled, so data sets
set ``reduce_zero_label=True``, as ``PotsdamDataset`` and ``ISPRSDataset`` do), and
``label_dir/<split>/P0001.png`` with ISPRS's colours.
"""

from pathlib import Path

import numpy as np

from rsfoundation.data.toy.labels import LAND_CLASSES, class_map
from rsfoundation.data.toy.scene import Scene
from rsfoundation.data.toy.writers.base import Images, Record, SceneWriter, save_png


def _write(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"P{number:04d}.png"
    classes = class_map(scene)
    palette = np.array([land.colour for land in LAND_CLASSES], dtype=np.uint8)
    save_png(folder / "img_dir" / split / name, images[0])
    save_png(folder / "ann_dir" / split / name, classes + 1)
    save_png(folder / "label_dir" / split / name, palette[classes])
    pixels = np.bincount(classes.ravel(), minlength=len(LAND_CLASSES))
    return Record({land.name: int(count) for land, count in zip(LAND_CLASSES, pixels, strict=True)})


WRITER = SceneWriter(dates=1, write=_write)
