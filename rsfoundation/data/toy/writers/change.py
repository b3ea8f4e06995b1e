"""LEVIR-CD layout: ``<split>/{A,B,label}/<split>_1.png``, label 255 where a building came or went."""

from pathlib import Path

import numpy as np

from rsfoundation.data.toy.elements import DATES
from rsfoundation.data.toy.scene import Scene
from rsfoundation.data.toy.writers.base import Images, Record, SceneWriter, save_png


def _write(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"{split}_{number}.png"
    changed = scene.change_mask()
    for date, letter in enumerate("AB"):
        save_png(folder / split / letter / name, images[date])
    save_png(folder / split / "label" / name, changed.astype(np.uint8) * 255)
    return Record({"unchanged": int((~changed).sum()), "changed": int(changed.sum())})


WRITER = SceneWriter(dates=DATES, write=_write)
