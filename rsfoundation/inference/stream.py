"""Windows through models: read ahead in threads, predicted in batches across windows and scenes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from mmengine.structures import BaseDataElement
from numpy.typing import NDArray

from rsfoundation.core.errors import DataError, RSFError
from rsfoundation.core.task import Window
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.scenes import Scene

Samples = list[BaseDataElement]


@dataclass(frozen=True)
class WindowJob:
    """One window to predict, or a mark in the stream.

    Attributes:
        owner: What the job belongs to; jobs of one owner come back in order.
        scene: The scene; ``None`` for a mark.
        window: In scene pixels; ``None`` for a mark.
        mark: Called when every earlier job of the stream has been handed out.
    """

    owner: Any
    scene: Scene | None = None
    window: Window | None = None
    mark: Callable[[], None] | None = None


@dataclass(frozen=True)
class WindowResult:
    """What became of a window.

    Attributes:
        job: The window.
        samples: One prediction per model; empty where the window holds no data or failed.
        valid: Which pixels hold data; ``None`` where all do.
        error: Why there is no prediction.
    """

    job: WindowJob
    samples: Samples
    valid: NDArray[np.bool_] | None = None
    error: RSFError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the window holds no data."""
        return not self.samples and self.error is None


@dataclass
class _Read:
    job: WindowJob
    inputs: list[dict[str, Any]] | None = None  # one packed input per model
    valid: NDArray[np.bool_] | None = None
    error: RSFError | None = None


class WindowStream:
    """Predicts windows in the order in which they come.

    Batches always hold ``batch_size`` windows of one shape: a smaller rest is filled with copies of its last
    window, since a network may round differently for another batch size. A window therefore gets the same
    numbers in whatever run it is predicted.

    Args:
        models: Models that see every window.
        batch_size: Windows per forward pass.
        workers: Threads that read.
        is_wanted: Whether an owner's windows are still worth predicting.
    """

    def __init__(
        self,
        models: Sequence[WindowModel],
        batch_size: int,
        workers: int = 2,
        is_wanted: Callable[[Any], bool] = lambda owner: True,
    ) -> None:
        self.models, self.batch_size, self.workers = models, batch_size, workers
        self._is_wanted = is_wanted
        self._pipelines = Lock()  # transforms keep state while they run

    def run(self, jobs: Iterable[WindowJob]) -> Iterator[WindowResult]:
        """Yield one result per window, in order; marks are called in between.

        Args:
            jobs: Windows and marks.
        """
        held: deque[_Read] = deque()
        with ThreadPoolExecutor(max(1, self.workers), thread_name_prefix="read") as pool:
            for read in self._ahead(jobs, pool):
                if held and self._breaks_batch(held, read):
                    yield from self._hand_out(held)
                held.append(read)
                if sum(one.inputs is not None for one in held) >= self.batch_size:
                    yield from self._hand_out(held)
            yield from self._hand_out(held)

    def _ahead(self, jobs: Iterable[WindowJob], pool: ThreadPoolExecutor) -> Iterator[_Read]:
        """Read windows ahead of the model, a little more than the next batch."""
        waiting: deque[Future[_Read]] = deque()
        room = self.batch_size + self.workers + 1
        try:
            for job in jobs:
                waiting.append(pool.submit(self._read, job))
                if len(waiting) >= room:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _read(self, job: WindowJob) -> _Read:
        if job.scene is None or job.window is None or not self._is_wanted(job.owner):
            return _Read(job)
        error: RSFError | None = None
        for _ in range(2):  # a second try: network drives fail once in a while
            try:
                return self._read_once(job, job.scene, job.window)
            except RSFError as problem:
                error = problem
            except (OSError, ValueError) as problem:
                error = DataError(
                    f"the window {_text(job.window)} cannot be read: {problem}", where=job.scene.paths[0]
                )
        return _Read(job, error=error)

    def _read_once(self, job: WindowJob, scene: Scene, window: Window) -> _Read:
        valid = scene.valid(window)
        if not valid.any():
            return _Read(job)
        crops = scene.crops(window)
        with self._pipelines:
            inputs = [model.pack(crops[-model.scenes.images_per_scene :]) for model in self.models]
        return _Read(job, inputs, None if valid.all() else valid)

    def _breaks_batch(self, held: deque[_Read], read: _Read) -> bool:
        """Say whether a window cannot join the batch: its shape differs, or a mark is to be called."""
        if read.inputs is None or read.job.window is None:
            return False
        first = next((one for one in held if one.inputs is not None), None)
        return first is not None and _shape(first) != _shape(read)

    def _hand_out(self, held: deque[_Read]) -> Iterator[WindowResult]:
        """Predict the held windows and yield them, empty ones and marks in their places."""
        full = [read for read in held if read.inputs is not None]
        predicted = iter(self._predict(full) if full else [])
        while held:
            read = held.popleft()
            if read.job.mark is not None:
                read.job.mark()
            elif read.inputs is not None:
                outcome = next(predicted)
                samples = outcome if isinstance(outcome, list) else []
                error = None if isinstance(outcome, list) else outcome
                yield WindowResult(read.job, samples, read.valid, error)
            else:
                yield WindowResult(read.job, [], None, read.error)

    def _predict(self, reads: Sequence[_Read]) -> list[Samples | RSFError]:
        """Predict a batch; when that fails twice, each window alone: the error names the right one."""
        for _ in range(2):
            try:
                return self._forward(reads)
            except RSFError:
                raise
            except (RuntimeError, ValueError, FloatingPointError) as problem:
                cause = problem
        if len(reads) > 1:
            return [outcome for read in reads for outcome in self._predict([read])]
        scene, window = reads[0].job.scene, reads[0].job.window
        assert scene is not None and window is not None
        error = DataError(
            f"the model failed on the window {_text(window)}: {cause}",
            where=scene.paths[0],
            fix="choose smaller windows (--window) or batches (--batch-size) where memory ran out",
        )
        error.__cause__ = cause
        return [error]

    def _forward(self, reads: Sequence[_Read]) -> list[Samples | RSFError]:
        filled = [*reads, *[reads[-1]] * (self.batch_size - len(reads))]
        by_model = []
        for place, model in enumerate(self.models):
            packed = [read.inputs[place] for read in filled if read.inputs is not None]
            by_model.append(model.predict_packed(packed)[: len(reads)])
        return [list(samples) for samples in zip(*by_model, strict=True)]


def _shape(read: _Read) -> tuple[int, int]:
    assert read.job.window is not None
    return read.job.window.height, read.job.window.width


def _text(window: Window) -> str:
    return f"at column {window.left}, row {window.top} ({window.width} x {window.height} pixels)"
