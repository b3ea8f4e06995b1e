"""DeepSpeed's ZeRO stages as an mmengine strategy, with current DeepSpeed, on CPU and CUDA."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy.deepspeed import DeepSpeedStrategy as _DeepSpeedStrategy
from mmengine.device import get_device
from mmengine.optim import BaseOptimWrapper

from rsfoundation.engine.strategies.base import ShardingMixin
from rsfoundation.engine.strategies.deepspeed_config import plain, take_wrapper_options, tidy_groups
from rsfoundation.engine.strategies.deepspeed_engine import EngineWrapper, autocast_forward, keep_images_exact
from rsfoundation.engine.strategies.other_ranks import is_cut_alike, resume_from_other_ranks
from rsfoundation.engine.strategies.safe_engine import read_safely
from rsfoundation.engine.strategies.zero_shards import publish_masters, read_masters, save_form
from rsfoundation.errors import CheckpointError, ConfigError
from rsfoundation.registry import STRATEGIES

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
                cure="pip install 'rsfoundation[deepspeed]', or use --strategy fsdp",
            )
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
        with keep_images_exact(model):
            if hasattr(self, "optim_wrapper"):
                arguments["optimizer"] = self.optim_wrapper.optimizer
            engine, optimizer, *_ = deepspeed.initialize(**arguments)
        if hasattr(self, "optim_wrapper"):
            self.optim_wrapper.optimizer = optimizer
        read_safely(engine)
        return EngineWrapper(model=engine)

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
                cure="start from the weights of a .pth file with load_from and without --resume",
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
