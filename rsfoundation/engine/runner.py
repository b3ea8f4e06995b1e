"""From a resolved config to its task and to the runner that trains or tests it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, RUNNERS
from mmengine.runner import CheckpointLoader, FlexibleRunner, Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.core.task import Classes, Task
from rsfoundation.engine.checkpointing import find as _safe_loaders  # noqa: F401  # registered by the import
from rsfoundation.engine.config import unknown_type_error
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.peft import LoRAHook, adapt_state
from rsfoundation.registry import TASKS
from rsfoundation.visualization import palette


def build_task(cfg: Config) -> Task:
    """Build the task named by the config key ``task``.

    Raises:
        ConfigError: The key is missing or names no registered task.
    """
    declared = cfg.get("task")
    TASKS.import_from_location()
    names = sorted(TASKS.module_dict)
    if declared is None:
        raise ConfigError(
            "the config names no task",
            where=cfg.filename,
            fix=f"add task = dict(type='rsfoundation.NAME') with one of: {', '.join(names)}",
        )
    kind = str(declared["type"])
    short = kind.removeprefix("rsfoundation.")
    if short not in TASKS.module_dict:
        raise ConfigError(
            f"no task is registered as '{kind}'",
            where=cfg.filename,
            fix=nearest(short, names) or f"known tasks: {', '.join(names)}",
        )
    arguments = {key: value for key, value in declared.items() if key != "type"}
    return TASKS.module_dict[short](**arguments)


def classes_of(meta: dict[str, Any]) -> Classes:
    """Read class names and colours from a data set's or a checkpoint's metainfo.

    Raises:
        ConfigError: The metainfo names no classes.
    """
    names = meta.get("classes") or meta.get("CLASSES")
    if not names:
        raise ConfigError("the data set's metainfo names no classes", fix="set metainfo=dict(classes=(...))")
    names = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    declared = meta.get("palette") or meta.get("PALETTE") or []
    colours = [tuple(int(value) for value in colour) for colour in declared if not isinstance(colour, str)]
    colours += palette(len(names))[len(colours) :] if len(colours) < len(names) else []
    return Classes(names, tuple(colours[: len(names)]))  # type: ignore[arg-type]


def checkpoint_classes(meta: Mapping[str, Any], cfg: Config) -> Classes:
    """Return the classes that a model predicts: the checkpoint's, else those of the config's test data.

    Args:
        meta: The checkpoint's ``meta``. mmengine writes ``dataset_meta`` there, mmcv 1.x wrote ``CLASSES``;
            files with weights alone have neither.
        cfg: The resolved config. No data are read.

    Raises:
        RSFError: Neither names classes.
    """
    if meta.get("dataset_meta"):
        return classes_of(meta["dataset_meta"])
    if meta.get("CLASSES"):
        return classes_of(dict(meta))
    try:
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, "lazy_init": True})
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    classes = classes_of(dataset.metainfo)
    print_log(
        "the checkpoint names no classes; those of the config's test data are used: "
        f"{', '.join(classes.names)}",
        logger="current",
        level=logging.WARNING,
    )
    return classes


class PlainRunner(Runner):
    """mmengine's ``Runner`` whose model is built in its chain of wrappers; its ``cfg`` stays as resolved."""

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        super().__init__(model_config(options["cfg"]), *args, **options)


class StrategyRunner(FlexibleRunner):
    """``FlexibleRunner`` that loads weights before a strategy shards them and calls hooks in order.

    mmengine's own calls ``before_run`` after resuming, so that hooks such as EMA have nothing to resume
    into, ignores ``activation_checkpointing``, and cannot start from a plain ``.pth`` file under
    DeepSpeed. Hooks may have two methods of ours: ``after_load_weights(runner, checkpoint)`` and
    ``before_sharding(runner, model)``.
    """

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        self._before_run_called = False
        super().__init__(model_config(options["cfg"]), *args, **options)

    def train(self) -> torch.nn.Module:
        """Train; weights of ``load_from`` are read before the model is sharded."""
        self.strategy.before_sharding = self._before_sharding
        return super().train()

    def load_or_resume(self) -> None:
        """Resume after ``before_run``, as the plain runner does."""
        self.call_hook("before_run")
        super().load_or_resume()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; ``before_run`` only once.

        Args:
            fn_name: The hooks' method.
            **kwargs: Its arguments.
        """
        if fn_name == "before_run":
            if self._before_run_called:
                return
            self._before_run_called = True
        super().call_hook(fn_name, **kwargs)

    def _before_sharding(self, model: torch.nn.Module) -> None:
        """Fill in weights and turn on activation checkpointing while the model is still whole."""
        names = self.cfg.get("activation_checkpointing")
        if names:
            _check_modules(model, names)
            turn_on_activation_checkpointing(model, names)
        if self._load_from is not None and not self._resume:
            content = CheckpointLoader.load_checkpoint(self._load_from, map_location="cpu")
            self.call_hook("after_load_weights", checkpoint=content)
            adapt_state(model, content)
            _load_checkpoint_to_model(model, content)
            self._has_loaded = True
        self.call_hook("before_sharding", model=model)


def _check_modules(model: torch.nn.Module, names: list[str]) -> None:
    known = {name for name, _ in model.named_modules()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"activation_checkpointing names '{unknown[0]}', which is no module of the model",
            where="activation_checkpointing",
            fix="name modules as state_dict keys do, for example 'backbone.layers.0'",
        )


def build_runner(cfg: Config, start: Path | None = None) -> Runner | FlexibleRunner:
    """Build the runner for a resolved config.

    ``runner_type`` names it where given; otherwise a config with a ``strategy`` runs in
    :class:`StrategyRunner` and any other in :class:`PlainRunner`.

    Args:
        cfg: The resolved config; it is not changed.
        start: The checkpoint that ``--resume auto`` found.

    Raises:
        ConfigError: A type of the config is not registered; the message names the nearest.
    """
    try:
        if "runner_type" in cfg:
            return RUNNERS.build(cfg)
        runner = (StrategyRunner if cfg.get("strategy") else PlainRunner).from_cfg(cfg)
    except KeyError as error:
        raise unknown_type_error(error, cfg) from error
    if cfg.get("lora"):
        runner.register_hook(LoRAHook(cfg.lora.get("adapters_only", False)))
    if start is not None and not cfg.get("load_from"):
        runner._load_from = str(start)  # not in cfg: the run folder's config.py names no checkpoint
    return runner
