"""The quickstart config of each task."""

import argparse
import difflib
import inspect
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction

from rsfoundation.core.errors import ConfigError, RSFError, nearest
from rsfoundation.engine.opencd import adopt_opencd_config

_OURS = {
    "image_loading",
    "lora",
    "predict",
    "runner_type",
    "submission",
    "task",
    "tta",
}  # beside the keys of mmengine
_ALIKE = 0.8  # from this similarity on, a new key is taken for a misspelt one


def config_root() -> Path:
    """Return the folder of the shipped configs: the checkout's, else the installed package's."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "configs"
    return checkout if (checkout / "_base_").is_dir() else package / "_configs"


def list_configs() -> dict[str, Path]:
    """Return every runnable shipped config: name such as ``lsknet/lsknet_t_...`` -> file."""
    root = config_root()
    files = sorted(path for path in root.rglob("*.py") if "_base_" not in path.parts)
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in files}


def find_config(name: str | Path) -> Path:
    """Find a config by path, by full name (``quickstart/x``) or by its last part (``x``).

    Raises:
        ConfigError: Nothing, or more than one config, goes by that name.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = list_configs()
    wanted = path.with_suffix("").as_posix() if path.suffix == ".py" else path.as_posix()
    wanted = wanted.removeprefix("configs/")
    if wanted in known:
        return known[wanted]
    hits = [full for full in known if full.rsplit("/", 1)[-1] == wanted]
    if len(hits) == 1:
        return known[hits[0]]
    if hits:
        raise ConfigError(
            f"the config name '{name}' is ambiguous: {', '.join(hits)}", fix="give the full name"
        )
    hint = nearest(wanted, known) or nearest(wanted, [full.rsplit("/", 1)[-1] for full in known])
    raise ConfigError(
        f"no config file and no shipped config is called '{name}'",
        where=config_root(),
        fix=f"{hint} `rsf info configs` lists them all".strip(),
    )


def load_config(name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config with its bases and apply ``key.sub=value`` overrides.

    Raises:
        ConfigError: The config is unknown, does not parse, or an override is malformed.
    """
    path = find_config(name)
    try:
        cfg = Config.fromfile(path)
    except RSFError:
        raise
    except Exception as error:  # a config is a program: it may raise anything
        raise ConfigError(
            f"the config cannot be read: {type(error).__name__}: {error}", where=_place(path, error)
        ) from error
    adopt_opencd_config(cfg)
    merge_overrides(cfg, overrides)
    return cfg


def _place(path: Path, error: Exception) -> str:
    """Return the line of the config, or of one of its bases, that an error comes from, where it tells."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(path)


def merge_overrides(cfg: Config, overrides: Sequence[str]) -> None:
    """Apply ``key.sub=value`` strings in place; values are parsed as mmengine's ``--cfg-options`` are."""
    bad = [item for item in overrides if "=" not in item]
    if bad:
        raise ConfigError(
            f"--cfg-options takes key=value, got '{bad[0]}'",
            fix="write for example --cfg-options train_dataloader.batch_size=4 randomness.seed=1",
        )
    parser = argparse.ArgumentParser()
    parser.add_argument("--set", nargs="*", action=DictAction, default={})
    parsed: dict[str, Any] = parser.parse_args(["--set", *overrides]).set if overrides else {}
    _refuse_misspelt(cfg, {key.partition(".")[0] for key in parsed})
    try:
        cfg.merge_from_dict(parsed)
    except (KeyError, TypeError, AssertionError, IndexError) as error:
        raise ConfigError(f"--cfg-options do not fit the config: {error}", where=cfg.filename) from error


def _refuse_misspelt(cfg: Config, keys: Iterable[str]) -> None:
    """Refuse new top-level keys called nearly like known ones: mmengine would set them, without effect."""
    new = [key for key in keys if key not in cfg and key not in _OURS]
    if not new:
        return
    from mmengine.runner import FlexibleRunner, Runner  # imports torch

    runner_keys = (inspect.signature(kind.__init__).parameters for kind in (Runner, FlexibleRunner))
    known = {*cfg, *_OURS}.union(*runner_keys)
    for key in new:
        alike = [] if key in known else difflib.get_close_matches(key.lower(), known, n=1, cutoff=_ALIKE)
        if alike:
            raise ConfigError(
                f"the config has no {key!r}; did you mean {alike[0]!r}?",
                where=f"--cfg-options {key}",
                fix="correct the key; `rsf info config CONFIG` prints all of them",
            )


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
        f"there is no demo called '{task}'", fix=nearest(task, tasks) or f"one of: {', '.join(tasks)}"
    )
