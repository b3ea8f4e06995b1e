"""Objects with masks found in one scene, and the files they are written to."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rsfoundation.errors import DataError
from rsfoundation.instance.cropped_mask import CroppedMask

_MOST_IDS = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class InstanceMasks:
    """Objects of one scene, best score first.

    Attributes:
        height: Scene height in pixels.
        width: Scene width in pixels.
        masks: One mask per object, in scene pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
    """

    height: int
    width: int
    masks: tuple[CroppedMask, ...]
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        found = {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}
        return {"objects": len(self.masks), **found}


def write_json(result: InstanceMasks, path: Path) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", "bbox", "segmentation"}, ...]}``.

    ``bbox`` is COCO's ``[x, y, width, height]`` and ``segmentation`` COCO's compressed run lengths, both
    in pixels of the scene.
    """
    objects = [
        {
            "class": result.names[label],
            "label": int(label),
            "score": round(float(score), 6),
            "bbox": list(mask.box),
            "segmentation": mask.rle(result.height, result.width),
        }
        for mask, label, score in zip(result.masks, result.labels, result.scores, strict=True)
    ]
    path.write_text(json.dumps({"classes": list(result.names), "objects": objects}, indent=1) + "\n")


def write_png(result: InstanceMasks, path: Path) -> None:
    """Write a 16-bit map: 0 where there is no object, else the place of the object in the json file + 1.

    Where objects overlap, the one with the better score is seen.

    Raises:
        DataError: There are more objects than 16 bits can number.
    """
    if len(result.masks) > _MOST_IDS:
        raise DataError(
            f"{len(result.masks)} objects do not fit the {_MOST_IDS} numbers of a 16-bit map",
            where=path,
            cure="write json, or raise the score threshold",
        )
    ids = np.zeros((result.height, result.width), dtype=np.uint16)
    for number in range(len(result.masks), 0, -1):
        mask = result.masks[number - 1]
        ids[mask.top : mask.bottom, mask.left : mask.right][mask.bitmap] = number
    path.write_bytes(cv2.imencode(".png", ids)[1].tobytes())
