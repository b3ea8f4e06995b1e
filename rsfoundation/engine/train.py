"""Training from a config, for every task."""

import time
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from rsfoundation.checkpoints.newest import named_by_marker
from rsfoundation.engine.checkpoint import best_checkpoint
from rsfoundation.engine.config import load_config
from rsfoundation.engine.hooks import ClassCountHook, PictureHook, ProgressHook, RunRecordHook
from rsfoundation.engine.option_errors import naming_options
from rsfoundation.engine.options import RunOptions, apply_options
from rsfoundation.engine.peers import watching_peers
from rsfoundation.engine.results import TrainResult
from rsfoundation.engine.runner import build_runner
from rsfoundation.engine.safety import resolve_start
from rsfoundation.engine.tasks import build_task, keep_best_by_primary_metric
from rsfoundation.errors import CheckpointError, ConfigError


def train(config: str | Path | Config, options: RunOptions = RunOptions()) -> TrainResult:  # noqa: B008 (frozen)
    """Train what ``config`` describes and keep the record of the run.

    Args:
        config: A path, a shipped name, or a config already read.
        options: What the user said beside the config.

    Raises:
        RSFError: The config, the data or the checkpoint is at fault; the message says where and the cure.
    """
    started = time.monotonic()
    cfg = config if isinstance(config, Config) else load_config(config, options.overrides)
    if "train_cfg" not in cfg:
        raise ConfigError("the config has no train_cfg: there is nothing to train", where=cfg.filename)
    apply_options(cfg, options)
    start = resolve_start(cfg)
    task = build_task(cfg)
    keep_best_by_primary_metric(cfg, task)
    task.prepare_train(cfg)
    with naming_options(cfg):
        runner = build_runner(cfg)
        if start is not None:
            runner._load_from = str(start)  # not in cfg: the run folder's config.py names no checkpoint
        record = RunRecordHook(task, interval=_log_interval(cfg))
        for hook in (ClassCountHook(), ProgressHook(), record, PictureHook(task, count=4)):
            runner.register_hook(hook)
        with watching_peers():
            runner.train()
    work_dir = Path(cfg.work_dir)
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
