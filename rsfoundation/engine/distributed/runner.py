"""mmengine's runner for strategies, with the order of steps that its plain runner has."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.runner import CheckpointLoader, FlexibleRunner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.peft import adapt_state


class StrategyRunner(FlexibleRunner):
    """``FlexibleRunner`` that loads weights before a strategy shards them and calls hooks in order.

    mmengine's own calls ``before_run`` after resuming, so that hooks such as EMA have nothing to resume
    into, ignores ``activation_checkpointing``, and cannot start from a plain ``.pth`` file under
    DeepSpeed.
    """

    def __init__(self, model: Any, *args: Any, **options: Any) -> None:
        self._before_run_called = False
        super().__init__(model_config(options["cfg"]), *args, **options)

    def train(self) -> torch.nn.Module:
        """Train; weights of ``load_from`` are read before the model is sharded."""
        self.strategy.before_sharding = self._before_sharding
        return super().train()

    def load_or_resume(self) -> None:
        """Resume after ``before_run``, as the plain runner does."""
        self.call_hook("before_run")
        super().load_or_resume()

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks; ``before_run`` only once."""
        if fn_name == "before_run":
            if self._before_run_called:
                return
            self._before_run_called = True
        super().call_hook(fn_name, **kwargs)

    def _before_sharding(self, model: torch.nn.Module) -> None:
        """Fill in weights and turn on activation checkpointing while the model is still whole."""
        names = self.cfg.get("activation_checkpointing")
        if names:
            _check_modules(model, names)
            turn_on_activation_checkpointing(model, names)
        if self._load_from is not None and not self._resume:
            content = CheckpointLoader.load_checkpoint(self._load_from, map_location="cpu")
            adapt_state(model, content)
            _load_checkpoint_to_model(model, content)
            self._has_loaded = True
        self.call_hook("before_sharding", model=model)  # a name of ours; hooks without it are passed over


def _check_modules(model: torch.nn.Module, names: list[str]) -> None:
    known = {name for name, _ in model.named_modules()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"activation_checkpointing names '{unknown[0]}', which is no module of the model",
            where="activation_checkpointing",
            fix="name modules as state_dict keys do, for example 'backbone.layers.0'",
        )
