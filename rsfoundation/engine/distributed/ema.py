"""Exponential moving averages of sharded parameters: each rank averages its own part, in float32."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import EMAHook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed.deepspeed import DeepSpeedStrategy
from rsfoundation.engine.distributed.zero_shards import load_form
from rsfoundation.registry import HOOKS


class _Shards(torch.nn.Module):
    """A rank's shards as the parameters of a module, so that mmengine's averaged models average them."""

    def __init__(self, shards: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.parts = torch.nn.ParameterList(
            torch.nn.Parameter(shard.detach(), requires_grad=False) for shard in shards.values()
        )


@HOOKS.register_module()
class ShardedEMAHook(EMAHook):
    """``EMAHook`` for ZeRO and FSDP; a run with such a strategy puts it in the place of ``EMAHook``.

    Averages float32 masters, also where the model itself is in bfloat16. Buffers are taken from the
    model, as ``EMAHook`` does by default.
    """

    def before_run(self, runner: Runner) -> None:
        """Copy this rank's shards."""
        self.strategy = runner.strategy
        self.src_model = _Shards(self.strategy.shards())
        self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))
        if self.ema_model.update_buffers:
            raise ConfigError(
                "averaging buffers is not possible with sharded parameters",
                where="custom_hooks: EMAHook(update_buffers=True)",
                fix="leave update_buffers out, or use --strategy ddp",
            )

    def _swap_ema_parameters(self) -> None:
        super()._swap_ema_parameters()
        self.strategy.publish_shards()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the averages: per rank for DeepSpeed, whole and in mmengine's layout for FSDP."""
        if isinstance(self.strategy, DeepSpeedStrategy):
            groups = [part.data for part in self.ema_model.module.parts]
            checkpoint["ema_shards"] = {"steps": self.ema_model.steps, "groups": groups}
            return
        self._swap_ema_parameters()
        averaged = self.strategy.model_state_dict()
        self._swap_ema_parameters()
        raw, checkpoint["state_dict"] = checkpoint["state_dict"], averaged
        checkpoint["ema_state_dict"] = {
            "steps": self.ema_model.steps,
            **{f"module.{key}": value for key, value in raw.items()},
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the averages back; a checkpoint without them starts the average at its weights."""
        if isinstance(self.strategy, DeepSpeedStrategy):
            saved = checkpoint.pop("ema_shards", None)
            groups = self._masters() if saved is None else self._padded(saved["groups"])
            steps = 0 if saved is None else saved["steps"]
        else:
            saved = checkpoint.get("ema_state_dict")
            self.strategy.load_model_state_dict(checkpoint["state_dict"])
            groups = self._masters()
            steps = 0 if saved is None else saved.pop("steps")
            if saved is not None:
                self._swap_ema_state_dict(checkpoint)
        for part, group in zip(self.ema_model.module.parts, groups, strict=True):
            part.data.copy_(group)
        self.ema_model.steps.fill_(int(steps))

    def _masters(self) -> list[torch.Tensor]:
        return list(self.strategy.shards().values())

    def _padded(self, groups: list[torch.Tensor]) -> list[torch.Tensor]:
        return load_form(self.strategy.model.optimizer, groups)
