"""What a run with LoRA adapters needs: a small optimiser, small checkpoints, adapters that are in use."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

from rsfoundation.engine.peft import (
    adapt_names,
    adapt_state,
    adapters,
    check_base,
    fingerprint,
    frozen_names,
)
from rsfoundation.errors import ConfigError
from rsfoundation.registry import HOOKS


@HOOKS.register_module()
class LoRAHook(Hook):
    """Added to every run whose config has a ``lora`` block.

    Args:
        adapters_only: Leave frozen parameters out of checkpoints. They must come from the backbone's
            ``init_cfg``; their SHA-256 is kept and compared when the adapters are loaded.
    """

    priority = "LOW"  # after EMAHook

    def __init__(self, adapters_only: bool = False) -> None:
        self.adapters_only = adapters_only
        self._calls: dict[str, int] = {}
        self._base: str | None = None  # of the frozen weights, where a strategy shards them

    def before_sharding(self, runner: Runner, model: nn.Module) -> None:
        """Take the fingerprint of the frozen weights while they are whole."""
        if self.adapters_only:
            _check_base(runner, model)
        self._base = fingerprint(model)

    def before_run(self, runner: Runner) -> None:
        """Take frozen parameters out of the optimiser; watch that adapters are called."""
        network = _network(runner)
        if self.adapters_only and self._base is None:
            _check_base(runner, network)
        wrapper = getattr(runner, "optim_wrapper", None)  # a config still while testing
        if isinstance(wrapper, OptimWrapper) and not isinstance(runner, FlexibleRunner):
            for group in wrapper.optimizer.param_groups:
                group["params"] = [parameter for parameter in group["params"] if parameter.requires_grad]
        for name, layer in adapters(network).items():
            layer.register_forward_pre_hook(self._counter(name))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the first iteration."""
        self._check(runner, "training")

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the first iteration."""
        self._check(runner, "evaluation")

    after_test_iter = after_val_iter

    def before_val_epoch(self, runner: Runner) -> None:
        """Count again: a layer may be called in training and read in evaluation."""
        self._calls.clear()

    before_test_epoch = before_val_epoch

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note what the adapters belong to; leave out what is frozen if the user wants that."""
        network = _network(runner)
        if self.adapters_only:
            for name in frozen_names(network) if "state_dict" in checkpoint else ():
                checkpoint["state_dict"].pop(name, None)
            self._base = self._base or fingerprint(network)
        if self._base is not None:
            checkpoint["meta"]["lora_base"] = self._base

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make a checkpoint fit, whether it was saved with adapters or without."""
        if not isinstance(runner, FlexibleRunner):
            adapt_state(_network(runner), checkpoint)
            return
        adapt_names(_network(runner), checkpoint.get("state_dict", {}))
        saved = checkpoint["meta"].get("lora_base")
        if self.adapters_only and saved is not None:
            check_base(str(self._base), saved)
        self._base = saved or self._base

    def _counter(self, name: str) -> Any:
        def count(_module: nn.Module, _inputs: Any) -> None:
            self._calls[name] = 1

        return count

    def _check(self, runner: Runner, stage: str) -> None:
        if len(self._calls) == len(names := list(adapters(_network(runner)))):
            return
        unused = [name for name in names if name not in self._calls]
        raise ConfigError(
            f"the adapter of {unused[0]} has no effect in {stage}: that layer's weight is read, not called",
            where="lora.target",
            cure=f"leave it out of the target (as are {len(unused)} of {len(names)})",
        )


def _network(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _check_base(runner: Runner, network: nn.Module) -> None:
    if any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise ConfigError(
            "adapters alone cannot be kept beside moving averages",
            where="lora.adapters_only",
            cure="leave out adapters_only or EMAHook",
        )
    scope = (runner.cfg.lora or {}).get("scope", "backbone")
    wanted = getattr(network.get_submodule(scope), "init_cfg", None) or []
    parts = [wanted] if isinstance(wanted, dict) else wanted
    if not any(part.get("type") == "Pretrained" for part in parts):
        raise ConfigError(
            f"adapters alone are of no use: the {scope} starts from weights that no file holds",
            where="lora.adapters_only",
            cure=f"give the {scope} init_cfg=dict(type='Pretrained', checkpoint=...)",
        )
