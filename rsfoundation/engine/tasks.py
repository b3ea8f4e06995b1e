"""From a config to the task it declares."""

from typing import Any

from mmengine.config import Config

from rsfoundation.errors import ConfigError, nearest
from rsfoundation.registry import TASKS
from rsfoundation.task import Classes, Task
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
            cure=f"add task = dict(type='rsfoundation.NAME') with one of: {', '.join(names)}",
        )
    kind = str(declared["type"])
    short = kind.removeprefix("rsfoundation.")
    if short not in TASKS.module_dict:
        raise ConfigError(
            f"no task is registered as '{kind}'",
            where=cfg.filename,
            cure=nearest(short, names) or f"known tasks: {', '.join(names)}",
        )
    arguments = {key: value for key, value in declared.items() if key != "type"}
    return TASKS.module_dict[short](**arguments)


def keep_best_by_primary_metric(cfg: Config, task: Task) -> None:
    """Let ``save_best='auto'`` mean the task's primary metric; to mmengine it is whatever comes first."""
    hook = cfg.get("default_hooks", {}).get("checkpoint", {})
    if hook.get("save_best") == "auto":
        hook["save_best"] = next(
            key for key, name in task.metric_names.items() if name == task.primary_metric
        )


def classes_of(meta: dict[str, Any]) -> Classes:
    """Read class names and colours from a dataset's or a checkpoint's metainfo.

    Raises:
        ConfigError: The metainfo names no classes.
    """
    names = meta.get("classes") or meta.get("CLASSES")
    if not names:
        raise ConfigError("the data set's metainfo names no classes", cure="set metainfo=dict(classes=(...))")
    names = (names,) if isinstance(names, str) else tuple(str(name) for name in names)
    declared = meta.get("palette") or meta.get("PALETTE") or []
    colours = [tuple(int(value) for value in colour) for colour in declared if not isinstance(colour, str)]
    colours += palette(len(names))[len(colours) :]
    return Classes(names, tuple(colours[: len(names)]))  # type: ignore[arg-type]
