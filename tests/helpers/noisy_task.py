"""A tiny task that draws random numbers wherever training can: in workers and model, of every generator."""

import random
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from tiny_task import TinyNet, TinySides, write_config

from rsfoundation.registry import DATASETS, HOOKS, MODELS


@DATASETS.register_module()
class NoisySides(TinySides):
    def prepare_data(self, index):
        sample = super().prepare_data(index)
        gain = 1 + 0.2 * random.random()
        noise = (
            np.random.normal(0, 20, sample["inputs"].shape) + 20 * torch.rand(sample["inputs"].shape).numpy()
        )
        sample["inputs"] = sample["inputs"] * gain + torch.from_numpy(noise).float()
        return sample


@MODELS.register_module()
class DropNet(TinyNet):
    def __init__(self, **options):
        super().__init__(**options)
        self.body.append(torch.nn.Dropout(0.3))


class Stopped(Exception):
    """What a run ends with in the middle."""


@HOOKS.register_module()
class StopAt(Hook):
    priority = "LOWEST"

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iteration:
            raise Stopped


EXTRA = """
custom_imports = dict(imports=['tiny_task', 'noisy_task'], allow_failed_imports=False)
model = dict(type='rsfoundation.DropNet', norm_cfg=dict(type='SyncBN'))
train_dataloader['dataset']['type'] = 'rsfoundation.NoisySides'
train_dataloader['num_workers'] = {workers}
train_dataloader['sampler']['type'] = '{sampler}'
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=9),
                   dict(type='StepLR', by_epoch=True, step_size=1, gamma=0.9)]
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
train_cfg = {train_cfg}
default_hooks = dict(logger=dict(type='LoggerHook', interval=4), checkpoint=dict(
    type='CheckpointHook', by_epoch=False, interval={every}, save_best='accuracy', rule='greater',
    max_keep_ckpts=2))
"""

LOOPS = {
    "epoch": (dict(by_epoch=True, max_epochs=3, val_interval=1), "DefaultSampler"),
    "iter": (dict(by_epoch=False, max_iters=18, val_interval=5), "InfiniteSampler"),
    "iter over epochs": (dict(by_epoch=False, max_iters=18, val_interval=7), "DefaultSampler"),
}


def noisy_config(folder, loop="epoch", workers=0, every=4, **changes):
    """Write the data and a config of 18 iterations of 4 samples; return the config file."""
    train_cfg, sampler = LOOPS[loop]
    folder.mkdir(parents=True, exist_ok=True)
    extra = EXTRA.format(workers=workers, sampler=sampler, train_cfg={**train_cfg, **changes}, every=every)
    return write_config(folder, extra)


def stopping(config: Path, iteration: int) -> Path:
    """Write a config that ends in the middle."""
    file = config.with_name("stopping.py")
    file.write_text(
        config.read_text() + f"\ncustom_hooks += [dict(type='rsfoundation.StopAt', iteration={iteration})]\n"
    )
    return file


def same(one, two, path=""):
    """Return the paths at which two nested values of tensors and numbers differ in a bit."""
    if isinstance(one, dict):
        keys = sorted(set(one) | set(two), key=str)
        return [d for k in keys for d in same(one.get(k), two.get(k), f"{path}.{k}")]
    if isinstance(one, (list, tuple)) and isinstance(two, (list, tuple)) and len(one) == len(two):
        return [d for i, (a, b) in enumerate(zip(one, two, strict=True)) for d in same(a, b, f"{path}[{i}]")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if torch.equal(one, two) else [path]
    return [] if one == two else [path]


def differences(one, two):
    """Compare all that two checkpoints keep: weights, averages, optimiser, generators, place, best score."""
    from rsfoundation.io.checkpoints import read_checkpoint

    parts = []
    for file in (one, two):
        content = read_checkpoint(file)
        part = {
            key: content[key] for key in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers")
        }
        part["resume"] = content["meta"]["resume"]
        part["best"] = content["message_hub"]["runtime_info"].get("best_score")
        parts.append(part)
    return same(*parts)
