"""Training from a config, for every task."""

import logging
import time
from contextlib import ExitStack
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import print_log

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.core.task import Draws, RunRequest
from rsfoundation.engine.checkpointing.find import best_checkpoint, find_start, named_by_marker
from rsfoundation.engine.checkpointing.resumed_settings import ResumedSettingsHook
from rsfoundation.engine.config import explained_option_errors, load_config
from rsfoundation.engine.distributed.launch import init_distributed, watch_ranks
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.resolve_config import RunOptions, launcher_name, resolve_config, run_folder
from rsfoundation.engine.results import TrainResult
from rsfoundation.engine.run_hooks import ClassCountHook, PictureHook, ProgressHook, RunRecordHook
from rsfoundation.engine.runner import build_runner, build_task
from rsfoundation.io.checkpoints import trusting


def train(config: str | Path | Config, options: RunOptions = RunOptions()) -> TrainResult:  # noqa: B008 (frozen)
    """Train the model of ``config`` and keep the record of the run.

    Args:
        config: A path, a shipped name, or a config already read.
        options: Settings of the run in addition to the config.

    Raises:
        RSFError: The config, the data or the checkpoint is wrong; the error names the place and the fix.
    """
    started = time.monotonic()
    cfg = config if isinstance(config, Config) else load_config(config, options.overrides)
    if "train_cfg" not in cfg:
        raise ConfigError("the config has no train_cfg: there is nothing to train", where=cfg.filename)
    device = use_device(options.device)
    task = build_task(cfg)
    with ExitStack() as stack:
        if options.trust_checkpoint:
            stack.enter_context(trusting())
        if options.launcher != "none":
            init_distributed(launcher_name(options), device, cfg)
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


def _log_interval(cfg: Config) -> int:
    return int(cfg.get("default_hooks", {}).get("logger", {}).get("interval", 10))


def _last_checkpoint(work_dir: Path) -> Path | None:
    last = named_by_marker(work_dir)
    if last is not None and not last.exists():
        raise CheckpointError("the last checkpoint of the run has vanished", where=last)
    return last
