"""The one place that reads checkpoints: weights and plain metadata, never code unless the user says so."""

from __future__ import annotations

import logging
import pickle
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log

from rsfoundation.checkpoints.allowed import ALLOWED
from rsfoundation.checkpoints.archive import check_archive, is_archive
from rsfoundation.checkpoints.safetensors_files import is_safetensors, read_safetensors
from rsfoundation.errors import CheckpointError

_trusted: ContextVar[bool] = ContextVar("trusted", default=False)
# How torch's reader names what it refuses.
_MORE_THAN_WEIGHTS = re.compile(r"GLOBAL (?P<name>\S+)|call reduce|Can only (create|build)|persistent")
_RESAVE = "re-save its `state_dict` alone where you trust the file, or add --trust-checkpoint if you do here"


@contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Let checkpoints read inside run the code they hold: what ``--trust-checkpoint`` asks for."""
    token = _trusted.set(trust)
    try:
        yield
    finally:
        _trusted.reset(token)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint file without running code from it.

    Files of ``torch.save`` are mapped into memory, so that only what is used is read.

    Args:
        path: A ``.pth`` or ``.pt`` file of torch, mmengine or DeepSpeed, a ``.safetensors`` file, or the
            ``.safetensors.index.json`` of several.
        map_location: As in ``torch.load``.

    Raises:
        CheckpointError: The file is missing, broken, or holds objects other than weights and the
            plain metadata that mmengine and DeepSpeed write.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError("the checkpoint does not exist", where=file)
    if is_safetensors(file):
        return read_safetensors(file, map_location if isinstance(map_location, str) else "cpu")
    content = _read_code(file, map_location) if _trusted.get() else _read_weights(file, map_location)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"a checkpoint is a dict, this file holds a {type(content).__name__}", where=file
        )
    return content


def _read_weights(file: Path, map_location: Any) -> Any:
    archive = is_archive(file)
    if archive:
        check_archive(file)
    elif tarfile.is_tarfile(file):
        raise CheckpointError("the checkpoint is a tar archive, which is not read", where=file, cure=_RESAVE)
    try:
        torch.serialization.add_safe_globals(list(ALLOWED))  # idempotent
        return torch.load(file, map_location=map_location, weights_only=True, mmap=archive)
    except Exception as error:  # the bytes are a stranger's: any type may come
        raise _unreadable(file, error) from error


def _read_code(file: Path, map_location: Any) -> Any:
    print_log(
        f"--trust-checkpoint: {file} is read as a program that may do anything",
        logger="current",
        level=logging.WARNING,
    )
    try:
        return torch.load(file, map_location=map_location, weights_only=False)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ImportError, AttributeError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    asked = _MORE_THAN_WEIGHTS.search(str(error))
    said = str(error).strip().split("\n")[0].split(". ")[0][:200]
    if isinstance(error, pickle.UnpicklingError) and asked:
        what = f"it asks for `{asked['name']}`" if asked["name"] else said
        return CheckpointError(
            f"the checkpoint is not loaded: it holds more than weights ({what})", where=file, cure=_RESAVE
        )
    return CheckpointError(
        f"the checkpoint cannot be read; it is cut short or no checkpoint ({said})",
        where=file,
        cure="fetch it again, or take the one before it from the run folder",
    )
