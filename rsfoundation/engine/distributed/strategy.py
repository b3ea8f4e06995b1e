"""Base of the sharding strategies: the process group, and the whole model before it is sharded."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.distributed.launch import init_distributed


class ShardingMixin:
    """Mixed into mmengine strategies that shard the model.

    Attributes:
        before_sharding: Called with the whole model, initialised and on the host; the runner sets it.
    """

    before_sharding: Callable[[torch.nn.Module], None] | None = None
    seed: int | None
    scheduler_state_dict: Callable[[], Any]

    def _setup_env(self, **options: Any) -> None:
        super()._setup_env(**options)  # type: ignore[misc]
        if not dist.is_initialized():
            _join_alone()

    def _setup_distributed(self, launcher: str, **options: Any) -> None:
        init_distributed(launcher, get_device(), Config({"env_cfg": {"dist_cfg": options}}))

    def _finish_whole(self, model: torch.nn.Module) -> torch.nn.Module:
        """Let the runner fill in weights, then move the whole model to this rank's device."""
        if self.before_sharding is not None:
            self.before_sharding(model)
        _refuse_scalars(model)
        compute_batch_norm_in_float32(model)
        return model.to(get_device())

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Write a checkpoint. Every rank must call it.

        Args:
            filename: File or folder to write.
            save_optimizer: Whether to keep the optimiser's state.
            save_param_scheduler: Whether to keep the schedules' state.
            extra_ckpt: Further entries, such as ``meta``.
            callback: Called with the checkpoint before it is written.
        """
        content = {**_stamped(extra_ckpt, self.seed), **self._state(save_optimizer)}
        if save_param_scheduler and hasattr(self, "param_schedulers"):
            content["param_schedulers"] = self.scheduler_state_dict()
        if callback is not None:
            callback(content)
        self._write(content, Path(filename))
        dist.barrier()

    def _state(self, optimizer: bool) -> dict[str, Any]:
        """Return the strategy's own part of a checkpoint's content."""
        raise NotImplementedError

    def _write(self, content: dict[str, Any], target: Path) -> None:
        """Write a checkpoint's content; every rank calls it."""
        raise NotImplementedError

    def shards(self) -> dict[str, torch.Tensor]:
        """Return this rank's part of the trained parameters, in float32.

        What is written into them reaches the model with :meth:`publish_shards`.
        """
        raise NotImplementedError

    def publish_shards(self) -> None:
        """Make the model use what was written into :meth:`shards`. Every rank must call it."""
        raise NotImplementedError


def autocast_forward(model: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    """Run ``model.forward`` under autocast, inside DeepSpeed, which turns an outer autocast off.

    Autocast also lets a model whose weights are in ``dtype`` take float32 images and buffers, and keeps
    losses and box arithmetic in float32.

    Args:
        model: The whole model.
        device: ``cpu`` or ``cuda``.
        dtype: Type of convolutions and matrix products.
    """
    inner = model.forward

    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype=dtype):
            return inner(*args, **kwargs)

    model.forward = forward


def compute_batch_norm_in_float32(model: torch.nn.Module) -> None:
    """Let every batch norm compute in float32 where a strategy casts its weights to 16 bits.

    Running statistics stay in float32, and torch takes no batch norm whose weights have another type. The
    input and the output keep their type; in a float32 model nothing changes.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_forward_in_float32, module, module.forward)


def _forward_in_float32(
    module: torch.nn.Module, forward: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> torch.Tensor:
    """Call ``forward`` while attributes of the instance hide its parameters, which are read by name."""
    weights = dict(module.named_parameters(recurse=False))
    if all(value.dtype == torch.float32 for value in weights.values()):
        return forward(x)
    wide = {name: value.float() for name, value in weights.items()}
    vars(module).update(wide)
    try:
        return forward(x)
    finally:
        for name in wide:
            del vars(module)[name]


def _refuse_scalars(model: torch.nn.Module) -> None:
    """Refuse a parameter without dimensions: neither DeepSpeed nor FSDP can shard it."""
    scalars = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise ConfigError(
            f"the parameter '{scalars[0]}' is a scalar, which cannot be sharded",
            where="model",
            fix="give it the shape (1,), or use --strategy ddp",
        )


def _stamped(extra: dict[str, Any] | None, seed: int | None) -> dict[str, Any]:
    """Add what mmengine notes in every checkpoint's ``meta``: seed, time and its version."""
    extra = extra or {}
    extra.setdefault("meta", {}).update(
        seed=seed, time=time.strftime("%Y%m%d_%H%M%S", time.localtime()), mmengine=mmengine.__version__
    )
    return extra


def _join_alone() -> None:
    """Start a process group of one rank: sharding libraries want a group even then."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        os.environ.setdefault(name, value)
    store = dist.FileStore(str(Path(tempfile.mkdtemp(prefix="rsf-group-")) / "store"), 1)
    backend = "nccl" if get_device() == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
