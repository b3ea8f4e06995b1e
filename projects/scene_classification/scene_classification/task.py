"""What scene classification declares to engine, inference and console."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement

from rsfoundation.core.task import (
    Classes,
    Draws,
    Evaluates,
    MergeOptions,
    PredictsScenes,
    Task,
    Window,
    Writer,
)
from rsfoundation.registry import TASKS
from rsfoundation.visualization import add_legend, magnification, magnify


@dataclass(frozen=True)
class SceneScores:
    """Mean class scores of a scene."""

    names: tuple[str, ...]
    scores: np.ndarray

    def summary(self) -> dict[str, int | float | str]:
        """Return the best class and its score."""
        best = int(self.scores.argmax())
        return {"class": self.names[best], "score": round(float(self.scores[best]), 3)}


class MeanOverWindows:
    """Average the scores of the windows, weighted by area."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.total, self.area = names, np.zeros(len(names)), 0

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take one window."""
        area = window.width * window.height
        self.total += area * sample.scores.numpy()
        self.area += area

    def result(self) -> SceneScores:
        """Return the mean."""
        return SceneScores(self.names, self.total / self.area)


def write_json(result: SceneScores, path: Path) -> None:
    """Write ``{class: score}``."""
    path.write_text(json.dumps(dict(zip(result.names, result.scores.tolist(), strict=True)), indent=2))


@TASKS.register_module()
class SceneClassification(Task, Evaluates, Draws, PredictsScenes):
    """One class per image."""

    name: ClassVar[str] = "scene"
    metric_names: ClassVar[Mapping[str, str]] = {"scene/accuracy": "accuracy"}
    primary_metric: ClassVar[str] = "accuracy"
    writers: ClassVar[Mapping[str, Writer]] = {"json": write_json}

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Windows go to the model as they are: the data set has no pipeline."""
        (crop,) = crops
        image = torch.from_numpy(np.ascontiguousarray(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB))).permute(2, 0, 1)
        return dict(inputs=image, data_samples=BaseDataElement())

    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),  # noqa: B008 (frozen)
    ) -> MeanOverWindows:
        """Average over windows."""
        return MeanOverWindows(classes.names)

    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Name the class below the image."""
        return _captioned(images[0], [("truth", sample.label)], classes)

    def draw_result(self, images: Sequence[np.ndarray], result: SceneScores, classes: Classes) -> np.ndarray:
        """Name the best class below the image."""
        return _captioned(images[0], [("prediction", int(result.scores.argmax()))], classes)

    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Name truth and prediction below the image."""
        rows = [("truth", sample.label), ("prediction", int(sample.scores.argmax()))]
        return _captioned(images[0], rows, classes)


def _captioned(image: np.ndarray, rows: list[tuple[str, int]], classes: Classes) -> np.ndarray:
    picture = magnify(image, magnification(image, 320))
    return add_legend(
        picture, [(f"{what}: {classes.names[label]}", classes.palette[label]) for what, label in rows]
    )
