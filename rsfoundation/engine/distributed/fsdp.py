"""Fully sharded data parallel training on torch's ``fully_shard``, on CPU and CUDA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy.distributed import DDPStrategy
from mmengine.device import get_device
from mmengine.runner.checkpoint import save_checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed.strategy import ShardingMixin, autocast_forward
from rsfoundation.registry import STRATEGIES

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
# not strict: a parameter that no step has used yet has no optimiser state
_SPREAD = StateDictOptions(full_state_dict=True, broadcast_from_rank0=False, strict=False)


@STRATEGIES.register_module()
class FSDPStrategy(ShardingMixin, DDPStrategy):
    """Shard parameters, gradients and optimiser states; save whole, world-size independent checkpoints.

    mmengine's ``FSDPStrategy`` uses the first FSDP, which flattens parameters and so loses per-parameter
    optimiser groups and frozen parameters; ``fully_shard`` keeps each parameter and its name.

    Args:
        wrap_numel: A module whose siblings repeat it (a block of a stage) is sharded as a unit when it
            holds at least this many parameters; the rest is one unit.
        param_dtype: ``bfloat16`` or ``float16`` to gather in that type and compute under autocast, while the
            shards and the optimiser stay in float32.
        offload: Keep the shards in host memory between uses.
    """

    def __init__(
        self,
        *,
        wrap_numel: int = 500_000,
        param_dtype: str | None = None,
        offload: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wrap_numel = wrap_numel
        self.param_dtype = param_dtype
        self.offload = offload

    def _wrap_model(self, model: torch.nn.Module) -> torch.nn.Module:
        model = self.convert_model(self._finish_whole(model))
        options = self._shard_options()
        if self.param_dtype is not None:
            autocast_forward(model, get_device(), getattr(torch, self.param_dtype))
        for unit in reversed(repeated_modules(model, self.wrap_numel)):  # torch wants inner units first
            _fully_shard()(unit, **options)
        _fully_shard()(model, **options)
        self._sharded: dict[str, Any] = {n: p for n, p in model.named_parameters() if p.requires_grad}
        return model

    def _shard_options(self) -> dict[str, Any]:
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy

        options: dict[str, Any] = {"mesh": init_device_mesh(get_device(), (dist.get_world_size(),))}
        if self.param_dtype is not None:
            dtype = getattr(torch, self.param_dtype)
            options["mp_policy"] = MixedPrecisionPolicy(
                param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
            )
        if self.offload:
            options["offload_policy"] = CPUOffloadPolicy()
        return options

    def shards(self) -> dict[str, torch.Tensor]:
        """Return this rank's part of each trained parameter by name."""
        return {name: parameter.to_local().detach() for name, parameter in self._sharded.items()}

    def publish_shards(self) -> None:
        """Drop gathered copies, so that the next forward pass gathers the shards anew."""
        for module in self.model.modules():
            if hasattr(module, "reshard"):
                module.reshard()

    def model_state_dict(self) -> dict[str, Any]:
        """Gather the whole state dict; empty on every rank but the first."""
        return get_model_state_dict(self.model, options=_WHOLE)

    def optim_state_dict(self) -> dict[str, Any]:
        """Gather the optimiser's state by parameter name; empty on every rank but the first."""
        state = get_optimizer_state_dict(self.model, self.optim_wrapper.optimizer, options=_WHOLE)
        return {"by_name": state, "wrapper": _without_optimizer(self.optim_wrapper.state_dict())}

    def load_model_state_dict(
        self, state_dict: dict[str, Any], *, strict: bool = False, revise_keys: Any = ()
    ) -> None:
        """Give each rank its part of a whole state dict that every rank has read."""
        set_model_state_dict(
            self.model, state_dict, options=StateDictOptions(full_state_dict=True, strict=strict)
        )

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each rank its part of a whole optimiser state."""
        set_optimizer_state_dict(
            self.model, self.optim_wrapper.optimizer, state_dict["by_name"], options=_SPREAD
        )
        extra = state_dict["wrapper"]
        if "base_param_settings" in extra:
            self.optim_wrapper.base_param_settings = extra["base_param_settings"]

    def _state(self, optimizer: bool) -> dict[str, Any]:
        """Gather the whole weights and optimiser: the file is laid out as without FSDP."""
        state: dict[str, Any] = {"state_dict": self.model_state_dict()}
        if optimizer and hasattr(self, "optim_wrapper"):
            state["optimizer"] = self.optim_state_dict()
        return state

    def _write(self, content: dict[str, Any], target: Path) -> None:
        if self.rank == 0:
            save_checkpoint(content, str(target))


def repeated_modules(model: torch.nn.Module, numel: int) -> list[torch.nn.Module]:
    """Return the blocks worth a unit: children of one class inside a list or sequence, large enough.

    Args:
        model: The whole model.
        numel: Least number of parameters of a block.

    Returns:
        The blocks; one that contains others comes before them.
    """
    found = []
    for parent in model.modules():
        if isinstance(parent, (torch.nn.ModuleList, torch.nn.Sequential)):
            blocks = [
                child
                for child in parent
                if sum(p.numel() for p in child.parameters()) >= numel
                and type(child).forward is not torch.nn.Module.forward  # gathered when it is called
            ]
            if len(blocks) > 1 and len({type(block) for block in blocks}) == 1:
                found += blocks
    return found


def _without_optimizer(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in ("state", "param_groups")}


def _fully_shard() -> Callable[..., Any]:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise ConfigError(
            f"--strategy fsdp needs torch 2.6 or newer, this is {torch.__version__}",
            fix="pip install -U torch torchvision, or use --strategy deepspeed-zero3",
        ) from error
    return fully_shard
