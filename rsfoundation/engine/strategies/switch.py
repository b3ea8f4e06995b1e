"""The ``--strategy`` switch: one file of ``configs/_base_/strategies`` merged into any config."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config

from rsfoundation.engine.config import config_root
from rsfoundation.errors import ConfigError, nearest

_SHARDED = ("FSDPStrategy", "DeepSpeedStrategy")


def strategy_names() -> list[str]:
    """Return what ``--strategy`` takes: the names of the files."""
    return sorted(file.stem for file in (config_root() / "_base_" / "strategies").glob("*.py"))


def use_strategy(cfg: Config, name: str) -> None:
    """Merge the strategy called ``name`` into ``cfg`` in place; a strategy the config had is replaced.

    Raises:
        ConfigError: There is no such strategy.
    """
    file = config_root() / "_base_" / "strategies" / f"{name}.py"
    if not file.is_file():
        known = strategy_names()
        raise ConfigError(
            f"there is no strategy '{name}'",
            where=file.parent,
            cure=nearest(name, known) or f"known strategies: {', '.join(known)}",
        )
    chosen = Config.fromfile(file)
    cfg.pop("strategy", None)
    cfg.pop("runner_type", None)
    cfg.merge_from_dict(chosen.to_dict())


def strategy_kind(cfg: Config) -> str | None:
    """Return the class name of the config's strategy without its scope; ``None`` without one."""
    strategy = cfg.get("strategy")
    return str(strategy["type"]).rsplit(".", 1)[-1] if strategy else None


def choose_accelerator(cfg: Config, device: str) -> None:
    """Tell DeepSpeed the device of this run; it would take CUDA wherever CUDA is installed."""
    if strategy_kind(cfg) != "DeepSpeedStrategy" or device != "cpu" or find_spec("deepspeed") is None:
        return  # the strategy itself says that DeepSpeed is missing
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.accelerator import get_accelerator, set_accelerator

    # not `from deepspeed.comm import torch`, which gives torch itself
    backend: Any = import_module("deepspeed.comm.torch")

    if get_accelerator().device_name() != "cpu":
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

        set_accelerator(CPU_Accelerator())
    # It would compile an all-reduce through shared memory, minutes on the first run; gloo serves.
    backend.build_shm_op = lambda: None


def adapt_to_strategy(cfg: Config) -> None:
    """Exchange the parts of a config that need whole parameters for ones that work on shards, in place."""
    if strategy_kind(cfg) not in _SHARDED:
        return
    hooks: list[Any] = cfg.get("custom_hooks") or []
    for hook in hooks:
        if isinstance(hook, dict) and hook.get("type") == "EMAHook":
            hook["type"] = "rsfoundation.ShardedEMAHook"
    if strategy_kind(cfg) == "DeepSpeedStrategy" and (cfg.get("lora") or {}).get("adapters_only"):
        cfg.strategy.exclude_frozen_parameters = True
