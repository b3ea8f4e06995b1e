"""DOTA layout: ``<split>/images/P0001.png`` and ``<split>/labelTxt/P0001.txt``."""

from collections import Counter
from pathlib import Path

from rsfoundation.data.toy.scene import GSD, Scene
from rsfoundation.data.toy.writers.base import Images, Record, SceneWriter, save_png
from rsfoundation.structures.dota_txt import DotaObject, write_dota_txt


def _write(folder: Path, split: str, number: int, scene: Scene, images: Images) -> Record:
    name = f"P{number:04d}"
    save_png(folder / split / "images" / f"{name}.png", images[0])
    labels = folder / split / "labelTxt"
    labels.mkdir(parents=True, exist_ok=True)
    objects = [
        DotaObject(tuple(float(value) for value in thing.box.quad().ravel()), thing.kind)
        for thing in scene.things[0]
    ]
    write_dota_txt(labels / f"{name}.txt", objects, source="toy", gsd=GSD)
    return Record(dict(Counter(item.name for item in objects)))


WRITER = SceneWriter(dates=1, write=_write)
