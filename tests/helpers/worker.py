"""Runs on every rank: train each scenario of ``scenarios.json`` and write what came out.

For ``NAME`` the first rank writes ``NAME.json`` (mean loss over ranks per iteration) and ``NAME.pth`` (the
whole weights as the live model holds them: float32 masters where there are any), and ``NAME.average.pth``
where averages are sharded. A scenario is
``{"strategy": ..., "options": [...], "resume": ..., "ema": ..., "run": ..., "config": ..., "alike": ...,
"set": {...}, "stop": ...}``; ``set`` is merged into the config, ``stop`` is an iteration to end at.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from forks import on_ranks, preload
from mmengine.hooks import Hook
from noisy_task import Stopped

from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.registry import HOOKS


@HOOKS.register_module(force=True)
class Watch(Hook):
    """Writes losses and, at the end, the whole weights."""

    priority = "LOWEST"

    def __init__(self, name):
        self.name, self.losses = name, []

    def before_train(self, runner):
        """Count how often a module that is recomputed runs."""
        self.calls = 0
        for name in runner.cfg.get("activation_checkpointing") or ():
            network = getattr(runner.model, "module", runner.model)
            network.get_submodule(f"{name}.0").register_forward_pre_hook(self.count)

    def count(self, module, inputs):
        self.calls += module.training

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        loss = outputs["loss"].detach().float().clone()
        if dist.is_initialized():
            dist.all_reduce(loss)
            loss /= dist.get_world_size()
        self.losses.append(float(loss))

    def after_train(self, runner):
        if runner.rank == 0:
            Path(f"{self.name}.json").write_text(json.dumps(self.losses))
            Path(f"{self.name}.calls.json").write_text(json.dumps(self.calls))
        self.save(runner, f"{self.name}.pth")
        for hook in runner.hooks:
            if type(hook).__name__ == "ShardedEMAHook":
                hook._swap_ema_parameters()
                self.save(runner, f"{self.name}.average.pth")
                hook._swap_ema_parameters()

    def save(self, runner, file):
        strategy = getattr(runner, "strategy", None)
        if type(strategy).__name__ == "DeepSpeedStrategy":
            weights = gathered(runner.model.model)
        elif strategy is not None:
            weights = strategy.model_state_dict()
        else:
            model = runner.model.module if hasattr(runner.model, "module") else runner.model
            weights = model.state_dict()
        if runner.rank == 0:
            torch.save({key: value.detach().cpu().clone() for key, value in weights.items()}, file)


def gathered(engine):
    """Gather the weights of a DeepSpeed engine, masters in float32, by its own means."""
    import deepspeed
    from deepspeed.utils import safe_get_full_fp32_param

    state = {}
    for name, parameter in engine.module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            state[name] = safe_get_full_fp32_param(parameter).clone()
        else:
            with deepspeed.zero.GatheredParameters([parameter]):
                state[name] = parameter.detach().float().clone()
    # data preprocessors keep their mean outside the state dict
    kept = engine.module.state_dict()
    state.update({name: buffer for name, buffer in engine.module.named_buffers() if name in kept})
    return state


def run(name, scenario, config):
    """Train one scenario in this process, with whatever ranks there are."""
    options = RunOptions(
        work_dir=Path(scenario.get("run", name)),
        resume=scenario.get("resume"),
        device="cpu",
        seed=1,
        launcher="pytorch" if "RANK" in os.environ else "none",
        overrides=(f"experiment_name={name}", *scenario.get("options", [])),
        strategy=scenario.get("strategy"),
    )
    cfg = load_config(scenario.get("config", config), options.overrides)
    cfg.merge_from_dict(scenario.get("set", {}))
    if "alike" in scenario:
        from alike import make_alike

        make_alike(cfg, **scenario["alike"])
    cfg.custom_hooks = [dict(type="rsfoundation.Watch", name=str(Path(name).resolve()))]
    if scenario.get("ema"):
        cfg.custom_hooks.append(dict(type="EMAHook", momentum=0.2))
    if "stop" in scenario:
        cfg.custom_hooks.append(dict(type="rsfoundation.StopAt", iteration=scenario["stop"]))
    with contextlib.suppress(Stopped):
        train(cfg, options)


def run_all(config):
    """Train every scenario on this rank."""
    for name, scenario in json.loads(Path("scenarios.json").read_text()).items():
        run(name, scenario, config)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    preload()
    if "RANK" in os.environ:  # a rank of torchrun's
        run_all(sys.argv[1])
    else:
        on_ranks(int(sys.argv[2]), run_all, sys.argv[1])
