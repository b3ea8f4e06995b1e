"""From a config and the options of a run to the config that the run uses: every change, in one order.

:func:`resolve_config` copies the config, changes the copy step by step and returns it; nothing edits it
afterwards, and the ``config.py`` of the run folder holds it.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from rsfoundation.core.choices import Launcher
from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.core.task import Evaluates, RunRequest, Task
from rsfoundation.datasets.transforms.images import image_loading
from rsfoundation.engine.config import config_root, dicts_of, load_config, merge_overrides
from rsfoundation.engine.tracking import use_trackers
from rsfoundation.io.loading import ImageLoading

_LOOPS = ("EpochBasedTrainLoop", "IterBasedTrainLoop")
_COMPILE_HOOK = "rsfoundation.CompileHook"
_NON_BLOCKING = ("DetDataPreprocessor", "SceneDataPreprocessor")  # which mmengine lets choose
_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy")


@dataclass(frozen=True)
class RunOptions:
    """One run's options, equal for every task.

    Attributes:
        work_dir: Run folder; ``work_dirs/<config name>`` when not given.
        resume: ``'auto'`` for the newest checkpoint of the run folder, or a checkpoint file.
        amp: Mixed precision: float16 with loss scaling on CUDA, bfloat16 on CPU.
        compiled: Run backbone and neck through ``torch.compile`` in training.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Seed of every random generator; the config's own, or 0, when not given.
        launcher: Program that started the ranks of a distributed run.
        strategy: How training is distributed over the ranks: a file of ``configs/_base_/strategies``.
        overrides: ``key.sub=value`` strings applied to the config last.
        track: Trackers that log the run in addition to its folder: ``tensorboard``, ``wandb``.
        trust_checkpoint: Read checkpoints that hold more than weights: they can run any program.
        bands: Bands that the model sees, by number or name: ``'4,3,2'``; the config's when not given.
        pixel_range: Values that become 0 and 255: ``'0,2047'``; the config's when not given.
    """

    work_dir: Path | None = None
    resume: str | None = None
    amp: bool = False
    compiled: bool = False
    device: str = "auto"
    seed: int | None = None
    launcher: Launcher = "none"
    overrides: tuple[str, ...] = ()
    strategy: str | None = None
    track: tuple[str, ...] = ()
    trust_checkpoint: bool = False
    bands: str | None = None
    pixel_range: str | None = None

    def read(self, config: str | Path | Config) -> Config:
        """Return a config, read from its file or a copy, with the overrides, the bands and the range.

        Raises:
            ConfigError: The config is unknown, does not parse, or an override is malformed.
        """
        loading = {"bands": self.bands, "pixel_range": self.pixel_range}
        chosen = [f"image_loading.{key}={value}" for key, value in loading.items() if value is not None]
        overrides = (*self.overrides, *chosen)
        if not isinstance(config, Config):
            return load_config(config, overrides)
        cfg = copy.deepcopy(config)
        merge_overrides(cfg, overrides)
        return cfg


@dataclass(frozen=True)
class ResolvedRun:
    """A config that is ready to run, and the choices made on the way.

    Attributes:
        cfg: The final config.
        task: The task it declares.
        device: ``cpu`` or ``cuda``.
        start: Checkpoint that training starts or resumes from; ``None`` starts at the beginning.
        notes: Changes that the user did not ask for, for the log.
        warnings: Settings whose effect may surprise, for the log.
    """

    cfg: Config
    task: Task
    device: str
    start: Path | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def resolve_config(
    cfg: Config,
    options: RunOptions,
    task: Task,
    request: RunRequest = RunRequest(),  # noqa: B008 (frozen)
    *,
    device: str = "cpu",
    start: Path | None = None,
) -> ResolvedRun:
    """Return the config of a run. The order of the steps below is the order of precedence.

    Args:
        cfg: The config as read; it is not changed.
        options: Settings of the run in addition to the config.
        task: The task that the config declares.
        request: The purpose of the run.
        device: ``cpu`` or ``cuda``, as chosen from ``options.device``.
        start: The checkpoint to start, resume, test or predict from, already found.

    Raises:
        ConfigError: An option does not fit the config, or the task refuses the request.
    """
    cfg = copy.deepcopy(cfg)
    steps: tuple[Callable[[], list[str] | None], ...] = (
        lambda: _merge_strategy(cfg, options, request),
        lambda: _drop_teacher(cfg, request),
        lambda: _set_run(cfg, options),
        lambda: _set_start(cfg, options, request, start),
        lambda: _set_precision(cfg, options, device),
        lambda: _set_compile(cfg, options, request, device),
        lambda: use_trackers(cfg, options.track) if options.track else None,
        lambda: _set_norm(cfg, options, device),
        lambda: _set_cpu_wrapper(cfg, options, device),
        lambda: task.prepare_config(cfg, request),
        lambda: use_image_loading(cfg),
        lambda: _fit_loaders(cfg, device),
        lambda: _set_save_best(cfg, task),
        lambda: _use_crash_safe_loops_and_hooks(cfg),
        lambda: _fit_to_sharding(cfg),
    )
    notes = [note for step in steps for note in step() or ()]
    warnings = _shortened_warm_ups(cfg) if request.stage == "train" else []
    return ResolvedRun(cfg, task, device, start, tuple(notes), tuple(warnings))


def run_folder(cfg: Config, options: RunOptions) -> Path:
    """Return the run folder: the option's, the config's, else ``work_dirs/<config name>``.

    Args:
        cfg: The config.
        options: The options of the run.
    """
    return Path(
        options.work_dir or cfg.get("work_dir") or Path("work_dirs") / Path(cfg.filename or "run").stem
    )


def strategy_names() -> list[str]:
    """Return the values of ``--strategy``: the names of the files."""
    return sorted(file.stem for file in (config_root() / "_base_" / "strategies").glob("*.py"))


def strategy_kind(cfg: Config) -> str | None:
    """Return the class name of the config's strategy without its scope; ``None`` without one."""
    strategy = cfg.get("strategy")
    return str(strategy["type"]).rsplit(".", 1)[-1] if strategy else None


def use_strategy(cfg: Config, name: str) -> None:
    """Merge the strategy called ``name`` into ``cfg`` in place; a strategy the config had is replaced.

    Args:
        cfg: The config.
        name: A file of ``configs/_base_/strategies`` without suffix.

    Raises:
        ConfigError: There is no such strategy.
    """
    file = config_root() / "_base_" / "strategies" / f"{name}.py"
    if not file.is_file():
        known = strategy_names()
        raise ConfigError(
            f"there is no strategy '{name}'",
            where=file.parent,
            fix=nearest(name, known) or f"known strategies: {', '.join(known)}",
        )
    chosen = Config.fromfile(file)
    cfg.pop("strategy", None)
    cfg.pop("runner_type", None)
    cfg.merge_from_dict(chosen.to_dict())


def drop_sync_bn(cfg: Config) -> int:
    """Turn every ``type='SyncBN'`` of ``cfg.model`` into ``'BN'`` in place.

    Returns:
        How many were turned.
    """
    return _replace_sync_bn(cfg.get("model"))


def _replace_sync_bn(node: Any) -> int:
    if isinstance(node, dict):
        here = int(node.get("type") in ("SyncBN", "MMSyncBN"))
        if here:
            node["type"] = "BN"
        return here + sum(_replace_sync_bn(value) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(_replace_sync_bn(value) for value in node)
    return 0


def _merge_strategy(cfg: Config, options: RunOptions, request: RunRequest) -> None:
    if request.stage != "train":
        cfg.pop("strategy", None)  # how training was distributed does not matter any more
    if options.strategy is not None:
        use_strategy(cfg, options.strategy)
        merge_overrides(
            cfg, options.overrides
        )  # the user's overrides of the strategy take precedence over its file


def _drop_teacher(cfg: Config, request: RunRequest) -> None:
    if request.stage != "train":
        cfg.pop("distill", None)  # the student alone is tested and predicts


def _set_run(cfg: Config, options: RunOptions) -> None:
    cfg.work_dir = str(run_folder(cfg, options))
    cfg.launcher = launcher_name(options)
    seed = options.seed if options.seed is not None else cfg.get("randomness", {}).get("seed")
    cfg.randomness = {**cfg.get("randomness", {}), "seed": 0 if seed is None else seed}
    if cfg.get("env_cfg") is None:
        cfg.env_cfg = {}  # FlexibleRunner unpacks it


def launcher_name(options: RunOptions) -> str:
    """Return mmengine's name of the launcher: DeepSpeed's sets the same variables as torchrun."""
    return "pytorch" if options.launcher == "deepspeed" else options.launcher


def _set_start(cfg: Config, options: RunOptions, request: RunRequest, start: Path | None) -> None:
    """Set the checkpoint to load. One found by ``--resume auto`` is not named: it is not part of the run."""
    if request.stage != "train":
        cfg.resume = False
        cfg.load_from = str(start) if start else None
        return
    if options.resume is not None:
        cfg.resume = True
        cfg.load_from = None if options.resume == "auto" else options.resume
    if cfg.get("load_from") and start is not None:
        cfg.load_from = str(start)
    elif cfg.get("resume") and not cfg.get("load_from"):
        cfg.resume = start is not None


def _set_precision(cfg: Config, options: RunOptions, device: str) -> None:
    """Turn the optimiser wrapper into its mixed-precision variant for ``--amp``."""
    if not options.amp or cfg.get("optim_wrapper") is None:
        return
    kind = cfg.optim_wrapper.get("type", "OptimWrapper")
    if kind not in ("OptimWrapper", "AmpOptimWrapper"):
        raise ConfigError(
            f"--amp works with OptimWrapper, the config uses '{kind}'",
            where="optim_wrapper.type",
            fix="leave --amp out and set the precision in the config's strategy",
        )
    if device == "cpu":
        cfg.optim_wrapper.pop("loss_scale", None)
        cfg.optim_wrapper.pop("dtype", None)
        cfg.optim_wrapper.type = "rsfoundation.CPUAmpOptimWrapper"
    else:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")


def _set_compile(cfg: Config, options: RunOptions, request: RunRequest, device: str) -> None:
    """Turn ``--compile`` or the key ``compile_backbone`` into a hook with torch.compile's options."""
    chosen = cfg.pop("compile_backbone", False)
    if request.stage != "train" or not (chosen or options.compiled):
        return
    if not isinstance(chosen, (bool, dict)):
        raise ConfigError(
            f"compile_backbone is {chosen!r}; it is True, False or a dict of torch.compile's options",
            where="compile_backbone",
            fix="compile_backbone=dict(mode='default')",
        )
    settings = dict(chosen) if isinstance(chosen, dict) else {}
    compiler = os.environ.get("CXX", "g++")
    needs_compiler = device == "cpu" and settings.get("backend", "inductor") == "inductor"
    if needs_compiler and shutil.which(compiler) is None:
        raise ConfigError(
            f"torch.compile on a CPU needs a C++ compiler, and there is no '{compiler}'",
            where="--compile" if options.compiled else "compile_backbone",
            fix="install g++ (or set CXX), or train without --compile",
        )
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook.get("type") != _COMPILE_HOOK]
    cfg.custom_hooks = [*hooks, dict(type=_COMPILE_HOOK, **settings)]


def _set_norm(cfg: Config, options: RunOptions, device: str) -> list[str]:
    """SyncBN needs several CUDA ranks; elsewhere it means BN."""
    count = drop_sync_bn(cfg) if options.launcher == "none" or device == "cpu" else 0
    return [f"SyncBN needs several CUDA ranks: {count} norm configs use BN in this run"] if count else []


def _set_cpu_wrapper(cfg: Config, options: RunOptions, device: str) -> None:
    """Wrap the model for CPU ranks: mmengine's default names a CUDA device index."""
    if options.launcher == "none" or device != "cpu":
        return
    wrapper = dict(
        type="MMDistributedDataParallel",
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get("find_unused_parameters", False),
    )
    cfg.model_wrapper_cfg = cfg.get("model_wrapper_cfg") or wrapper


def _fit_loaders(cfg: Config, device: str) -> None:
    """Drop what torch's data loader takes only where it has workers; pin memory where a GPU reads it.

    From pinned memory, images are copied to the GPU while it computes. mmdet's preprocessor and this
    package's for scenes take ``non_blocking``: they do not wait for the copy.
    """
    on_gpu = device.startswith("cuda")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name)
        if loader and not loader.get("num_workers", 0):
            for option in ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context"):
                loader.pop(option, None)
        if loader and on_gpu:
            loader.setdefault("pin_memory", True)
        elif loader:  # the config of a run on a GPU: torch would warn
            loader.pop("pin_memory", None)
    preprocessor = cfg.get("model", {}).get("data_preprocessor") or {}
    if on_gpu and str(preprocessor.get("type")).rsplit(".", 1)[-1] in _NON_BLOCKING:
        preprocessor.setdefault("non_blocking", True)


def _set_save_best(cfg: Config, task: Task) -> list[str]:
    """Let ``save_best`` take the task's names of metrics, and ``'auto'`` mean its primary one.

    An evaluator may report another name (``detection/mAP50`` for ``mAP50``); to mmengine ``'auto'`` is the
    first one that it reports.
    """
    hook = cfg.get("default_hooks", {}).get("checkpoint") or {}
    given = hook.get("save_best")
    if not given or not isinstance(task, Evaluates):
        return []
    keys = {name: key for key, name in task.metric_names.items()}
    known = {"auto": keys[task.primary_metric], **keys, **{key: key for key in task.metric_names}}
    names = [given] if isinstance(given, str) else list(given)
    reported = [known.get(name, name) for name in names]
    hook["save_best"] = reported[0] if isinstance(given, str) else reported
    return [
        f"save_best: {name!r} is {found!r} of the evaluator"
        for name, found in zip(names, reported, strict=True)
        if name not in ("auto", found)
    ]


def _use_crash_safe_loops_and_hooks(cfg: Config) -> None:
    """Use this package's train loops and checkpoint hook where the config names mmengine's.

    They take the same arguments. Loops and hooks that a user wrote are left alone.
    """
    loop = cfg.get("train_cfg")
    if loop:
        name = loop.get("type") or _LOOPS[0 if loop.get("by_epoch", True) else 1]
        if _without_scope(name) in _LOOPS:
            loop.pop("by_epoch", None)
            loop["type"] = f"rsfoundation.{_without_scope(name)}"
    hooks = cfg.get("default_hooks") or {}
    checkpoint = hooks.get("checkpoint", dict(type="CheckpointHook", interval=1))
    if checkpoint and _without_scope(checkpoint["type"]) == "CheckpointHook":
        hooks["checkpoint"] = {**checkpoint, "type": "rsfoundation.CheckpointHook"}
    cfg.default_hooks = hooks


def _shortened_warm_ups(cfg: Config) -> list[str]:
    """Name warm-ups that accumulation of gradients shortens: schedules count forward passes."""
    counts = int((cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1))
    declared = cfg.get("param_scheduler") or []
    found = []
    for index, schedule in enumerate([declared] if isinstance(declared, dict) else declared):
        begin, end = schedule.get("begin", 0), schedule.get("end")
        warm_up = _without_scope(schedule["type"]) in ("LinearLR", "ConstantLR")
        if counts > 1 and warm_up and not schedule.get("by_epoch", True) and end is not None:
            length = end - begin
            found.append(
                f"param_scheduler[{index}]: the warm-up ends after {-(-length // counts)} optimiser steps, "
                f"since it counts iterations ({length}) and accumulative_counts={counts}; "
                f"for {length} steps set end={begin + length * counts}"
            )
    return found


def _without_scope(name: object) -> str:
    return str(name).removeprefix("mmengine.")


def _fit_to_sharding(cfg: Config) -> None:
    """Replace the parts of a config that need whole parameters by ones that work on shards."""
    if strategy_kind(cfg) not in _SHARDED:
        return
    hooks: list[Any] = cfg.get("custom_hooks") or []
    for hook in hooks:
        if isinstance(hook, dict) and hook.get("type") == "EMAHook":
            hook["type"] = "rsfoundation.ShardedEMAHook"
    if strategy_kind(cfg) == "DeepSpeedStrategy" and (cfg.get("lora") or {}).get("adapters_only"):
        cfg.strategy.exclude_frozen_parameters = True


_LOADER = "rsfoundation.LoadImageFromFile"
_PAIRS = ("MultiImgLoadImageFromFile", "MultiImgLoadInferencerLoader")
_LOADERS = (_LOADER, *(f"{scope}{name}" for name in _PAIRS for scope in ("", "rsfoundation.", "opencd.")))
_SCOPES = ("", "mmcv.", "mmengine.", "mmseg.", "mmdet.", "mmrotate.")
_SETTINGS = ("bands", "pixel_range", "to_float32")
_PREPROCESSORS = {
    "SegDataPreProcessor": "rsfoundation.SegDataPreProcessor",
    "DetDataPreprocessor": "rsfoundation.DetDataPreprocessor",
}


def use_image_loading(cfg: Config) -> list[str]:
    """Set ``image_loading`` of a config in each of its loading steps, in place.

    mmcv's ``LoadImageFromFile`` becomes ours, which takes the same arguments: mmcv decides by a tag how many
    bands a TIFF has, and multiplies colours by a fourth band. Where bands are chosen, the data preprocessor
    becomes one that takes any number of them.

    Args:
        cfg: The config.

    Returns:
        Changes that the user did not ask for.

    Raises:
        ConfigError: ``image_loading`` has a key that it does not know.
    """
    declared = cfg.get("image_loading") or {}
    unknown = sorted(set(declared) - set(_SETTINGS))
    if unknown:
        raise ConfigError(
            f"image_loading has no '{unknown[0]}'",
            where="image_loading",
            fix=f"one of {', '.join(_SETTINGS)}",
        )
    replaced = 0
    for step in _steps(cfg._cfg_dict):
        if step["type"] not in _LOADERS:
            step["type"] = _LOADER
            step.pop("file_client_args", None)
            replaced += 1
        step.update({key: value for key, value in declared.items() if value is not None})
    _use_any_bands(cfg)
    return [f"{replaced} steps LoadImageFromFile read through rsfoundation's decoder"] if replaced else []


def loading_of(cfg: Config, bands: str | None = None, pixel_range: str | None = None) -> ImageLoading:
    """Return how the test pipeline of a config loads its images, with a user's own bands and range.

    A config without a test, such as one of pretraining, has its training pipeline instead.

    Args:
        cfg: A resolved config.
        bands: Numbers or names between commas, or ``all``.
        pixel_range: ``low,high``, or ``native``.

    Raises:
        ConfigError: The bands or the range cannot be understood.
    """
    step = dict(next(_steps(cfg.get("test_dataloader") or cfg.get("train_dataloader") or {}), {}))
    known = {key: step[key] for key in (*_SETTINGS, "color_type", "imdecode_backend") if key in step}
    given = {"bands": bands, "pixel_range": pixel_range}
    return image_loading(**{**known, **{key: value for key, value in given.items() if value is not None}})


def _steps(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every step below a node of a config that loads an image."""
    for _, step in dicts_of(node):
        kind = step.get("type")
        if kind in _LOADERS or (isinstance(kind, str) and kind in _MMCV):
            yield step


_MMCV = frozenset(f"{scope}LoadImageFromFile" for scope in _SCOPES)


def _use_any_bands(cfg: Config) -> None:
    chosen = any(
        step.get("bands") is not None or step.get("color_type", "color") != "color"
        for step in _steps(cfg._cfg_dict)
    )
    for owner in (cfg.get("model") or {}, cfg):
        made = owner.get("data_preprocessor")
        if made and (chosen or len(made.get("mean") or ()) not in (0, 1, 3)):
            short = str(made.get("type")).rsplit(".", 1)[-1]
            made["type"] = _PREPROCESSORS.get(short, made.get("type"))
