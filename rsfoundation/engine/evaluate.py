"""Testing a checkpoint, for every task."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import Draws, Evaluates, RunRequest, require
from rsfoundation.engine.checkpointing.find import find_checkpoint
from rsfoundation.engine.config import build_task, explained_option_errors
from rsfoundation.engine.environment import use_device
from rsfoundation.engine.model_builder import StateDictCheckHook
from rsfoundation.engine.resolve_config import RunOptions, resolve_config, run_folder
from rsfoundation.engine.results import TestResult, unify_metrics
from rsfoundation.engine.run_hooks import ClassCountHook, PictureHook, WorstHook
from rsfoundation.engine.train import build_runner, enter_run


def test(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
    pictures: int = 8,
    request: RunRequest = RunRequest("test"),  # noqa: B008 (frozen)
    hooks: Sequence[Hook] = (),
) -> TestResult:
    """Test a checkpoint on the config's test set.

    Args:
        config: A path, a shipped name, or a config already read.
        checkpoint: A checkpoint file or a run folder; the config's own run folder when not given.
        options: Settings of the run in addition to the config.
        pictures: Number of pictures of truth and prediction to draw.
        request: Other outputs than metrics; a task refuses those that it does not have.
        hooks: Registered in addition to those of every test.

    Raises:
        RSFError: The config, the data or the checkpoint is wrong; the error names the place and the fix.
    """
    started = time.monotonic()
    cfg = options.read(config)
    if "test_dataloader" not in cfg or cfg.test_dataloader is None:
        raise ConfigError("the config has no test_dataloader", where=cfg.filename)
    device = use_device(options.device)
    task = build_task(cfg)
    metrics_of = require(task, Evaluates, "rsf test")
    with ExitStack() as stack:
        enter_run(stack, cfg, options, device)
        start = find_checkpoint(checkpoint or run_folder(cfg, options))
        run = resolve_config(cfg, options, task, replace(request, stage="test"), device=device, start=start)
        folder = Path(run.cfg.work_dir)
        stack.enter_context(explained_option_errors(run.cfg))
        runner = build_runner(run.cfg)
        runner.register_hook(StateDictCheckHook())
        runner.register_hook(ClassCountHook())
        if isinstance(task, Draws):
            runner.register_hook(PictureHook(task, count=pictures))
        for hook in hooks:
            runner.register_hook(hook)
        metrics, details = unify_metrics(task, runner.test())
    written = metrics_of.write_reports(runner.test_evaluator.metrics, folder) if runner.rank == 0 else []
    result = TestResult(
        task=task.name,
        config=str(cfg.filename),
        checkpoint=run.cfg.load_from,
        metrics=metrics,
        details=details,
        pictures=str(folder / "pictures" / "test") if pictures and isinstance(task, Draws) else None,
        reports=tuple(str(file) for file in written),
        seconds=time.monotonic() - started,
    )
    if runner.rank == 0:
        result.write(folder / "test.json")
    return result


def draw_worst(
    config: str | Path | Config,
    checkpoint: str | Path | None = None,
    out: Path = Path("browse"),
    options: RunOptions = RunOptions(),  # noqa: B008 (frozen)
    count: int = 16,
) -> list[tuple[float, str]]:
    """Test a checkpoint, and draw the samples whose predictions are furthest from the truth, the worst first.

    Args:
        config: A path, a shipped name, or a config already read.
        checkpoint: A checkpoint file or a run folder; the config's own run folder when not given.
        out: Folder for the pictures and ``errors.json``.
        options: Settings of the run in addition to the config.
        count: Number of pictures.

    Returns:
        Error (0 right, 1 all wrong) and image of every sample of the test set, the worst first.

    Raises:
        RSFError: As for :func:`test`; or the task has no error of one image.
    """
    hook = WorstHook(require(build_task(options.read(config)), Draws, "rsf browse --predictions"), out, count)
    test(config, checkpoint, options, 0, hooks=(hook,))
    return hook.errors
