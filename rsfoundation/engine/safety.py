"""Putting the package's crash-safe and resumable parts in the place of mmengine's, in any config."""

from __future__ import annotations

import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from rsfoundation.checkpoints.newest import newest_complete
from rsfoundation.engine.checkpoint import find_checkpoint

_LOOPS = ("EpochBasedTrainLoop", "IterBasedTrainLoop")


def use_safe_parts(cfg: Config) -> None:
    """Let ``cfg`` use this package's train loops and checkpoint hook where it names mmengine's, in place.

    They take the same arguments. Loops and hooks that a user wrote are left alone.
    """
    loop = cfg.get("train_cfg")
    if loop:
        name = loop.get("type") or _LOOPS[0 if loop.get("by_epoch", True) else 1]
        if _own_name(name) in _LOOPS:
            loop.pop("by_epoch", None)
            loop["type"] = f"rsfoundation.{_own_name(name)}"
    hooks = cfg.get("default_hooks") or {}
    checkpoint = hooks.get("checkpoint", dict(type="CheckpointHook", interval=1))
    if checkpoint and _own_name(checkpoint["type"]) == "CheckpointHook":
        hooks["checkpoint"] = {**checkpoint, "type": "rsfoundation.CheckpointHook"}
    cfg.default_hooks = hooks


def _own_name(name: object) -> str:
    """Return a type's name without mmengine's scope."""
    return str(name).removeprefix("mmengine.")


def resolve_start(cfg: Config) -> Path | None:
    """Check where the run starts from, before anything is built.

    Returns:
        The checkpoint that ``--resume auto`` means. ``cfg.resume`` is taken back where there is none.

    Raises:
        CheckpointError: ``load_from`` names no checkpoint.
    """
    if cfg.get("load_from"):
        if "://" not in cfg.load_from:
            cfg.load_from = str(find_checkpoint(cfg.load_from))
        return None
    if not cfg.get("resume"):
        return None
    found = [_newest(cfg) if is_main_process() else None]
    broadcast_object_list(found)  # the other hosts may not see the run folder of the first
    if found[0] is None:
        cfg.resume = False
        said = f"--resume: {cfg.work_dir} holds no complete checkpoint; training starts at the beginning"
    else:
        said = f"--resume: going on from {found[0]}, the newest complete checkpoint"
    print_log(said, logger="current", level=logging.WARNING)
    return found[0]


def _newest(cfg: Config) -> Path | None:
    work_dir = Path(cfg.work_dir)
    elsewhere = (cfg.get("default_hooks") or {}).get("checkpoint", {}).get("out_dir")
    found = newest_complete(work_dir) if work_dir.is_dir() else None
    if found is None and elsewhere and (Path(elsewhere) / work_dir.name).is_dir():
        found = newest_complete(Path(elsewhere) / work_dir.name)
    return found
