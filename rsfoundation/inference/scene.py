"""Scenes: images of any size read window by window."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rsfoundation.engine.images import read_rgb
from rsfoundation.errors import DataError
from rsfoundation.task import Window

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Scene:
    """One image or, for two dates, several of equal size.

    Attributes:
        paths: The files.
        images: RGB ``uint8`` arrays ``(H, W, 3)``, one per file.
    """

    paths: tuple[Path, ...]
    images: tuple[np.ndarray, ...]

    @property
    def name(self) -> str:
        """Name of the scene: the stem of its first file."""
        return self.paths[0].stem

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.images[0].shape[:2]
        return height, width

    def crops(self, window: Window) -> list[np.ndarray]:
        """Return the BGR crop of every image, contiguous, as loading steps of mm pipelines leave it."""
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        return [cv2.cvtColor(image[rows, columns], cv2.COLOR_RGB2BGR) for image in self.images]


def open_scene(paths: tuple[Path, ...]) -> Scene:
    """Open the file(s) of one scene.

    Raises:
        DataError: A file is unreadable, or the files differ in size.
    """
    images = tuple(read_rgb(path) for path in paths)
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise DataError(
            f"the images of one scene differ in size: {', '.join(f'{w}x{h}' for h, w in sorted(sizes))}",
            where=" and ".join(str(path) for path in paths),
            cure="bring both dates onto one pixel grid first",
        )
    return Scene(paths, images)


def list_scenes(inputs: list[Path], images_per_scene: int) -> list[tuple[Path, ...]]:
    """Group input files into scenes.

    Args:
        inputs: Files, or folders whose images are taken in name order. For two images per scene: pairs of
            files, or two folders whose images pair by name.
        images_per_scene: How many images make one scene.

    Raises:
        DataError: An input does not exist, holds no image, or the images do not pair up.
    """
    for path in inputs:
        if not path.exists():
            raise DataError("the input does not exist", where=path)
    if images_per_scene == 1:
        return [(file,) for path in inputs for file in _images_in(path)]
    if all(path.is_dir() for path in inputs) and len(inputs) == images_per_scene:
        return _pair_folders(inputs)
    if len(inputs) % images_per_scene or any(path.is_dir() for path in inputs):
        raise DataError(
            f"this model needs {images_per_scene} images per scene, got {len(inputs)} inputs",
            cure="give pairs (BEFORE.png AFTER.png ...) or two folders whose images have equal names",
        )
    return [tuple(inputs[i : i + images_per_scene]) for i in range(0, len(inputs), images_per_scene)]


def _images_in(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            "the folder holds no image", where=path, cure=f"known suffixes: {', '.join(SUFFIXES)}"
        )
    return files


def _pair_folders(folders: list[Path]) -> list[tuple[Path, ...]]:
    by_name = [{file.name: file for file in _images_in(folder)} for folder in folders]
    every = {name for names in by_name for name in names}
    odd = sorted(name for name in every if any(name not in names for names in by_name))
    if odd:
        raise DataError(
            f"{len(odd)} images have no partner of the same name, first: {odd[0]}", where=folders[0]
        )
    return [tuple(names[name] for names in by_name) for name in by_name[0]]
