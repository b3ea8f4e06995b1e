"""Reading checkpoints: weights and plain metadata only, never arbitrary pickled code."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import get_torch_safe_globals

from rsfoundation.errors import CheckpointError


def _history_method(owner: Any, name: str) -> Any:
    """Answer for ``getattr`` in a checkpoint: mmengine pickles ``HistoryBuffer`` statistics by name."""
    if owner is HistoryBuffer and name in ("mean", "max", "min", "current"):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f"GLOBAL getattr of {owner!r} was not allowed")


# mmengine's own list holds `getattr` itself, which lets a crafted file reach any attribute. torch finds
# allowed functions by their module and name.
_history_method.__module__, _history_method.__qualname__ = "builtins", "getattr"
_history_method.__name__ = "getattr"
_ALLOWED = [item for item in get_torch_safe_globals() if item is not getattr] + [_history_method]


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without running code from it.

    Args:
        path: A ``.pth`` file.
        map_location: As in ``torch.load``.

    Raises:
        CheckpointError: The file is missing, broken, or holds objects other than weights and the
            plain metadata that mmengine writes.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError("the checkpoint does not exist", where=file)
    try:
        torch.serialization.add_safe_globals(
            _ALLOWED
        )  # idempotent; the context manager is newer than torch 2.4
        content = torch.load(file, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"the checkpoint is not loaded: it holds more than weights ({_refused(error)})",
            where=file,
            cure="re-save its `state_dict` alone, in an environment where you trust the file",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read; it is cut short or no checkpoint ({_first_sentence(error)})",
            where=file,
            cure="fetch it again, or take the one before it from the run folder",
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"a checkpoint is a dict, this file holds a {type(content).__name__}", where=file
        )
    return content


def find_checkpoint(place: str | Path) -> Path:
    """Resolve a checkpoint file, or a run folder to its best, else newest, checkpoint.

    Raises:
        CheckpointError: There is none.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(
            "there is no such checkpoint or run folder", where=path, cure="train first: `rsf train CONFIG`"
        )
    best = sorted(path.glob("best_*.pth"), key=lambda file: file.stat().st_mtime)
    if best:
        return best[-1]
    marker = path / "last_checkpoint"
    if marker.is_file():
        last = Path(marker.read_text().strip())
        # The marker holds the path of the day: a moved run folder still has the file inside.
        return last if last.is_file() else path / last.name
    raise CheckpointError(
        "the run folder holds no checkpoint yet", where=path, cure="let it train to its first save"
    )


def install_safe_loader() -> None:
    """Make mmengine read local checkpoint files through :func:`read_checkpoint`, with no unsafe retry."""
    CheckpointLoader.register_scheme(prefixes="", loader=read_checkpoint, force=True)


def _refused(error: Exception) -> str:
    """Name the object that torch refused to load."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    return f"it asks for `{found.group(1)}`" if found else _first_sentence(error)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0][:200]
