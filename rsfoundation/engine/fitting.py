"""Whether a checkpoint belongs to a network: mmengine loads what fits and goes on with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from rsfoundation.engine.peft import frozen_names
from rsfoundation.errors import CheckpointError
from rsfoundation.registry import HOOKS

_CURE = "give the config it was trained with (`rsf predict`: --config)"


def check_fit(network: nn.Module, content: dict[str, Any], where: str | Path | None) -> None:
    """Check that a checkpoint has every weight of a network, in its shape; more does no harm.

    Args:
        network: The network, also with wrappers that put ``module.`` before the names.
        content: The checkpoint. Frozen weights may be left out of one that holds adapters alone, and so may
            counts of batches, which old ones lack.
        where: Its file.

    Raises:
        CheckpointError: Weights are missing, or of another shape.
    """
    saved, own = _shapes(content.get("state_dict", content)), _shapes(network.state_dict())
    frozen = frozen_names(network) if content.get("meta", {}).get("lora_base") else []
    needed = own.keys() - {name.removeprefix("module.") for name in frozen} - saved.keys()
    missing = [name for name in needed if not name.endswith("num_batches_tracked")]
    if missing:
        others = sorted(saved.keys() - own)
        raise CheckpointError(
            f"the checkpoint lacks {len(missing)} weights of the model, first: {min(missing)}"
            + (f"; and has {len(others)} others, first: {others[0]}" if others else ""),
            where=where,
            cure=_CURE,
        )
    odd = sorted(name for name in own.keys() & saved if own[name] != saved[name])
    if odd:
        shapes = f"{tuple(saved[odd[0]])}, here {tuple(own[odd[0]])}"
        raise CheckpointError(
            f"the checkpoint was made for another model: {len(odd)} weights differ in shape, first: {odd[0]} "
            f"({shapes})",
            where=where,
            cure=_CURE,
        )


def _shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("module."): getattr(value, "shape", ()) for name, value in state.items()}


@HOOKS.register_module()
class FittingHook(Hook):
    """Refuses to test a checkpoint of another model."""

    priority = "LOWEST"  # after hooks that adapt the checkpoint

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes before anything is loaded."""
        network = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_fit(network, checkpoint, runner._load_from)
