"""DeepSpeed's ZeRO stages as an mmengine strategy, with current DeepSpeed, on CPU and CUDA."""

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy.deepspeed import DeepSpeedStrategy as _DeepSpeedStrategy
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper
from mmengine.device import get_device
from mmengine.dist import all_gather_object
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch.optim import Optimizer

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine.distributed.strategy import ShardingMixin, autocast_forward
from rsfoundation.engine.distributed.zero_shards import (
    is_cut_alike,
    publish_masters,
    read_masters,
    resume_from_other_ranks,
    save_form,
)
from rsfoundation.io.checkpoints import read_checkpoint
from rsfoundation.registry import STRATEGIES


def use_cpu_accelerator() -> None:
    """Make the CPU DeepSpeed's device; it would take CUDA wherever CUDA is installed."""
    os.environ["DS_ACCELERATOR"] = "cpu"
    from deepspeed.accelerator import get_accelerator, set_accelerator

    # not `from deepspeed.comm import torch`, which gives torch itself
    backend: Any = import_module("deepspeed.comm.torch")

    if get_accelerator().device_name() != "cpu":
        from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

        set_accelerator(CPU_Accelerator())
    # It would compile an all-reduce through shared memory, minutes on the first run; gloo does the same.
    backend.build_shm_op = lambda: None


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


_PLAIN = ("OptimWrapper", "DeepSpeedOptimWrapper")
_MIXED = ("AmpOptimWrapper", "CPUAmpOptimWrapper")
_NO_IDENTITY = ("params", "param_names", "group_name")  # what groups of equal treatment may differ in


def take_wrapper_options(wrapper: dict[str, Any], config: dict[str, Any]) -> torch.dtype | None:
    """Move clipping, accumulation and precision from ``wrapper`` to DeepSpeed's ``config``, both in place.

    Args:
        wrapper: The config's ``optim_wrapper``; afterwards one that builds mmengine's DeepSpeed wrapper.
        config: DeepSpeed's config.

    Returns:
        The type of autocast for the forward pass; ``None`` for none.

    Raises:
        ConfigError: The wrapper asks for what DeepSpeed cannot do.
    """
    kind = str(wrapper.get("type", "OptimWrapper")).rsplit(".", 1)[-1]
    if kind not in _PLAIN + _MIXED:
        raise ConfigError(
            f"DeepSpeed steps through its own wrapper, the config asks for '{kind}'",
            where="optim_wrapper.type",
            fix="use OptimWrapper or AmpOptimWrapper, or --strategy ddp",
        )
    wrapper["type"] = "DeepSpeedOptimWrapper"
    _take_clipping(wrapper.pop("clip_grad", None), config)
    config["gradient_accumulation_steps"] = wrapper.pop(
        "accumulative_counts", config.get("gradient_accumulation_steps", 1)
    )
    wrapper.pop("loss_scale", None)
    asked = wrapper.pop("dtype", None)
    return _take_precision(kind, asked, config)


def _take_clipping(clip: dict[str, Any] | None, config: dict[str, Any]) -> None:
    if not clip:
        # stated, since DeepSpeed's default is 1.0 from 0.19.3 on
        config.setdefault("gradient_clipping", 0.0)
        return
    if "max_norm" not in clip or clip.get("norm_type", 2) != 2 or clip.get("type", "norm") != "norm":
        raise ConfigError(
            f"DeepSpeed clips by the 2-norm of all gradients, the config asks for {dict(clip)}",
            where="optim_wrapper.clip_grad",
            fix="use clip_grad=dict(max_norm=...), or --strategy ddp",
        )
    config["gradient_clipping"] = clip["max_norm"]


def _take_precision(kind: str, asked: Any, config: dict[str, Any]) -> torch.dtype | None:
    """Choose between whole-model precision (DeepSpeed's ``bf16``/``fp16``) and autocast over float32."""
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if config.get(name, {}).get("enabled"):
            return dtype
    if kind not in _MIXED:
        return None
    if kind == "CPUAmpOptimWrapper" or str(asked).rsplit(".", 1)[-1] == "bfloat16":
        return torch.bfloat16
    # float16 needs the loss scaled, which DeepSpeed does for float16 models only.
    config["fp16"] = {"enabled": True, "initial_scale_power": 16}
    return torch.float16


def tidy_groups(optimizer: Optimizer) -> None:
    """Drop frozen parameters and merge groups of equal settings, in place.

    mmengine makes one group per parameter; ZeRO keeps one flat buffer and one collective per group, and
    fails on groups without a trained parameter.
    """
    merged: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        if not trained:
            continue
        settings = {key: value for key, value in group.items() if key not in _NO_IDENTITY}
        into = merged.setdefault(repr(sorted(settings.items())), {**settings, "params": []})
        into["params"] += trained
    if not merged:
        raise ConfigError("every parameter is frozen: there is nothing to train", where="model")
    optimizer.param_groups = list(merged.values())


def plain(node: Any) -> Any:
    """Turn mmengine's config dicts into plain ones: DeepSpeed pickles its config into every checkpoint."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    return node


class UsedParameters:
    """Notes which decaying parameters the loss reaches, up to the first step of the optimiser.

    DeepSpeed gives the others gradients of zero, so that weight decay changes them; other strategies leave
    them as they are.

    Args:
        model: The whole model, before DeepSpeed wraps it.
        optimizer: Its optimiser.
    """

    def __init__(self, model: torch.nn.Module, optimizer: Optimizer) -> None:
        decaying = {
            parameter
            for group in optimizer.param_groups
            if group.get("weight_decay")
            for parameter in group["params"]
        }
        self._unused = {name for name, parameter in model.named_parameters() if parameter in decaying}
        self._hooks = [
            parameter.register_hook(functools.partial(self._note, name))
            for name, parameter in model.named_parameters()
            if name in self._unused
        ]

    def _note(self, name: str, _gradient: torch.Tensor) -> None:
        self._unused.discard(name)

    def warn_unused(self) -> None:
        """Name the parameters that got no gradient on any rank. Every rank must call it."""
        for hook in self._hooks:
            hook.remove()
        unused = sorted(set.intersection(*all_gather_object(self._unused)))
        if unused:
            print_log(
                f"{len(unused)} parameters get no gradient from the loss: {', '.join(unused[:8])}"
                f"{', ...' if len(unused) > 8 else ''}. Under DeepSpeed weight decay shrinks them, other "
                "strategies leave them unchanged. Freeze them, or set their decay_mult to 0 in paramwise_cfg",
                logger="current",
                level=logging.WARNING,
            )


@MODEL_WRAPPERS.register_module(name="rsfoundation.EngineWrapper")
class EngineWrapper(MMDeepSpeedEngineWrapper):
    """mmengine's wrapper, which also logs the norm of clipped gradients and names unused parameters.

    Args:
        model: DeepSpeed's engine.
        used: Watches the first gradients of a model that is trained.
    """

    def __init__(self, *, model: Any, used: UsedParameters | None = None) -> None:
        super().__init__(model=model)
        self._used = used

    def step(self) -> None:
        """Step the engine."""
        last_of_accumulation = self.model.is_gradient_accumulation_boundary()
        self.model.step()
        if self._used is not None and last_of_accumulation:
            self._used.warn_unused()
            self._used = None
        norm = self.model.get_global_grad_norm() if self.model.gradient_clipping() else None
        if norm is not None and self.model.was_step_applied():
            MessageHub.get_current_instance().update_scalar("train/grad_norm", float(norm))


@contextmanager
def keep_buffers_exact(model: torch.nn.Module) -> Iterator[None]:
    """Give data preprocessors and batch norms their float32 buffers back after DeepSpeed cast the model."""
    kept = [
        (module, name, buffer.clone())
        for module in model.modules()
        if isinstance(module, (BaseDataPreprocessor, _BatchNorm))
        for name, buffer in module.named_buffers(recurse=False)
    ]
    yield
    for module, name, buffer in kept:
        module._buffers[name] = buffer.to(module._buffers[name].device)


_DEFAULTS = {
    "zero_allow_untested_optimizer": True,  # its list of tested ones lacks torch's own AdamW and SGD
    "zero_force_ds_cpu_optimizer": False,  # its own host optimiser needs a compiler
    "wall_clock_breakdown": False,
}


@STRATEGIES.register_module()
class DeepSpeedStrategy(ShardingMixin, _DeepSpeedStrategy):
    """Train under ZeRO 1, 2 or 3; checkpoints are folders.

    Clipping, accumulation, mixed precision and the optimiser's groups come from the config's
    ``optim_wrapper``, as in any other run.

    Args:
        config: DeepSpeed's config, a dict or a JSON file; the keywords below go over it.
        zero_optimization: DeepSpeed's section of that name; ``stage`` is what matters.
        bf16: DeepSpeed's section: the whole model in bfloat16, float32 masters in the shards.
        fp16: DeepSpeed's section: the same in float16, with loss scaling.
        exclude_frozen_parameters: Leave frozen parameters out of checkpoints.
        **options: Further sections of DeepSpeed's config, and mmengine's arguments of every strategy.
    """

    def __init__(
        self,
        *,
        config: str | dict[str, Any] | None = None,
        exclude_frozen_parameters: bool = False,
        **options: Any,
    ) -> None:
        if find_spec("deepspeed") is None:
            raise ConfigError(
                "this strategy needs DeepSpeed, which is not installed",
                where="strategy",
                fix="pip install 'rsfoundation[deepspeed]', or use --strategy fsdp",
            )
        if get_device() == "cpu":
            use_cpu_accelerator()
        own = ("work_dir", "experiment_name", "env_kwargs", "log_kwargs", "auto_scale_lr")
        sections = {key: value for key, value in options.items() if key not in own and value is not None}
        # mmengine's own constructor imports a part of DeepSpeed that is gone: go past it.
        super(_DeepSpeedStrategy, self).__init__(**{k: v for k, v in options.items() if k in own})
        self.config = plain({**_DEFAULTS, **self._parse_config(config), **sections})
        self.config.setdefault("steps_per_print", 10**13)  # mmengine logs
        self.exclude_frozen_parameters = exclude_frozen_parameters
        self._inputs_to_half = None
        self._autocast: torch.dtype | None = None
        self._prepared = False

    def prepare(self, model: torch.nn.Module | dict[str, Any], **parts: Any) -> Any:
        """Build the model and shard it; see mmengine's strategy for the arguments."""
        if self._prepared:
            return self._prepared_components()
        self.dispatch_kwargs.update(parts.get("dispatch_kwargs") or {})
        batch = self.dispatch_kwargs.get("train_micro_batch_size_per_gpu", 1)
        self.config["train_micro_batch_size_per_gpu"] = batch
        whole = self._finish_whole(self._init_model_weights(self.build_model(model)))
        wrapper = parts.get("optim_wrapper")
        if wrapper is not None:
            self.optim_wrapper = self.build_optim_wrapper(wrapper, whole)
            self._scale_lr()
        self.model = self._wrap_model(whole)
        if wrapper is not None:
            self.optim_wrapper.model = self.model
        if parts.get("param_scheduler") is not None:
            self.param_schedulers = self.build_param_scheduler(parts["param_scheduler"], self.optim_wrapper)
        self._prepared = True
        return self._prepared_components()

    def build_optim_wrapper(
        self, optim_wrapper: Any, model: torch.nn.Module | None = None
    ) -> BaseOptimWrapper:
        """Build the optimiser of the config's ``optim_wrapper`` in DeepSpeed's terms."""
        if not isinstance(optim_wrapper, dict):
            raise ConfigError(
                "DeepSpeed builds its optimiser from a config, got a built one", where="optim_wrapper"
            )
        self._autocast = take_wrapper_options(optim_wrapper, self.config)
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        tidy_groups(wrapper.optimizer)
        return wrapper

    def _wrap_model(self, model: torch.nn.Module) -> EngineWrapper:
        import deepspeed

        if self._autocast is not None:
            autocast_forward(model, get_device(), self._autocast)
        arguments: dict[str, Any] = {"model": model, "config": self.config}
        used = None
        if hasattr(self, "optim_wrapper"):
            arguments["optimizer"] = self.optim_wrapper.optimizer
            used = UsedParameters(model, self.optim_wrapper.optimizer)
        with keep_buffers_exact(model):
            engine, optimizer, *_ = deepspeed.initialize(**arguments)
        if hasattr(self, "optim_wrapper"):
            self.optim_wrapper.optimizer = optimizer
        read_safely(engine)
        return EngineWrapper(model=engine, used=used)

    def shards(self) -> dict[str, torch.Tensor]:
        """Return this rank's float32 masters, one flat tensor per ZeRO group."""
        return {str(index): master for index, master in enumerate(read_masters(self.model.optimizer))}

    def publish_shards(self) -> None:
        """Copy the masters into the model and gather what ZeRO keeps gathered."""
        publish_masters(self.model.optimizer)

    def _state(self, optimizer: bool) -> dict[str, Any]:
        """Return the optimiser's part; the float32 masters lie in its files, so it is always there."""
        return {"optim_wrapper": self.optim_state_dict()} if hasattr(self, "optim_wrapper") else {}

    def _write(self, content: dict[str, Any], target: Path) -> None:
        """Write a folder."""
        averaged = content.pop("ema_shards", None)
        self.model.save_checkpoint(
            str(target.parent),
            tag=target.name,
            client_state=content,
            save_latest=False,
            exclude_frozen_parameters=self.exclude_frozen_parameters,
        )
        if averaged is not None:
            averaged["groups"] = save_form(self.model.optimizer, averaged["groups"])
            torch.save(averaged, target / f"ema_rank_{self.rank}.pt")

    def load_checkpoint(self, filename: str, **options: Any) -> dict[str, Any]:
        """Load the weights of a checkpoint folder."""
        return self._load(filename, optimizer=False, callback=options.get("callback"))

    def resume(
        self,
        filename: str,
        *,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = "default",
        callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Go on from a checkpoint folder of any number of ranks and any stage."""
        content = self._load(filename, optimizer=resume_optimizer, callback=callback)
        if resume_optimizer and "optim_wrapper" in content:
            self.load_optim_state_dict(content.pop("optim_wrapper"))
        if resume_param_scheduler and hasattr(self, "param_schedulers"):
            self.load_scheduler_state_dict(content.pop("param_schedulers"))
        return content

    def _load(
        self, filename: str, optimizer: bool, callback: Callable[[dict[str, Any]], None] | None
    ) -> dict[str, Any]:
        folder = Path(filename)
        self.logger.info(f"Load checkpoint from {folder}")
        if not folder.is_dir():
            raise CheckpointError(
                "a run under DeepSpeed resumes from a checkpoint folder, this is none",
                where=folder,
                fix="start from the weights of a .pth file with load_from and without --resume",
            )
        if not is_cut_alike(self.model.model, folder):
            content = resume_from_other_ranks(self.model.model, folder)
            if callback is not None:
                callback(content)
            return content
        _, content = self.model.load_checkpoint(
            str(folder.parent),
            tag=folder.name,
            load_optimizer_states=optimizer,
            load_module_strict=not self.exclude_frozen_parameters,
        )
        if content is None:
            raise CheckpointError("DeepSpeed found no checkpoint in the folder", where=folder)
        averaged = folder / f"ema_rank_{dist.get_rank()}.pt"
        if averaged.is_file():
            content["ema_shards"] = self.model.checkpoint_engine.load(str(averaged), map_location="cpu")
        if callback is not None:
            callback(content)
        return content
