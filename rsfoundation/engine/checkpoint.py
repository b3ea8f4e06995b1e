"""Finding the checkpoints of a run, and making mmengine read every checkpoint safely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.dist import barrier, is_main_process
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_external_models, get_mmcls_models, get_torchvision_models

from rsfoundation.backbones.weight_files import resolve
from rsfoundation.checkpoints import read_checkpoint
from rsfoundation.checkpoints.newest import newest_complete
from rsfoundation.engine.zero_gather import read_zero_folder
from rsfoundation.engine.zero_layout import is_zero_folder
from rsfoundation.errors import CheckpointError, nearest

_ZOOS: dict[str, Callable[[], dict[str, str]]] = {
    "torchvision://": get_torchvision_models,
    "modelzoo://": get_torchvision_models,
    "open-mmlab://": get_external_models,
    "openmmlab://": get_external_models,
    "mmcls://": get_mmcls_models,
}
_FOREIGN = ("pavi://", r"(\S+\:)?s3://", r"(\S+\:)?petrel://")


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
            "there is no such checkpoint or run folder", where=path, cure="train first: `rsf train CONFIG`"
        )
    found = best_checkpoint(path) or newest_complete(path)
    if found is not None:
        return found
    raise CheckpointError(
        "the run folder holds no checkpoint yet", where=path, cure="let it train to its first save"
    )


def best_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of a run that validated best, the last of several; ``None`` without one."""
    return max(folder.glob("best_*.pth"), key=lambda file: file.stat().st_mtime, default=None)


def install_safe_loader() -> None:
    """Make mmengine read every checkpoint, local or linked, through one safe reader, with no unsafe retry."""
    for prefixes, loader in (
        ("", read_saved),
        (("http://", "https://"), _load_link),
        (tuple(_ZOOS), _load_from_zoo),
        (_FOREIGN, _refuse),
    ):
        CheckpointLoader.register_scheme(prefixes=prefixes, loader=loader, force=True)


def read_saved(place: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a file, or the weights of a DeepSpeed checkpoint folder: what :func:`find_checkpoint` found."""
    folder = Path(place).expanduser()
    return read_zero_folder(folder) if is_zero_folder(folder) else read_checkpoint(place, map_location)


def _load_link(link: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Fetch a link once per run, on the first rank, and read it."""
    if is_main_process():
        resolve(link)
    if dist.is_initialized():
        barrier()
    return read_checkpoint(resolve(link), map_location)


def _load_from_zoo(name: str, map_location: Any = "cpu") -> dict[str, Any]:
    zoo, _, model = name.partition("://")
    links = _ZOOS[f"{zoo}://"]()
    if not str(links.get(model, "")).startswith("http"):
        raise CheckpointError(f"{zoo} has no model {model!r}", where=name, cure=nearest(model, links))
    content = _load_link(links[model], map_location)
    if zoo != "mmcls":
        return content
    state = content.get("state_dict", content)
    start = "backbone."
    return {"state_dict": {key.removeprefix(start): state[key] for key in state if key.startswith(start)}}


def _refuse(name: str, map_location: Any = "cpu") -> dict[str, Any]:
    raise CheckpointError(
        "checkpoints are not read from this store", where=name, cure="copy the file here and give its path"
    )
