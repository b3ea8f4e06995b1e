"""Finding the checkpoints of a run, and the loaders by which mmengine reads checkpoints safely."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_mmcls_models, get_torchvision_models

from rsfoundation.core.errors import CheckpointError, ConfigError, nearest
from rsfoundation.engine.checkpointing.zero_layout import is_zero_folder, read_zero_folder
from rsfoundation.engine.config import load_config
from rsfoundation.io.checkpoints import is_complete, read_checkpoint
from rsfoundation.models.pretrained.download import resolve


def newest_complete(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of a run; the log names the damaged ones that are passed over.

    ``last_checkpoint`` names it, unless the run was killed between publishing a checkpoint and naming it, or
    the named one is missing or damaged.
    """
    named = named_by_marker(folder)
    found = [path for path in folder.glob("*_*.pth") if _step(path) is not None]
    found.sort(key=lambda path: (path.stat().st_mtime, _step(path)), reverse=True)
    if named is not None and named.exists():
        newer = [path for path in found if _newer(path, named)]
        found = [*newer, named, *(path for path in found if path not in newer and path != named)]
    for path in found:
        if is_complete(path):
            return path
        print_log(f"{path} is damaged: passed over", logger="current", level=logging.WARNING)
    return None


def named_by_marker(folder: Path) -> Path | None:
    """Return the checkpoint that a run's ``last_checkpoint`` names, whether it exists or not, or ``None``."""
    marker = folder / "last_checkpoint"
    text = marker.read_text().strip() if marker.is_file() else ""
    if not text:
        return None
    named = Path(text)
    # The marker holds the path at the time of saving: a moved run folder still has the file inside.
    return folder / named.name if (folder / named.name).exists() else named


def _step(path: Path) -> int | None:
    number = path.stem.rsplit("_", 1)[-1]
    return int(number) if number.isdigit() and not path.name.startswith("best_") else None


def _newer(path: Path, named: Path) -> bool:
    return path.stat().st_mtime > named.stat().st_mtime and (_step(path) or 0) > (_step(named) or 0)


_ZOOS: dict[str, Callable[[], dict[str, str]]] = {
    "torchvision://": get_torchvision_models,
    "modelzoo://": get_torchvision_models,
    "open-mmlab://": get_external_models,
    "openmmlab://": get_external_models,
    "mmcls://": get_mmcls_models,
}
_UNSUPPORTED = ("pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://")


def find_checkpoint(place: str | Path) -> Path:
    """Resolve a checkpoint file or DeepSpeed folder, or a run folder to its best, else newest, checkpoint.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(place).expanduser()
    if path.is_file() or is_zero_folder(path):
        return path
    if not path.is_dir():
        raise CheckpointError(
            "there is no such checkpoint or run folder", where=path, fix="train first: `rsf train CONFIG`"
        )
    found = best_checkpoint(path) or newest_complete(path)
    if found is not None:
        return found
    raise CheckpointError(
        "the run folder holds no checkpoint yet", where=path, fix="let it train to its first save"
    )


def find_start(cfg: Config, resume: str | None, work_dir: Path) -> Path | None:
    """Return the checkpoint that a training starts or resumes from, before anything is built.

    Args:
        cfg: The config as read.
        resume: The option ``--resume``: ``auto``, a checkpoint, or ``None`` for what the config says.
        work_dir: The run folder.

    Returns:
        The checkpoint; ``None`` where training starts at the beginning, or from a link.

    Raises:
        CheckpointError: ``load_from``, or the option, names no checkpoint.
    """
    named = cfg.get("load_from") if resume is None else (None if resume == "auto" else resume)
    if named:
        return find_checkpoint(named) if "://" not in str(named) else None
    if resume is None and not cfg.get("resume"):
        return None
    found = [_newest_of_run(cfg, work_dir) if is_main_process() else None]
    broadcast_object_list(found)  # the other hosts may not see the run folder of the first
    message = (
        f"--resume: {work_dir} holds no complete checkpoint; training starts at the beginning"
        if found[0] is None
        else f"--resume: resuming from {found[0]}, the newest complete checkpoint"
    )
    print_log(message, logger="current", level=logging.WARNING)
    return found[0]


def _newest_of_run(cfg: Config, work_dir: Path) -> Path | None:
    other = (cfg.get("default_hooks") or {}).get("checkpoint", {}).get("out_dir")
    found = newest_complete(work_dir) if work_dir.is_dir() else None
    if found is None and other and (Path(other) / work_dir.name).is_dir():
        found = newest_complete(Path(other) / work_dir.name)
    return found


def best_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a run that validated best, the last of several; ``None`` without one."""
    return max(folder.glob("best_*.pth"), key=lambda file: file.stat().st_mtime, default=None)


def config_of_checkpoint(
    checkpoint: str | Path, config: str | Path | Config | None = None, overrides: Sequence[str] = ()
) -> Config:
    """Return the config that belongs to a checkpoint. The text stored in the checkpoint is never executed.

    Args:
        checkpoint: As :func:`find_checkpoint` takes it; it is looked for only where no config is given.
        config: Name or path of the config, or one that was read, which is returned as it is; ``config.py`` of
            the run folder when not given.
        overrides: ``key.sub=value`` strings applied to a config that is read here.

    Raises:
        ConfigError: There is none, or it cannot be read.
        CheckpointError: There is no such checkpoint.
    """
    if isinstance(config, Config):
        return config
    if config:
        return load_config(config, overrides)
    checkpoint = find_checkpoint(checkpoint)
    file = checkpoint.parent / "config.py"
    if not file.is_file():
        raise ConfigError(
            "there is no config.py next to the checkpoint",
            where=checkpoint,
            fix="name its config: --config",
        )
    return load_config(file, overrides)


def read_saved(place: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a file, or the weights of a DeepSpeed checkpoint folder, as :func:`find_checkpoint` returns them.

    Args:
        place: The file or folder.
        map_location: As in ``torch.load``; folders are read to the host.
    """
    folder = Path(place).expanduser()
    return read_zero_folder(folder) if is_zero_folder(folder) else read_checkpoint(place, map_location)


# mmengine reads every checkpoint, local or linked, by one of these, and has no unsafe second try. Its log
# prints the names without `load_from_`.


@CheckpointLoader.register_scheme(prefixes="", force=True)
def load_from_local(place: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this host.

    Args:
        place: A file, or a checkpoint folder of DeepSpeed.
        map_location: As in ``torch.load``.
    """
    return read_saved(place, map_location)


@CheckpointLoader.register_scheme(prefixes=("http://", "https://"), force=True)
def load_from_http(link: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Download a link once per run, on the first rank, and read the file.

    Args:
        link: An ``http(s)`` link.
        map_location: As in ``torch.load``.
    """
    if is_main_process():
        resolve(link)
    if dist.is_initialized():
        barrier()
    return read_checkpoint(resolve(link), map_location)


@CheckpointLoader.register_scheme(prefixes=tuple(_ZOOS), force=True)
def load_from_model_zoo(name: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a model of a zoo that mmengine knows.

    Args:
        name: Such as ``torchvision://resnet50``.
        map_location: As in ``torch.load``.

    Raises:
        CheckpointError: The zoo has no such model.
    """
    zoo, _, model = name.partition("://")
    links = _ZOOS[f"{zoo}://"]()
    if not str(links.get(model, "")).startswith("http"):
        raise CheckpointError(f"{zoo} has no model {model!r}", where=name, fix=nearest(model, links))
    content = load_from_http(links[model], map_location)
    if zoo != "mmcls":
        return content
    state = content.get("state_dict", content)
    start = "backbone."
    return {"state_dict": {key.removeprefix(start): state[key] for key in state if key.startswith(start)}}


@CheckpointLoader.register_scheme(prefixes=_UNSUPPORTED, force=True)
def load_from_unsupported_store(name: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Refuse a store whose files mmengine would read unsafely.

    Args:
        name: Address of the checkpoint.
        map_location: Not used.

    Raises:
        CheckpointError: Always.
    """
    raise CheckpointError(
        "checkpoints are not read from this store", where=name, fix="copy the file here and give its path"
    )
