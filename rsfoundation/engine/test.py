"""Testing a checkpoint, for every task."""

import time
from pathlib import Path

from mmengine.config import Config

from rsfoundation.engine.checkpoint import find_checkpoint
from rsfoundation.engine.config import load_config
from rsfoundation.engine.fitting import FittingHook
from rsfoundation.engine.hooks import PictureHook
from rsfoundation.engine.option_errors import naming_options
from rsfoundation.engine.options import RunOptions, apply_options
from rsfoundation.engine.results import TestResult, unify_metrics
from rsfoundation.engine.runner import build_runner
from rsfoundation.engine.tasks import build_task
from rsfoundation.errors import ConfigError
from rsfoundation.task import TestRequest


def test(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
    pictures: int = 8,
    request: TestRequest = TestRequest(),  # noqa: B008 (frozen)
) -> TestResult:
    """Test a checkpoint on the config's test set.

    Args:
        config: A path, a shipped name, or a config already read.
        checkpoint: A checkpoint file or a run folder; the config's own run folder when not given.
        options: What the user said beside the config.
        pictures: How many pictures of truth and prediction to draw.
        request: What is to be written or done beside the test; what a task cannot do, it refuses.

    Raises:
        RSFError: The config, the data or the checkpoint is at fault.
    """
    started = time.monotonic()
    cfg = config if isinstance(config, Config) else load_config(config, options.overrides)
    if "test_dataloader" not in cfg or cfg.test_dataloader is None:
        raise ConfigError("the config has no test_dataloader", where=cfg.filename)
    cfg.pop("strategy", None)  # how training was spread matters no more
    apply_options(cfg, options)
    cfg.resume = False
    cfg.load_from = str(find_checkpoint(checkpoint or cfg.work_dir))
    task = build_task(cfg)
    task.prepare_test(cfg, request)
    with naming_options(cfg):
        runner = build_runner(cfg)
        runner.register_hook(FittingHook())
        runner.register_hook(PictureHook(task, count=pictures))
        metrics, details = unify_metrics(task, runner.test())
    folder = Path(cfg.work_dir)
    reports = task.write_reports(runner.test_evaluator.metrics, folder) if runner.rank == 0 else []
    result = TestResult(
        task=task.name,
        config=str(cfg.filename),
        checkpoint=cfg.load_from,
        metrics=metrics,
        details=details,
        pictures=str(folder / "pictures" / "test") if pictures else None,
        reports=tuple(str(file) for file in reports),
        seconds=time.monotonic() - started,
    )
    if runner.rank == 0:
        result.write(folder / "test.json")
    return result
