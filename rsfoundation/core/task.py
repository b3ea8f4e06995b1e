"""What a task family declares to the rest of the package: a small core and optional capabilities.

``engine``, ``inference`` and ``cli`` know no task by name. They read the config key ``task``, build the
class it names from :data:`rsfoundation.registry.TASKS`, and ask it for the capabilities they need with
``isinstance`` or :func:`require`. A task is added by registering a subclass of :class:`Task` that inherits
the capabilities it has; nothing else changes.

| capability              | used by                                                    |
| ----------------------- | ---------------------------------------------------------- |
| :class:`Evaluates`      | validation and ``rsf test``: metric names, reports         |
| :class:`Draws`          | pictures of truth and prediction, ``rsf browse``           |
| :class:`PredictsScenes` | ``rsf predict``: windows in, merged results and files out  |
| :class:`PredictsMaps`   | the same for maps: one class per pixel, written row by row |
| :class:`ChecksData`     | the summary of the data before training                    |
| :class:`Submits`        | ``rsf test --format-only``: archives for a server          |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.reports import DatasetReport

if TYPE_CHECKING:  # imports torch, which reading a config does not need
    from mmengine.structures import BaseDataElement

Stage = Literal["train", "test", "predict"]


@dataclass(frozen=True)
class Classes:
    """Class names and their colours, in label order.

    Attributes:
        names: One name per label.
        palette: One RGB colour (0..255) per label.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Window:
    """A rectangle of a scene in scene pixels: ``[left, left + width) x [top, top + height)``."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class RunRequest:
    """What a run is for, as far as a task has a say in its config.

    Attributes:
        stage: ``train``, ``test`` or ``predict``.
        format_only: Write a submission for the data set's server instead of metrics.
        out: Folder of that submission.
        images: Folder of the full test images, where the config tests patches of them.
        tta: Test-time augmentation: predict each image several times, flipped and at several scales.
    """

    stage: Stage = "train"
    format_only: bool = False
    out: Path | None = None
    images: Path | None = None
    tta: bool = False


class Task(ABC):
    """The core that every task has.

    Attributes:
        name: Short name, used for folders and in result files (``detection``).
    """

    name: ClassVar[str]

    def prepare_config(self, cfg: Any, request: RunRequest) -> None:
        """Change the config of a run as the task needs it; called once, by ``resolve_config``.

        The default changes nothing and refuses what only some tasks can do.

        Args:
            cfg: The config, which may be changed in place.
            request: What the run is for.

        Raises:
            ConfigError: The task cannot do what the request asks for.
        """
        options = {"--format-only": request.format_only, "--tta": request.tta}
        for option in (name for name, asked in options.items() if asked):
            raise ConfigError(f"{self.name} has no {option}", where=option, fix="leave the option out")


class Evaluates(ABC):
    """Has metrics.

    Attributes:
        metric_names: Evaluator key -> unified name of each metric reported at test.
        primary_metric: The unified name whose best checkpoint is kept.
    """

    metric_names: ClassVar[Mapping[str, str]]
    primary_metric: ClassVar[str]

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write curves and tables of a test; called on the first rank. By default there are none.

        Args:
            metrics: The evaluator's metric objects after the test.
            folder: The run folder.

        Returns:
            The files written.
        """
        return []


class Draws(ABC):
    """Draws samples. Images are ``uint8`` RGB arrays ``(H, W, 3)``."""

    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the file(s) that a sample was read from, one per date."""
        paths = sample.metainfo["img_path"]
        return [paths] if isinstance(paths, str) else list(paths)

    def read_region(self, sample: BaseDataElement) -> np.ndarray | None:
        """Return the RGB image ``(H, W, 3)`` of a sample that is only a region of its file.

        ``None`` (the default): the image is all of :meth:`image_paths`.
        """
        return None

    def sample_error(self, sample: BaseDataElement) -> float | None:
        """Return how wrong the prediction of a tested sample is: 0 is right, 1 is all wrong.

        ``rsf browse --predictions`` sorts by it. ``None`` (the default): the task has no such number.
        """
        return None

    @abstractmethod
    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw the ground truth of a sample over its image(s).

        Args:
            images: The image, or one image per date, RGB ``(H, W, 3)`` uint8.
            sample: Data sample with ground truth, in pixels of the images.
            classes: Names and colours of the classes.
        """

    @abstractmethod
    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw ground truth and prediction of one tested sample side by side.

        Args:
            images: The image, or one image per date, RGB ``(H, W, 3)`` uint8.
            sample: Data sample with ground truth and prediction.
            classes: Names and colours of the classes.
        """


class SceneResult(Protocol):
    """A task's prediction for one whole scene, in scene pixels."""

    def summary(self) -> dict[str, int | float | str]:
        """Return the few numbers that the console prints, such as objects per class."""
        ...


class Accumulator(Protocol):
    """Collects the predictions of overlapping windows and merges them in scene pixels."""

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take the prediction of one window; its coordinates are window pixels.

        Args:
            window: Place of the window in the scene, in scene pixels.
            sample: The prediction of that window.
        """
        ...

    def result(self) -> SceneResult:
        """Merge what was added."""
        ...


class WindowCores(Protocol):
    """Knows which part of each window belongs to it alone: every pixel of a scene is in one core."""

    def cores(self, windows: Sequence[Window]) -> np.ndarray:
        """Return the core ``x1 y1 x2 y2`` ``(N, 4)`` of each window in scene pixels (pixel edges)."""
        ...


@dataclass(frozen=True)
class MergeOptions:
    """How predictions of overlapping windows are merged, as far as the task leaves a choice.

    Attributes:
        class_agnostic: Suppress overlapping detections of different classes too.
        grid: The windows of the scene, where they are known.
    """

    class_agnostic: bool = False
    grid: WindowCores | None = None


Writer = Callable[[Any, Path], None]


class PredictsScenes(ABC):
    """Predicts whole scenes window by window.

    Attributes:
        images_per_scene: How many images make one input (two for change detection).
        writers: File suffix (``json``, ``txt``) -> function that writes a scene result in scene pixels; all
            of them are written for scenes without a CRS, unless the user chooses.
        more_writers: The same for files that are written only where the user asks for them.
    """

    images_per_scene: ClassVar[int] = 1
    writers: ClassVar[Mapping[str, Writer]]
    more_writers: ClassVar[Mapping[str, Writer]] = {}

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Turn the crops of one window into what the test pipeline expects after its loading steps.

        Args:
            crops: ``images_per_scene`` arrays ``(H, W, C)`` as the config's loading step would return them
                (three bands: blue, green, red).

        Returns:
            A results dict as ``LoadImageFromFile`` would have left it.
        """
        (crop,) = crops
        size = crop.shape[:2]
        return dict(img=crop, img_shape=size, ori_shape=size, height=size[0], width=size[1], img_path="")

    @abstractmethod
    def accumulator(
        self,
        height: int,
        width: int,
        classes: Classes,
        score_threshold: float,
        options: MergeOptions = MergeOptions(),
    ) -> Accumulator:
        """Return an empty accumulator.

        Args:
            height: Scene height in pixels.
            width: Scene width in pixels.
            classes: Of the model.
            score_threshold: Predictions below it are dropped, where the task has scores.
            options: Choices of the merge.
        """

    def pack_prediction(
        self, sample: BaseDataElement, score_threshold: float
    ) -> dict[str, np.ndarray] | None:
        """Return what the accumulator needs of a window's prediction as small arrays.

        A killed run continues inside a scene from them, and ranks exchange them. ``None`` (the default): the
        task does not support that; a scene is then predicted by one process in one go.

        Args:
            sample: The prediction of one window.
            score_threshold: Predictions below it may be left out.
        """
        return None

    def unpack_prediction(self, arrays: Mapping[str, np.ndarray]) -> BaseDataElement:
        """Return a sample that the accumulator treats like the one that was packed.

        Args:
            arrays: From :meth:`pack_prediction`.
        """
        raise NotImplementedError(f"{type(self).__name__} packs predictions and does not unpack them")

    def features(self, result: Any, classes: Classes) -> Any | None:
        """Return the objects of a result as :class:`rsfoundation.io.vectors.Features`.

        ``None`` (the default): the task has no objects, and vector files cannot be written.

        Args:
            result: Of the accumulator.
            classes: Of the model.
        """
        return None

    @abstractmethod
    def draw_result(self, images: Sequence[np.ndarray], result: Any, classes: Classes) -> np.ndarray:
        """Draw a scene result over its image(s).

        Args:
            images: The image, or one image per date, RGB ``(H, W, 3)`` uint8.
            result: What the accumulator returned for the scene.
            classes: Names and colours of the classes.
        """

    def shrunk(self, result: Any, height: int, width: int) -> Any:
        """Return a result in the pixels of an overview of the scene, to be drawn over it.

        Args:
            result: Of the accumulator.
            height: Of the overview.
            width: Of the overview.
        """
        return result

    def draw_scene_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, result: Any, classes: Classes
    ) -> np.ndarray | None:
        """Draw the ground truth and the result of one whole scene in a picture.

        ``None`` (the default) sets what ``draw_truth`` and :meth:`draw_result` draw side by side.

        Args:
            images: The image, or one image per date, RGB ``(H, W, 3)`` uint8.
            sample: Ground truth of the scene.
            result: What the accumulator returned for the scene.
            classes: Names and colours of the classes.
        """
        return None

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> BaseDataElement | None:
        """Return the ground truth next to a scene's file(s) in the layout of the task's data sets.

        Prediction then draws truth and result side by side. ``None`` where there is none.

        Args:
            paths: The file(s) of the scene, one per date.
            classes: Names and colours of the classes.
        """
        return None


class ClassScores(NamedTuple):
    """Scores of the classes in each pixel of a window.

    Attributes:
        values: ``(C, H, W)`` float32.
        are_logits: Whether the softmax of the values gives probabilities; otherwise they are probabilities.
    """

    values: np.ndarray
    are_logits: bool


class PredictsMaps(PredictsScenes):
    """Predicts one class per pixel; results are maps that are written while the scene is predicted."""

    background: ClassVar[int | None] = None
    """Label that gets no polygons, such as ``unchanged``."""

    @abstractmethod
    def class_scores(self, sample: BaseDataElement) -> ClassScores:
        """Return the scores of one window."""

    @abstractmethod
    def map_result(self, labels: Any, classes: Classes) -> SceneResult:
        """Return the result for a finished map.

        Args:
            labels: ``(H, W)`` uint8, an array or an object that returns rows by slices; 255 is no data.
            classes: Of the model.
        """


class ChecksData:
    """Has data sets that keep a report of everything they left out or repaired while they were read."""

    def dataset_report(self, dataset: Any) -> DatasetReport:
        """Return the report of a data set that has been built, or the merged one of those that it wraps."""
        wrapped = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
        parts = [part for part in wrapped if part is not None]
        if not parts:
            return dataset.report
        merged = DatasetReport()
        for part in parts:
            merged.merge(self.dataset_report(part))
        return merged


class Submits(ABC):
    """Writes archives for a server.

    Attributes:
        servers: Name of each server that ``--format-only`` writes for.
    """

    servers: ClassVar[tuple[str, ...]]


Capability = TypeVar("Capability")


def require(task: Task, capability: type[Capability], verb: str) -> Capability:
    """Return the task as one that has a capability.

    Args:
        task: The task of the config.
        capability: Such as :class:`PredictsScenes`.
        verb: What the user asked for, for the message: ``rsf predict``.

    Raises:
        ConfigError: The task has no such capability.
    """
    if not isinstance(task, capability):
        raise ConfigError(
            f"the task '{task.name}' has no {capability.__name__}: `{verb}` cannot run it",
            where="task of the config",
            fix="choose a config of another task: `rsf info configs` lists them",
        )
    return task
