"""From a resolved config to the runner that trains or tests it, and to the task it declares."""

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import FlexibleRunner, Runner

from rsfoundation.core.errors import ConfigError, nearest
from rsfoundation.core.task import Classes, Task
from rsfoundation.engine.checkpointing.find import install_safe_loader
from rsfoundation.engine.config_errors import unknown_type_error
from rsfoundation.engine.distributed.runner import StrategyRunner
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.peft import LoRAHook
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
            "the config says no task",
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
    """Read class names and colours from a dataset's or a checkpoint's metainfo.

    Raises:
        ConfigError: The metainfo names no classes.
    """
    names = meta.get("classes") or meta.get("CLASSES")
    if not names:
        raise ConfigError("the data set's metainfo names no classes", fix="set metainfo=dict(classes=(...))")
    names = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    declared = meta.get("palette") or meta.get("PALETTE") or []
    colours = [tuple(int(value) for value in colour) for colour in declared if not isinstance(colour, str)]
    colours += palette(len(names))[len(colours) :]
    return Classes(names, tuple(colours[: len(names)]))  # type: ignore[arg-type]


class PlainRunner(Runner):
    """mmengine's ``Runner`` whose model is built in its chain of wrappers; its ``cfg`` stays as resolved."""

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        super().__init__(model_config(options["cfg"]), *args, **options)


def build_runner(cfg: Config, start: Path | None = None) -> Runner | FlexibleRunner:
    """Build the runner for a resolved config.

    ``runner_type`` names it where given; otherwise a config with a ``strategy`` runs in
    :class:`StrategyRunner` and any other in :class:`PlainRunner`.

    Args:
        cfg: The resolved config; it is not changed.
        start: The checkpoint that ``--resume auto`` found.

    Raises:
        ConfigError: A type of the config is registered nowhere; the message names the nearest.
    """
    install_safe_loader()
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
