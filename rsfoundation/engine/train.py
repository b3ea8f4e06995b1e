"""Training from a config, for every task."""

import logging
import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.core.task import Draws, RunRequest
from rsfoundation.engine.checkpointing.find import best_checkpoint, find_start, named_by_marker
from rsfoundation.engine.config import load_config
from rsfoundation.engine.config_errors import explained_option_errors
from rsfoundation.engine.distributed.heartbeat import watching_peers
from rsfoundation.engine.distributed.launch import choose_accelerator, init_distributed
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.hooks.class_count import ClassCountHook
from rsfoundation.engine.hooks.pictures import PictureHook
from rsfoundation.engine.hooks.run_record import ProgressHook, RunRecordHook
from rsfoundation.engine.resolve_config import RunOptions, launcher_name, resolve_config, run_folder
from rsfoundation.engine.results import TrainResult
from rsfoundation.engine.runner import build_runner, build_task


def train(config: str | Path | Config, options: RunOptions = RunOptions()) -> TrainResult:  # noqa: B008 (frozen)
    """Train what ``config`` describes and keep the record of the run.

    Args:
        config: A path, a shipped name, or a config already read.
        options: What the user said in addition to the config.

    Raises:
        RSFError: The config, the data or the checkpoint is at fault; the message says where and the fix.
    """
    started = time.monotonic()
    cfg = config if isinstance(config, Config) else load_config(config, options.overrides)
    if "train_cfg" not in cfg:
        raise ConfigError("the config has no train_cfg: there is nothing to train", where=cfg.filename)
    device = use_device(options.device)
    task = build_task(cfg)
    if options.launcher != "none":
        init_distributed(launcher_name(options), device, cfg)
    start = find_start(cfg, options.resume, run_folder(cfg, options))
    run = resolve_config(cfg, options, task, RunRequest("train"), device=device, start=start)
    for note in run.notes:
        print_log(note, logger="current", level=logging.INFO)
    choose_accelerator(run.cfg, device)
    with explained_option_errors(run.cfg):
        runner = build_runner(run.cfg, run.start)
        record = RunRecordHook(task, interval=_log_interval(run.cfg))
        hooks = [ClassCountHook(), ProgressHook(), record]
        if isinstance(task, Draws):
            hooks.append(PictureHook(task, count=4))
        for hook in hooks:
            runner.register_hook(hook)
        with watching_peers():
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
