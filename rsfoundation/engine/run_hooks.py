"""The hooks of every run: its record and curves, throughput, pictures, and the check of its classes."""

from __future__ import annotations

import heapq
import inspect
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.structures import BaseDataElement
from mmengine.visualization import LocalVisBackend
from torch import Tensor, nn

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.files import write_json
from rsfoundation.core.task import Classes, Draws, Task
from rsfoundation.datasets.transforms.images import pipeline_loading
from rsfoundation.engine.config import classes_of
from rsfoundation.engine.environment import environment_report
from rsfoundation.engine.results import unify_metrics
from rsfoundation.engine.tracking import PROGRESS
from rsfoundation.io.images import write_rgb
from rsfoundation.io.loading import ImageLoading
from rsfoundation.registry import HOOKS

_NO_CURVE = {"epoch", "iter", "lr", "base_lr", "time", "data_time", "memory", "grad_norm"}


def draw_curves(record: dict[str, Any], path: Path) -> None:
    """Draw the record of a run: losses, validation metrics and learning rate over iterations.

    Args:
        record: ``{"train": [...], "val": [...]}`` as kept by ``RunRecordHook``; each row has ``iter``.
        path: The PNG file; nothing is written while there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, val = record["train"], record["val"]
    if not train and not val:
        return
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, metrics, rates = figure.subplots(1, 3)
    _lines(losses, train, [key for key in _keys(train) if "loss" in key], bold="loss")
    losses.set(title="training loss", xlabel="iteration", yscale="log")
    _lines(metrics, val, _keys(val), marker="o")
    metrics.set(title="validation", xlabel="iteration", ylim=(0, 1))
    metrics.set_xlim(0, max((row["iter"] for row in (*train, *val)), default=1) * 1.05)
    _lines(rates, train, ["lr"])
    rates.set(title="learning rate", xlabel="iteration")
    for axes in (losses, metrics, rates):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _keys(rows: list[dict[str, Any]]) -> list[str]:
    return [key for key in dict.fromkeys(key for row in rows for key in row) if key not in _NO_CURVE]


def _lines(axes: Any, rows: list[dict[str, Any]], keys: list[str], bold: str = "", **style: Any) -> None:
    for key in keys:
        points = [(row["iter"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=key, linewidth=2.2 if key == bold else 1.0, **style)


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Write ``config.py``, ``environment.json``, ``metrics.json`` and ``curves.png`` into the run folder.

    ``metrics.json`` holds the training scalars of each logged iteration and the unified metrics of each
    validation. It is written with every checkpoint, and a resumed run continues it.

    Args:
        task: Gives the unified names of the metrics.
        interval: Training iterations between two kept scalars.
    """

    priority = "LOW"  # before the checkpoint hook

    def __init__(self, task: Task, interval: int = 10) -> None:
        self.task = task
        self.interval = interval
        self.record: dict[str, Any] = {"task": task.name, "train": [], "val": []}

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Write the resolved config and the environment."""
        folder = Path(runner.work_dir)
        runner.cfg.dump(folder / "config.py")
        write_json(folder / "environment.json", environment_report())

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Go on with the record of the run that is resumed, up to where it resumes."""
        file = Path(runner.work_dir) / "metrics.json"
        if runner.iter and file.is_file():
            earlier = json.loads(file.read_text())
            for part in ("train", "val"):
                self.record[part] = [row for row in earlier.get(part, []) if row["iter"] <= runner.iter]

    @master_only
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the scalars of every ``interval``-th iteration."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        scalars = runner.message_hub.log_scalars
        row: dict[str, Any] = {"epoch": runner.epoch + 1, "iter": runner.iter + 1}
        for key, buffer in scalars.items():
            if key.startswith("train/") and buffer.data[0].size:
                row[key.removeprefix("train/")] = buffer.mean(min(self.interval, buffer.data[0].size))
        self.record["train"].append(row)

    @master_only
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the metrics of a validation and refresh the files."""
        unified, _ = unify_metrics(self.task, metrics or {})
        if runner.iter:
            # a run that was killed while it validated does so again
            rows = [row for row in self.record["val"] if row["iter"] != runner.iter]
            self.record["val"] = [*rows, {"epoch": runner.epoch, "iter": runner.iter, **unified}]
            self._write(runner)

    @master_only
    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the metrics so far."""
        write_json(Path(runner.work_dir) / "metrics.json", self.record)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Refresh the files a last time."""
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        folder = Path(runner.work_dir)
        write_json(folder / "metrics.json", self.record)
        draw_curves(self.record, folder / "curves.png")


_WINDOW = 20  # iterations


@HOOKS.register_module()
class ProgressHook(Hook):
    """Log ``images_per_second`` over all ranks and, without CUDA, ``peak_memory_mb`` of this process.

    mmengine's own line has the remaining time, the times of an iteration and of its data and, on CUDA, the
    peak memory of the device. Trackers get the epoch and the iteration of each row.
    """

    priority = "NORMAL"  # after IterTimerHook, which is registered earlier, and before LoggerHook

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Measure the last iterations."""
        hub = runner.message_hub
        _note_progress(runner, 1)
        if "train/time" not in hub.log_scalars or not isinstance(data_batch, dict):
            return
        seconds = hub.get_scalar("train/time").mean(_WINDOW)
        images = len(data_batch["inputs"]) * get_world_size()
        hub.update_scalar("train/images_per_second", images / max(seconds, 1e-9))
        if not torch.cuda.is_available():
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # Linux counts in KiB
            hub.update_scalar("train/peak_memory_mb", peak)

    def before_val_epoch(self, runner: Runner) -> None:
        """Note where the training is."""
        _note_progress(runner, 0)


def _note_progress(runner: Runner, running: int) -> None:
    """Keep the epoch and the iteration for trackers; ``running`` is 1 within an iteration, 0 after it."""
    progress = {"iter": runner.iter + running}
    if isinstance(runner.train_loop, EpochBasedTrainLoop):
        progress["epoch"] = runner.epoch + running
    runner.message_hub.update_info(PROGRESS, progress, resumed=False)


@HOOKS.register_module()
class CompileHook(Hook):
    """Run every backbone and neck of the model through ``torch.compile``, and log how long compiling took.

    Names of weights stay: checkpoints are those of a run without it. Heads stay eager, as they call operators
    and count objects, and so does validation: compiling for its images would take longer than they do. Images
    of another size compile once more, up to torch's limit of eight sizes; others run as they are. One graph
    for all sizes (``dynamic=True``) is not the default, since torch 2.13 fails to make some for a CPU.

    Args:
        **options: Of ``torch.compile``: ``mode``, ``backend``, ``dynamic`` ...
    """

    priority = "VERY_LOW"

    def __init__(self, **options: Any) -> None:
        self.options = {"dynamic": False, **options}
        self._ends: list[float] = []
        self._validates = False

    def before_train(self, runner: Runner) -> None:
        """Prepare the parts; they are compiled when they are called first.

        Raises:
            ConfigError: The model has none, or torch does not know an option.
        """
        parts = compiled_parts(runner.model)
        try:
            for part in parts.values():
                compiled = torch.compile(part.forward, **self.options)
                part.forward = partial(self._forward, part.forward, compiled)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"torch.compile refuses {self.options}: {error}",
                where="compile_backbone",
                fix="compile_backbone=True, or a mode and a backend of torch.compile",
            ) from error
        runner.logger.info(f"torch.compile: {', '.join(parts)}; the first step compiles them")
        self._ends = [time.perf_counter()]

    def _forward(self, eager: Callable[..., Any], compiled: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return (eager if self._validates else compiled)(*args, **kw)

    def before_val(self, runner: Runner) -> None:
        """Run the parts as they are."""
        self._validates = True

    def after_val(self, runner: Runner) -> None:
        """Run the compiled parts."""
        self._validates = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log the time of the first step less that of the second, once."""
        if len(self._ends) > 2:
            return
        self._ends.append(time.perf_counter())
        if len(self._ends) == 3:
            start, first, second = self._ends
            seconds = max(0.0, (first - start) - (second - first))
            runner.logger.info(
                f"torch.compile: compiled in {seconds:.1f} s (first step {first - start:.1f} s, "
                f"second {second - first:.2f} s)"
            )


def compiled_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the outermost modules named ``backbone`` or ``neck`` by their dotted names.

    Args:
        model: The model in all its wrappers.

    Raises:
        ConfigError: There is none.
    """
    parts: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in parts)
        if name.rpartition(".")[2] in ("backbone", "neck") and not inside:
            parts[name] = module
    if not parts:
        raise ConfigError(
            "the model has no part named backbone or neck to compile",
            where="compile_backbone",
            fix="leave --compile out",
        )
    return parts


class WorstHook(Hook):
    """Keep the samples of a test whose predictions are furthest from the truth; draw the worst first.

    Args:
        task: Judges and draws samples.
        folder: For ``NNN_<error>_<image>.png`` and ``errors.json`` with all samples, the worst first.
        count: Pictures; no more predictions are in memory.

    Attributes:
        errors: Error and image of every sample, the worst first, after the test.
    """

    def __init__(self, task: Draws, folder: Path, count: int = 16) -> None:
        self.task = task
        self.folder = folder
        self.count = count
        self.errors: list[tuple[float, str]] = []
        self._kept: list[tuple[float, int, BaseDataElement]] = []  # a heap, the least error first

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Judge the samples of a batch."""
        for sample in outputs or ():
            error = self.task.sample_error(sample)
            if error is None:
                name = getattr(self.task, "name", type(self.task).__name__)
                raise ConfigError(
                    f"{name} has no error of one image", where="--predictions", fix="leave it out"
                )
            self.errors.append((error, self.task.image_paths(sample)[0]))
            entry = (error, -len(self.errors), sample.cpu())
            if len(self._kept) < self.count:
                heapq.heappush(self._kept, entry)
            else:
                heapq.heappushpop(self._kept, entry)

    def after_test_epoch(self, runner: Runner, metrics: Any = None) -> None:
        """Draw what was kept."""
        self.errors.sort(key=lambda one: (-one[0], one[1]))
        dataset = runner.test_dataloader.dataset
        classes = classes_of(dataset.metainfo)
        loading = pipeline_loading(getattr(getattr(dataset, "pipeline", None), "transforms", ()))
        for place, (error, _, sample) in enumerate(sorted(self._kept, key=lambda one: (-one[0], -one[1]))):
            paths = self.task.image_paths(sample)
            part = self.task.read_region(sample)
            images = [loading.picture(path) for path in paths] if part is None else [part]
            file = self.folder / f"{place:03d}_{error:.3f}_{Path(paths[0]).stem}.png"
            write_rgb(file, self.task.draw_comparison(images, sample, classes))
        rows = [dict(error=error, image=image) for error, image in self.errors]
        write_json(self.folder / "errors.json", dict(samples=rows))


@HOOKS.register_module()
class PictureHook(Hook):
    """Write ``pictures/{val,test}/NNN_<image>.png`` for the first samples of each evaluation.

    Args:
        task: Draws the pictures.
        count: Pictures per evaluation.
        max_side: Longer side of a picture's source in pixels; larger images are drawn smaller.
    """

    def __init__(self, task: Draws, count: int = 8, max_side: int = 4096) -> None:
        self.task = task
        self.count = count
        self.max_side = max_side
        self._classes: Classes | None = None
        self._loading = ImageLoading()
        self._drawn = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting."""
        self._start(runner.test_dataloader.dataset)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw what is left to draw of this batch."""
        self._draw(runner, "val", outputs or (), runner.iter)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[BaseDataElement] | None = None,
    ) -> None:
        """Draw what is left to draw of this batch."""
        self._draw(runner, "test", outputs or (), 0)

    def _start(self, dataset: Any) -> None:
        self._classes = classes_of(dataset.metainfo)
        steps = getattr(getattr(dataset, "pipeline", None), "transforms", ())
        self._loading = pipeline_loading(steps)
        self._drawn = 0

    def _draw(self, runner: Runner, mode: str, samples: Sequence[BaseDataElement], step: int) -> None:
        if not is_main_process() or self._classes is None:
            return
        for sample in samples[: self.count - self._drawn]:
            name = f"{self._drawn:03d}_{Path(self.task.image_paths(sample)[0]).stem}"
            self._drawn += 1
            try:
                self._draw_sample(runner, mode, name, sample, step)
            except Exception as error:  # whatever a task's drawing raises, no run ends for a picture
                reason = f"{type(error).__name__}: {error}"
                runner.logger.warning(f"the picture {name} is not drawn ({reason})")

    def _draw_sample(self, runner: Runner, mode: str, name: str, sample: BaseDataElement, step: int) -> None:
        assert self._classes is not None
        part = self.task.read_region(sample)
        loading = self._loading
        images = [loading.picture(path) for path in self.task.image_paths(sample)] if part is None else [part]
        picture = self._fit(self.task.draw_comparison(images, sample, self._classes))
        write_rgb(Path(runner.work_dir) / "pictures" / mode / f"{name}.png", picture)
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):
                backend.add_image(f"{mode}/{name}", picture, step=step)

    def _fit(self, picture: Any) -> Any:
        scale = self.max_side / max(picture.shape[:2])
        return (
            picture
            if scale >= 1
            else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        )


# their num_classes is not the data's; the last two: land cover of semantic change
_OTHERS = {"backbone", "neck", "rpn_head", "semantic_cd_head", "semantic_cd_head_aux"}


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Refuses a model whose classes are not those of the data, or whose bands are not those of its backbone.

    One class too many trains in silence: most heads take the label after their last for the background. A
    prediction beyond the classes of a test set is no class of it. And a checkpoint that was trained on the
    same classes in another order gives each object the name of another class.
    """

    def __init__(self) -> None:
        self._trained: tuple[str, ...] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember the classes that the checkpoint was trained with, where it names them."""
        meta = checkpoint.get("meta") or {}
        names = (meta.get("dataset_meta") or {}).get("classes") or meta.get("CLASSES")
        self._trained = tuple(names) if names else None

    after_load_weights = after_load_checkpoint  # of runs that shard the model

    def before_train(self, runner: Runner) -> None:
        """Compare bands, heads, checkpoint and validation data with the training data, before the first step.

        Raises:
            ConfigError: They differ.
        """
        check_band_count(runner.model, runner.cfg)
        classes = _class_names(runner.train_dataloader)
        if classes is None:
            return
        check_head_classes(runner.model, classes, "the training data", "train_dataloader.dataset")
        if self._trained is not None:  # of load_from or --resume
            places = "train_dataloader.dataset.metainfo"
            check_class_order(self._trained, classes, "the checkpoint", "the training data", places)
        validated = _class_names(getattr(runner, "val_dataloader", None))
        if validated is not None:
            places = "train_dataloader.dataset; val_dataloader.dataset"
            check_class_order(classes, validated, "the training data", "the validation data", places)
            check_head_classes(runner.model, validated, "the validation data", "val_dataloader.dataset")

    def before_test(self, runner: Runner) -> None:
        """Compare the heads and the checkpoint with the test data.

        Raises:
            ConfigError: They differ.
        """
        classes = _class_names(runner.test_dataloader)
        if classes is None:
            return
        check_head_classes(runner.model, classes, "the test data", "test_dataloader.dataset")
        if self._trained is not None:
            check_class_order(
                self._trained, classes, "the checkpoint", "the test data", "test_dataloader.dataset.metainfo"
            )


def check_band_count(network: nn.Module, cfg: Config) -> None:
    """Compare the bands that the data preprocessor normalises with those that the backbone takes.

    Args:
        network: The model.
        cfg: Its config.

    Raises:
        ConfigError: They differ. (Dates that are joined along the bands are a multiple.)
    """
    network = getattr(network, "module", network)
    backbone, normalised = (getattr(network, name, None) for name in ("backbone", "data_preprocessor"))
    values = getattr(normalised, "mean", None)
    known = inspect.signature(type(backbone)).parameters.get("in_channels") if backbone is not None else None
    declared = (cfg.get("model") or {}).get("backbone") or {}
    bands = declared.get("in_channels", known.default) if known is not None else None
    if not isinstance(bands, int) or not isinstance(values, Tensor) or values.numel() in (0, 1):
        return
    if values.numel() % bands:
        raise ConfigError(
            f"mean and std have {values.numel()} bands, and the backbone takes {bands}",
            where="model.data_preprocessor; model.backbone",
            fix=f"set in_channels={values.numel()} in model.backbone, or give {bands} values of mean and std",
        )


def check_head_classes(network: nn.Module, classes: Sequence[str], owner: str, where: str) -> None:
    """Compare the number of classes of every head with that of the data.

    Args:
        network: The model.
        classes: Of the data.
        owner: The data, for the message: ``the test data``.
        where: Config key of the data.

    Raises:
        ConfigError: They differ.
    """
    odd = [one for one in _heads(network) if one[1] != len(classes)]
    if odd:
        name, count = odd[0]
        more = f" (and {len(odd) - 1} more heads)" if len(odd) > 1 else ""
        raise ConfigError(
            f"{name} has num_classes={count}{more}, and {owner} {len(classes)} classes",
            where=f"model.{name}; {where}",
            fix=f"set num_classes={len(classes)} there, or choose the classes of the data: "
            "metainfo=dict(classes=(...)); means over some classes of segmentation: evaluator.subsets",
        )


def check_class_order(
    expected: Sequence[str], found: Sequence[str], first: str, second: str, where: str
) -> None:
    """Compare two lists of class names: in another order they are an error, with other names a warning.

    Args:
        expected: Names in label order.
        found: Names in label order.
        first: Owner of the first, for the message: ``the checkpoint``.
        second: Owner of the second.
        where: Config key of the second.

    Raises:
        ConfigError: The names are the same in another order.
    """
    if list(expected) == list(found):
        return
    lists = f"{first}: {', '.join(expected)}; {second}: {', '.join(found)}"
    if sorted(expected) == sorted(found):
        raise ConfigError(
            f"{first} and {second} have the same classes in another order, so labels mean others; {lists}",
            where=where,
            fix=f"list them in the order of {first}: metainfo=dict(classes={tuple(expected)!r})",
        )
    MMLogger.get_current_instance().warning("%s and %s have other class names; %s", first, second, lists)


def _class_names(dataloader: Any) -> tuple[str, ...] | None:
    dataset = getattr(dataloader, "dataset", None)
    classes = (getattr(dataset, "metainfo", None) or {}).get("classes")
    return None if classes is None else tuple(classes)


def _heads(network: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield name and number of classes of every head that has one."""
    for name, module in network.named_modules():
        parts = [
            part for part in name.split(".") if part not in ("", "module")
        ]  # "": the model repeats its head's
        count = getattr(module, "num_classes", None)
        if isinstance(count, int) and parts and not _OTHERS & set(parts) and "loss" not in parts[-1]:
            yield ".".join(parts), count
