"""The quickstart config of each task."""

from pathlib import Path

from rsfoundation.engine.config import list_configs
from rsfoundation.errors import ConfigError, nearest


def quickstart_config(task: str) -> Path:
    """Return ``configs/quickstart/<task>_toy_*.py``.

    Raises:
        ConfigError: No quickstart config is called after that task.
    """
    start = "quickstart/"
    known = {
        name: file for name, file in list_configs().items() if name.startswith(start) and "_toy_" in name
    }
    for name, file in known.items():
        if name.startswith(f"{start}{task}_toy_"):
            return file
    tasks = sorted({name.removeprefix(start).split("_toy_")[0] for name in known})
    raise ConfigError(
        f"there is no demo called '{task}'", cure=nearest(task, tasks) or f"one of: {', '.join(tasks)}"
    )
