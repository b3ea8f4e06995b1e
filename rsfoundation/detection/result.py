"""Oriented boxes found in one scene, and the files they are written to."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rsfoundation.structures.boxes import normalise, rbox_to_quad


@dataclass(frozen=True)
class OrientedBoxes:
    """Detections of one scene, best score first.

    Attributes:
        boxes: ``(N, 5)`` le90 boxes in scene pixels.
        scores: ``(N,)`` in 0..1.
        labels: ``(N,)`` indices into ``names``.
        names: Class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    @property
    def quads(self) -> np.ndarray:
        """Corners ``(N, 4, 2)`` in scene pixels."""
        return rbox_to_quad(self.boxes)

    def summary(self) -> dict[str, int | float | str]:
        """Return the number of objects of each class found, and of all."""
        counts = np.bincount(self.labels, minlength=len(self.names))
        found = {name: int(count) for name, count in zip(self.names, counts, strict=True) if count}
        return {"objects": len(self.labels), **found}


def make_result(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> OrientedBoxes:
    """Bring detections into the order and the angle range of :class:`OrientedBoxes`."""
    order = np.argsort(-scores, kind="stable")
    return OrientedBoxes(normalise(boxes)[order], scores[order], labels[order].astype(int), names)


def write_txt(result: OrientedBoxes, path: Path) -> None:
    """Write one line per object: ``x1 y1 x2 y2 x3 y3 x4 y4 class score``.

    That is a DOTA label line with the score in the place of the difficulty, in pixels of the scene.
    """
    lines = []
    for quad, label, score in zip(result.quads, result.labels, result.scores, strict=True):
        corners = " ".join(f"{value:.2f}" for value in quad.ravel())
        lines.append(f"{corners} {result.names[label]} {score:.6f}\n")
    path.write_text("".join(lines), encoding="utf-8")


def write_json(result: OrientedBoxes, path: Path) -> None:
    """Write ``{"classes": [...], "objects": [{"class", "label", "score", "rbox", "quad"}, ...]}``.

    ``rbox`` is ``[cx, cy, w, h, theta]`` (le90, radians, clockwise) and ``quad`` the four corners, both in
    pixels of the scene.
    """
    objects = [
        {
            "class": result.names[label],
            "label": int(label),
            "score": round(float(score), 6),
            "rbox": [*np.round(box[:4], 2).tolist(), round(float(box[4]), 6)],
            "quad": np.round(quad, 2).tolist(),
        }
        for box, quad, label, score in zip(
            result.boxes, result.quads, result.labels, result.scores, strict=True
        )
    ]
    path.write_text(json.dumps({"classes": list(result.names), "objects": objects}, indent=1) + "\n")
