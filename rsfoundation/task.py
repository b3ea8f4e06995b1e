"""What a task family declares to the rest of the package.

``engine``, ``inference`` and ``cli`` know no task by name: they read the config key ``task``, build
the class it names from :data:`rsfoundation.registry.TASKS`, and use only what stands here. A fifth
task is added by registering a subclass of :class:`Task`; nothing else changes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from mmengine.structures import BaseDataElement

from rsfoundation.errors import ConfigError


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


class SceneResult(Protocol):
    """A task's prediction for one whole scene, in scene pixels."""

    def summary(self) -> dict[str, int | float | str]:
        """Return the few figures that the console prints, such as objects per class."""
        ...


class Accumulator(Protocol):
    """Collects the predictions of overlapping windows and merges them in scene pixels."""

    def add(self, window: Window, sample: BaseDataElement) -> None:
        """Take the prediction of one window; its coordinates are window pixels."""
        ...

    def result(self) -> SceneResult:
        """Merge what was added."""
        ...


Writer = Callable[[Any, Path], None]


@dataclass(frozen=True)
class TestRequest:
    """What a user asked of a test beside the config.

    Attributes:
        format_only: Write a submission for the data set's server in place of figures.
        out: Folder of that submission.
        images: Folder of the full test images, where the config tests patches of them.
        tta: Test each image several times, flipped and at several scales.
    """

    __test__ = False  # not a test class for pytest

    format_only: bool = False
    out: Path | None = None
    images: Path | None = None
    tta: bool = False


class Task(ABC):
    """One task family: names of its figures, its pictures, its prediction files.

    Images handed to and returned by the drawing methods are ``uint8`` RGB arrays ``(H, W, 3)``.

    Attributes:
        name: Short name, used for folders and in result files (``detection``).
        metric_names: Evaluator key -> unified name of each figure reported at test.
        primary_metric: The unified name whose best checkpoint is kept.
        images_per_scene: How many images make one input (two for change detection).
        writers: File suffix (``json``, ``txt``) -> function that writes a scene result.
    """

    name: ClassVar[str]
    metric_names: ClassVar[Mapping[str, str]]
    primary_metric: ClassVar[str]
    images_per_scene: ClassVar[int] = 1
    writers: ClassVar[Mapping[str, Writer]]

    def window_input(self, crops: Sequence[np.ndarray]) -> dict[str, Any]:
        """Turn the crops of one window into what the test pipeline expects after its loading steps.

        Args:
            crops: ``images_per_scene`` BGR ``uint8`` arrays ``(H, W, 3)``.

        Returns:
            A results dict as ``LoadImageFromFile`` would have left it.
        """
        (crop,) = crops
        size = crop.shape[:2]
        return dict(img=crop, img_shape=size, ori_shape=size, height=size[0], width=size[1], img_path="")

    @abstractmethod
    def accumulator(self, height: int, width: int, classes: Classes, score_threshold: float) -> Accumulator:
        """Return an empty accumulator for a scene of ``height`` x ``width`` pixels."""

    @abstractmethod
    def draw_result(self, images: Sequence[np.ndarray], result: Any, classes: Classes) -> np.ndarray:
        """Draw a scene result over its image(s)."""

    @abstractmethod
    def draw_truth(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw the ground truth of a sample over its image(s)."""

    @abstractmethod
    def draw_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, classes: Classes
    ) -> np.ndarray:
        """Draw ground truth and prediction of one tested sample side by side."""

    def draw_scene_comparison(
        self, images: Sequence[np.ndarray], sample: BaseDataElement, result: Any, classes: Classes
    ) -> np.ndarray | None:
        """Draw the ground truth and the result of one whole scene in a picture.

        ``None`` (the default) sets what :meth:`draw_truth` and :meth:`draw_result` draw side by side.
        """
        return None

    @abstractmethod
    def image_paths(self, sample: BaseDataElement) -> list[str]:
        """Return the file(s) a tested sample was read from."""

    def read_part(self, sample: BaseDataElement) -> np.ndarray | None:
        """Return the RGB image ``(H, W, 3)`` of a sample that is only a part of its file.

        ``None`` (the default): the image is all of :meth:`image_paths`.
        """
        return None

    def prepare_train(self, cfg: Any) -> None:
        """Change a training's config; called before the runner is built. By default nothing."""
        return

    def prepare_test(self, cfg: Any, request: TestRequest) -> None:
        """Change a test's config as the user asked; called before the runner is built.

        Raises:
            ConfigError: The task cannot do that.
        """
        options = {"--format-only": request.format_only, "--tta": request.tta}
        for option in (name for name, asked in options.items() if asked):
            raise ConfigError(f"{self.name} has no {option}", where=option, cure="leave the option out")

    def write_reports(self, metrics: Sequence[Any], folder: Path) -> list[Path]:
        """Write what a test's metrics know beside their figures, and return the files; on the first rank."""
        return []

    def find_truth(self, paths: Sequence[Path], classes: Classes) -> BaseDataElement | None:
        """Return the ground truth that lies beside a scene's file(s) in the layout of the task's data sets.

        Prediction then draws truth and result side by side. ``None`` where there is none.
        """
        return None
