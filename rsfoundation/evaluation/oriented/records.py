"""Labels of full images, read by name when their patches have been merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.structures.bbox import get_box_tensor

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES
from rsfoundation.io.dota import read_dota_txt


@dataclass(frozen=True)
class ImageRecord:
    """One tested image or patch, in its own pixels.

    Attributes:
        name: Its ``img_id``; without one, the stem of its file.
        path: The file it was read from; tells images of equal name apart.
        size: Height and width of the file's pixels that were tested.
        boxes: ``(n, 5)`` float32, what was detected.
        scores: ``(n,)`` float32.
        labels: ``(n,)`` int16.
        truth: Labelled objects: ``(m, 5)`` boxes or ``(m, 8)`` corners as they stand in the label file.
        truth_labels: ``(m,)`` int16.
        ignored: ``(m,)``, which of them do not count.
    """

    name: str
    path: str
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    truth_labels: np.ndarray
    ignored: np.ndarray


def record_of(sample: Mapping[str, Any]) -> ImageRecord:
    """Take what evaluation needs out of a tested ``DetDataSample`` given as dict."""
    found = sample["pred_instances"]
    counted, ignored = (_truth(sample.get(key) or {}) for key in ("gt_instances", "ignored_instances"))
    filled = [rows for rows, _ in (counted, ignored) if len(rows)] or [counted[0]]
    path = str(sample.get("img_path", ""))
    height, wide = (int(side) for side in sample.get("ori_shape", (0, 0))[:2])
    return ImageRecord(
        name=str(sample.get("img_id", path)),
        path=path,
        size=(height, wide),
        boxes=_boxes(found["bboxes"]),
        scores=_array(found["scores"], np.float32),
        labels=_array(found["labels"], np.int16),
        truth=np.concatenate(filled),
        truth_labels=np.concatenate([counted[1], ignored[1]]),
        ignored=np.repeat((False, True), (len(counted[1]), len(ignored[1]))),
    )


def sorted_once(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Sort by name, and leave out the copies with which samplers fill the last batch of some ranks."""
    nameless = [record for record in records if not record.name and not record.path]
    named = {(record.name, record.path): record for record in records if record.name or record.path}
    return [named[key] for key in sorted(named)] + nameless


@dataclass(frozen=True)
class Findings:
    """Detections and objects of some images, one row each, images in the order of ``names``.

    Attributes:
        names: Names of the images.
        image: ``(N,)``, which image each detection lies in, ascending.
        boxes: ``(N, 5)`` in pixels of that image; of corners ``(N, 8)`` where those were compared.
        scores: ``(N,)``.
        labels: ``(N,)``.
        truth_image: ``(M,)``, which image each object lies in, ascending.
        truth: ``(M, 5)`` boxes or ``(M, 8)`` corners.
        truth_labels: ``(M,)``.
        ignored: ``(M,)``, which objects do not count.
    """

    names: tuple[str, ...]
    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    truth_image: np.ndarray
    truth: np.ndarray
    truth_labels: np.ndarray
    ignored: np.ndarray


def findings_of(records: Sequence[ImageRecord]) -> Findings:
    """Join records into flat arrays."""
    widths = {record.truth.shape[1] for record in records if len(record.truth)}
    width = widths.pop() if widths else 5
    return Findings(
        names=tuple(record.name for record in records),
        image=np.repeat(np.arange(len(records)), [len(record.scores) for record in records]),
        boxes=_joined([record.boxes for record in records], (0, 5)),
        scores=_joined([record.scores for record in records], (0,)),
        labels=_joined([record.labels for record in records], (0,)).astype(np.int64),
        truth_image=np.repeat(np.arange(len(records)), [len(record.truth) for record in records]),
        truth=_joined([record.truth for record in records if len(record.truth)], (0, width)),
        truth_labels=_joined([record.truth_labels for record in records], (0,)).astype(np.int64),
        ignored=_joined([record.ignored for record in records], (0,)).astype(bool),
    )


def _joined(parts: list[np.ndarray], empty: tuple[int, ...]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(empty, np.float32)


def _boxes(bboxes: Any) -> np.ndarray:
    """Return boxes of any mm box type as ``(n, 5)`` or ``(n, 8)`` float32."""
    tensor = get_box_tensor(bboxes).detach().cpu().float()
    return tensor.reshape(-1, tensor.shape[-1] if tensor.shape[-1] == 8 else 5).numpy()


def _truth(part: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and labels; samples without labels have neither."""
    if "bboxes" not in part:
        return np.zeros((0, 5), np.float32), np.zeros(0, np.int16)
    return _boxes(part["bboxes"]), _array(part["labels"], np.int16)


def _array(tensor: Any, kind: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(kind)


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
                fix="set full_image_labels to the full images' own labels, such as data/DOTA/val/labelTxt",
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
                    fix="mend the label, or list the class in the data set's metainfo",
                )
        hard = self.ignore_difficulty
        return (
            np.array([item.quad for item in objects], dtype=np.float64).reshape(-1, 8),
            np.array([self.classes.index(item.name) for item in objects], dtype=np.int16),
            np.array([hard is not None and item.difficulty >= hard for item in objects], dtype=bool),
        )
