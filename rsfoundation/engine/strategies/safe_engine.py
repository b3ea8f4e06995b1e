"""Reading DeepSpeed checkpoint files while a DeepSpeed engine resumes: weights and plain values only."""

from __future__ import annotations

import copy
from typing import Any

from rsfoundation.checkpoints import read_checkpoint


def read_safely(engine: Any) -> None:
    """Make a DeepSpeed engine read checkpoint files as weights and plain values, never as code."""

    def load(path: str, map_location: Any = None) -> dict[str, Any]:
        content = read_checkpoint(path, map_location=map_location or "cpu")
        _revive_scaler(content.get("optimizer_state_dict"), getattr(engine.optimizer, "loss_scaler", None))
        return content

    engine.checkpoint_engine.load = load


def _revive_scaler(state: Any, scaler: Any) -> None:
    """Give the saved values of a loss scaler, read as plain values, to one of the engine's own."""
    if isinstance(state, dict) and "loss_scaler" in state and scaler is not None:
        revived = copy.copy(scaler)
        revived.__dict__.update(vars(state["loss_scaler"]))
        state["loss_scaler"] = revived
