"""Safetensors files, single or in shards with an index, as checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rsfoundation.checkpoints.publishing import published
from rsfoundation.errors import CheckpointError

INDEX_SUFFIX = ".safetensors.index.json"
_META = "rsfoundation.meta"


def is_safetensors(file: Path) -> bool:
    """Say whether the name is that of a safetensors file or of the index of its shards."""
    return file.suffix == ".safetensors" or file.name.endswith(INDEX_SUFFIX)


def read_safetensors(file: Path, device: str = "cpu") -> dict[str, Any]:
    """Read a safetensors file, or all shards of an index.

    Returns:
        ``{'state_dict': tensors by name, 'meta': what write_safetensors was given}``.

    Raises:
        CheckpointError: A file is broken, or the index names one outside its folder.
    """
    state: dict[str, torch.Tensor] = {}
    meta: dict[str, Any] = {}
    for part in _shards(file):
        try:
            with safe_open(part, framework="pt", device=device) as content:
                state.update({name: content.get_tensor(name) for name in content.keys()})  # noqa: SIM118
                meta.update(json.loads((content.metadata() or {}).get(_META, "{}")))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"the safetensors file cannot be read; it is cut short or crafted ({error})",
                where=part,
                cure="fetch it again",
            ) from error
    return {"state_dict": state, "meta": meta}


def _shards(file: Path) -> list[Path]:
    if not file.name.endswith(INDEX_SUFFIX):
        return [file]
    try:
        names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError("the index of a safetensors checkpoint is broken", where=file) from error
    for name in names:
        if Path(name).name != name or not (file.parent / name).is_file():
            raise CheckpointError(
                f"the index names {name!r}, which is no file beside it", where=file, cure="fetch it again"
            )
    return [file.parent / name for name in names]


def write_safetensors(
    state: Mapping[str, torch.Tensor], file: Path, meta: Mapping[str, Any] | None = None
) -> Path:
    """Write weights to one safetensors file, published when it is whole.

    Args:
        state: Tensors by name; those that share memory are written once each.
        file: The file to write.
        meta: Plain values kept beside the weights, such as classes and palette.

    Returns:
        ``file``.
    """
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}
    with published(file) as aside:
        save_file(tensors, aside, {"format": "pt", _META: json.dumps(dict(meta or {}))})
    return file
