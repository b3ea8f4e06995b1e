"""What a writer of toy scenes consists of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from numpy.typing import NDArray

from rsfoundation.data.toy.scene import Scene
from rsfoundation.errors import DataError


@dataclass(frozen=True)
class Record:
    """What one written scene adds to its split.

    Attributes:
        counts: Number of labelled objects (detection, instance) or pixels (others) per class.
        entry: What the split's index file needs, if the layout has one.
    """

    counts: dict[str, int]
    entry: Any = field(default=None)


Images = tuple[NDArray, ...]


@dataclass(frozen=True)
class SceneWriter:
    """How scenes are written for one task.

    Attributes:
        dates: How many dates of a scene it needs drawn.
        write: ``(folder, split, number, scene, images)``: writes one scene, ``images`` being RGB.
        finish: ``(folder, split, records)``: writes what a split has once, such as an index.
    """

    dates: int
    write: Callable[[Path, str, int, Scene, Images], Record]
    finish: Callable[[Path, str, Sequence[Record]], None] | None = None


def save_png(path: Path, image: NDArray) -> None:
    """Write an RGB or single-channel picture.

    Raises:
        DataError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise DataError("cannot write the picture", where=path, cure="check free space and permissions")
