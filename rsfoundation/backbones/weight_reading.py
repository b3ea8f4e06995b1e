"""Published checkpoint files as plain state dicts: weights-only reading, wrappers, prefixes, other names."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from rsfoundation.checkpoints import read_checkpoint
from rsfoundation.errors import CheckpointError

State = dict[str, torch.Tensor]
_WRAPPERS = ("state_dict_ema", "state_dict", "model")
_PREFIXES = ("module.", "backbone.")


def read_state(path: Path) -> State:
    """Read the weights of a checkpoint file without running code from it.

    Weights lie at the top, or under ``state_dict``, ``state_dict_ema`` or ``model``.

    Returns:
        Tensors by name, without the prefixes ``module.`` and ``backbone.``; where some names carry
        ``backbone.``, only those.

    Raises:
        CheckpointError: The file is broken, holds more than weights and settings, or no weights.
    """
    content = read_checkpoint(path)
    state = _tensors(_unwrap(content))
    if not state:
        raise CheckpointError("the checkpoint holds no weights", where=path)
    for prefix in _PREFIXES:
        state = strip_prefix(state, prefix) or state
    return state


def strip_prefix(state: State, prefix: str) -> State:
    """Return the entries whose name starts with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _unwrap(content: Any) -> Any:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            return content[wrapper]
    return content


def _tensors(content: Any) -> State:
    if not isinstance(content, Mapping):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}


def _from_mmseg_swin(state: State) -> State:
    """Rename MMSegmentation's and MMDetection's Swin, and put merged tokens in the order of the original."""
    names: list[tuple[str, str]] = [
        (r"^stages\.", "layers."),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"\.attn\.w_msa\.", ".attn."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    ]
    out = {}
    for key, value in state.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        out[key] = _merge_order(value) if ".downsample." in key else value
    return out


def _merge_order(value: torch.Tensor) -> torch.Tensor:
    """Channel-major 2x2 phases, row by row, to phase-major ones, column by column, on the last dimension."""
    phases = value.unflatten(-1, (-1, 2, 2))
    return phases.movedim((-1, -2, -3), (-3, -2, -1)).flatten(-3)


# Backbone type -> (a name that gives another naming away, the translation).
_TRANSLATIONS: Mapping[str, tuple[str, Callable[[State], State]]] = {
    "RSPSwinTransformer": ("patch_embed.projection.weight", _from_mmseg_swin)
}


def translate(backbone: str, state: State) -> State:
    """Return the state under the published names, whichever naming it came in."""
    clue, function = _TRANSLATIONS.get(backbone, ("", dict))
    return function(state) if clue in state else state
