"""Training from a config, for every task, and the runners that train and test."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import CheckpointLoader, FlexibleRunner, Runner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.core.task import Draws, RunRequest
from rsfoundation.engine.checkpointing import find as _safe_loaders  # noqa: F401  # registered by the import
from rsfoundation.engine.checkpointing.find import best_checkpoint, find_start, named_by_marker
from rsfoundation.engine.checkpointing.resumed_settings import ResumedSettingsHook
from rsfoundation.engine.config import build_task, explained_option_errors, unknown_type_error
from rsfoundation.engine.distributed.launch import init_distributed, watch_ranks
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.peft import LoRAHook, adapt_state
from rsfoundation.engine.resolve_config import RunOptions, launcher_name, resolve_config, run_folder
from rsfoundation.engine.results import TrainResult
from rsfoundation.engine.run_hooks import ClassCountHook, PictureHook, ProgressHook, RunRecordHook
from rsfoundation.io.checkpoints import trusting
from rsfoundation.models.layers import use_fast_convolutions


def train(config: str | Path | Config, options: RunOptions = RunOptions()) -> TrainResult:  # noqa: B008 (frozen)
    """Train the model of ``config`` and keep the record of the run.

    Args:
        config: A path, a shipped name, or a config already read.
        options: Settings of the run in addition to the config.

    Raises:
        RSFError: The config, the data or the checkpoint is wrong; the error names the place and the fix.
    """
    started = time.monotonic()
    cfg = options.read(config)
    if "train_cfg" not in cfg:
        raise ConfigError("the config has no train_cfg: there is nothing to train", where=cfg.filename)
    device = use_device(options.device)
    task = build_task(cfg)
    with ExitStack() as stack:
        enter_run(stack, cfg, options, device)
        start = None
        if options.resume or cfg.get("resume") or cfg.get("load_from"):
            start = find_start(cfg, options.resume, run_folder(cfg, options))
        run = resolve_config(cfg, options, task, RunRequest("train"), device=device, start=start)
        for level, lines in ((logging.INFO, run.notes), (logging.WARNING, run.warnings)):
            for line in lines:
                print_log(line, logger="current", level=level)
        stack.enter_context(explained_option_errors(run.cfg))
        runner = build_runner(run.cfg, run.start)
        record = RunRecordHook(task, interval=_log_interval(run.cfg))
        hooks = [ClassCountHook(), ProgressHook(), record]
        if run.cfg.get("resume"):
            hooks.append(ResumedSettingsHook())
        if isinstance(task, Draws):
            hooks.append(PictureHook(task, count=4))
        for hook in hooks:
            runner.register_hook(hook)
        if is_distributed():
            stack.enter_context(watch_ranks())
        runner.train()
    work_dir = Path(run.cfg.work_dir)
    metrics = {
        key: value
        for key, value in (record.record["val"] or [{}])[-1].items()
        if key not in ("epoch", "iter")
    }
    return TrainResult(
        work_dir=work_dir,
        last_checkpoint=_last_checkpoint(work_dir),
        best_checkpoint=best_checkpoint(work_dir) if is_main_process() else None,
        metrics=metrics,
        seconds=time.monotonic() - started,
    )


def enter_run(stack: ExitStack, cfg: Config, options: RunOptions, device: str) -> None:
    """Trust checkpoints where the options say so, and join the other ranks.

    Args:
        stack: Trusts until it is closed.
        cfg: The config as read.
        options: Settings of the run.
        device: ``cpu`` or ``cuda``.
    """
    if options.trust_checkpoint:
        stack.enter_context(trusting())
    if options.launcher != "none":
        init_distributed(launcher_name(options), device, cfg)


def _log_interval(cfg: Config) -> int:
    return int(cfg.get("default_hooks", {}).get("logger", {}).get("interval", 10))


def _last_checkpoint(work_dir: Path) -> Path | None:
    last = named_by_marker(work_dir)
    if last is not None and not last.exists():
        raise CheckpointError("the last checkpoint of the run has vanished", where=last)
    return last


class PlainRunner(Runner):
    """mmengine's ``Runner`` whose model is built in its chain of wrappers; its ``cfg`` stays as resolved."""

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        super().__init__(model_config(options["cfg"]), *args, **options)
        if get_device() == "cpu":
            use_fast_convolutions(self.model)


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
    if cfg.get("distill"):
        for hook in ("TaskDistillationHook", "TaskDistillationResumeHook"):
            runner.register_hook(dict(type=f"rsfoundation.{hook}"))
    if start is not None and not cfg.get("load_from"):
        runner._load_from = str(start)  # not in cfg: the run folder's config.py names no checkpoint
    return runner
