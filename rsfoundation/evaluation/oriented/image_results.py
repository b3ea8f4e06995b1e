"""Results of tested images: detections and ground truth of one image, and of many as flat arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmdet.structures.bbox import get_box_tensor

from rsfoundation.core.errors import DataError, nearest
from rsfoundation.datasets.oriented.classes import DOTA_CLASSES, FAIR1M_CLASSES
from rsfoundation.io.dota import read_dota_txt
from rsfoundation.io.xml_labels import read_fair1m_xml


@dataclass(frozen=True)
class ImageResult:
    """Detections and ground truth of one tested image or patch, in its own pixels.

    Attributes:
        name: Its ``img_id``; without one, the path of its file.
        path: The file it was read from; distinguishes images of equal name.
        size: Height and width of the tested pixels.
        boxes: ``(n, 5)`` float32 detected boxes; ``(n, 8)`` corners in result files of other tools.
        scores: ``(n,)`` float32.
        labels: ``(n,)`` int16.
        truth: Ground truth: ``(m, 5)`` boxes, or ``(m, 8)`` corners as written in the label file.
        truth_labels: ``(m,)`` int16.
        ignored: ``(m,)``, which ground truth objects do not count.
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


def result_from_sample(sample: Mapping[str, Any]) -> ImageResult:
    """Return the result of a tested ``DetDataSample`` given as dict."""
    predicted = sample["pred_instances"]
    counted, ignored = (_truth(sample.get(key) or {}) for key in ("gt_instances", "ignored_instances"))
    not_empty = [boxes for boxes, _ in (counted, ignored) if len(boxes)] or [counted[0]]
    path = str(sample.get("img_path", ""))
    height, width = (int(side) for side in sample.get("ori_shape", (0, 0))[:2])
    return ImageResult(
        name=str(sample.get("img_id", path)),
        path=path,
        size=(height, width),
        boxes=_boxes(predicted["bboxes"]),
        scores=_array(predicted["scores"], np.float32),
        labels=_array(predicted["labels"], np.int16),
        truth=np.concatenate(not_empty),
        truth_labels=np.concatenate([counted[1], ignored[1]]),
        ignored=np.repeat((False, True), (len(counted[1]), len(ignored[1]))),
    )


def sort_unique(results: Sequence[ImageResult]) -> list[ImageResult]:
    """Sort by name, and drop the copies with which distributed samplers fill the last batch of some ranks."""
    unnamed = [result for result in results if not result.name and not result.path]
    named = {(result.name, result.path): result for result in results if result.name or result.path}
    return [named[key] for key in sorted(named)] + unnamed


@dataclass(frozen=True)
class DetectionTable:
    """Detections and ground truth of several images, one row each, images in the order of ``names``.

    Attributes:
        names: Names of the images.
        image: ``(N,)``, index of the image of each detection, ascending.
        boxes: ``(N, 5)`` boxes or ``(N, 8)`` corners, in pixels of that image.
        scores: ``(N,)``.
        labels: ``(N,)``.
        truth_image: ``(M,)``, index of the image of each ground truth object, ascending.
        truth: ``(M, 5)`` boxes or ``(M, 8)`` corners.
        truth_labels: ``(M,)``.
        ignored: ``(M,)``, which ground truth objects do not count.
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


def join_results(results: Sequence[ImageResult]) -> DetectionTable:
    """Join the results of images into flat arrays; all have boxes of one width, and ground truth of one."""
    return DetectionTable(
        names=tuple(result.name for result in results),
        image=np.repeat(np.arange(len(results)), [len(result.scores) for result in results]),
        boxes=_join_boxes([result.boxes for result in results]),
        scores=_join([result.scores for result in results]),
        labels=_join([result.labels for result in results]).astype(np.int64),
        truth_image=np.repeat(np.arange(len(results)), [len(result.truth) for result in results]),
        truth=_join_boxes([result.truth for result in results]),
        truth_labels=_join([result.truth_labels for result in results]).astype(np.int64),
        ignored=_join([result.ignored for result in results]).astype(bool),
    )


def _join(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _join_boxes(arrays: list[np.ndarray]) -> np.ndarray:
    """Join boxes; images without any do not decide whether there are five columns or eight."""
    not_empty = [boxes for boxes in arrays if len(boxes)]
    return np.concatenate(not_empty) if not_empty else np.zeros((0, 5), np.float32)


def _boxes(bboxes: Any) -> np.ndarray:
    """Return boxes of any mm box type as ``(n, 5)`` or ``(n, 8)`` float32."""
    tensor = get_box_tensor(bboxes).detach().cpu().float()
    return tensor.reshape(-1, tensor.shape[-1] if tensor.shape[-1] == 8 else 5).numpy()


def _truth(instances: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and labels; both are empty for samples without ground truth."""
    if "bboxes" not in instances:
        return np.zeros((0, 5), np.float32), np.zeros(0, np.int16)
    return _boxes(instances["bboxes"]), _array(instances["labels"], np.int16)


def _array(tensor: Any, dtype: Any) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


def devkit_ignored_difficulty(classes: Sequence[str]) -> int | None:
    """Return the difficulty from which DOTA's devkit ignores objects: 1, or ``None`` in DOTA 1.5 and 2.0.

    The devkit of later versions sets the difficulty of every object to 0.
    """
    return None if tuple(classes) in (DOTA_CLASSES["1.5"], DOTA_CLASSES["2.0"]) else 1


@dataclass(frozen=True)
class LabelFolder:
    """A folder of label files, one for each full image: DOTA's text files, or FAIR1M's xml files.

    Attributes:
        folder: Folder of ``<image>.txt`` or ``<image>.xml``.
        classes: Names, in label order; objects of other classes of DOTA or FAIR1M are dropped.
        ignore_difficulty: Objects of this difficulty or more do not count; ``None`` counts all.
        suffix: ``.txt`` or ``.xml``.
        dropped: Number of dropped objects of each class, of the files that were read.
    """

    folder: Path
    classes: tuple[str, ...]
    ignore_difficulty: int | None = None
    suffix: Literal[".txt", ".xml"] = ".txt"
    dropped: Counter[str] = field(default_factory=Counter, compare=False)

    def names(self) -> list[str]:
        """Return the names of the images, sorted.

        Raises:
            DataError: There is no label file.
        """
        found = sorted(path.stem for path in self.folder.glob(f"*{self.suffix}"))
        if not found:
            raise DataError(
                f"no label file (*{self.suffix}) in the folder",
                where=self.folder,
                fix="name the folder of the full images' own labels, such as data/DOTA/val/labelTxt",
            )
        return found

    def read(self, image: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the corners ``(m, 8)``, labels ``(m,)`` and ignored flags ``(m,)`` of an image.

        Raises:
            DataError: The file is missing or malformed, or names a class that is unknown to its format, too.
        """
        file = self.folder / f"{image}{self.suffix}"
        if not file.is_file():
            raise DataError(
                f"the full image {image!r} has no label file",
                where=file,
                fix="set full_image_labels to the full images' own labels, such as data/DOTA/val/labelTxt",
            )
        read, others = (
            (read_dota_txt, DOTA_CLASSES["2.0"])
            if self.suffix == ".txt"
            else (read_fair1m_xml, FAIR1M_CLASSES)
        )
        objects = []
        for item in read(file).objects:
            if item.name in self.classes:
                objects.append(item)
            elif item.name in others:
                self.dropped[item.name] += 1
            else:
                hint = nearest(item.name, self.classes)
                raise DataError(
                    f"unknown class {item.name!r}{f'; {hint}' if hint else ''}",
                    where=f"{file}:{item.line}" if item.line else file,
                    fix="correct the label, or list the class in the data set's metainfo",
                )
        hard = self.ignore_difficulty
        return (
            np.array([item.quad for item in objects], dtype=np.float64).reshape(-1, 8),
            np.array([self.classes.index(item.name) for item in objects], dtype=np.int16),
            np.array([hard is not None and item.difficulty >= hard for item in objects], dtype=bool),
        )
