"""A network with everything that sharding can get wrong, and its config."""

from pathlib import Path

import tiny_task
import torch
from mmengine.model import BaseModel, Sequential

from rsfoundation.registry import MODELS


@MODELS.register_module()
class ShardedNet(BaseModel):
    """Tied, frozen and odd-sized parameters, float and integer buffers; no batch statistics.

    Adapters go into ``body``, which starts from the file ``base`` where that is given; then all that is
    frozen is in it.
    """

    def __init__(self, base=None, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor or dict(type="mmengine.BaseDataPreprocessor"))
        self.stem = torch.nn.Conv2d(3, 5, 3, padding=1)
        self.stem.bias.requires_grad_(base is not None)
        self.norm = torch.nn.GroupNorm(1, 5)
        self.first = torch.nn.Linear(5, 5)
        self.second = torch.nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.frozen = torch.nn.Linear(7, 3)
        self.frozen.requires_grad_(base is not None)
        start = None if base is None else dict(type="Pretrained", checkpoint=base)
        self.body = Sequential(torch.nn.Linear(5, 7), torch.nn.GELU(), torch.nn.Linear(7, 5), init_cfg=start)
        self.head = torch.nn.Linear(5 * 64, 2)
        self.register_buffer("offset", torch.linspace(-0.1, 0.1, 5))
        self.register_buffer("seen", torch.tensor(3, dtype=torch.int64))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        x = self.norm(self.stem(x.float() / 255)) * self.scale + self.offset.view(1, 5, 1, 1)
        x = torch.relu(self.second(torch.relu(self.first(x.permute(0, 2, 3, 1)))))
        logits = self.head((x + self.body(x)).flatten(1)) + self.frozen.weight.sum() * 0
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples], device=logits.device)
            return dict(loss=torch.nn.functional.cross_entropy(logits.float(), labels))
        for sample, row in zip(data_samples, logits, strict=True):
            sample.set_field(int(row.argmax()), "prediction", field_type="metainfo")
        return data_samples


_CHANGES = """
custom_imports = dict(imports=['tiny_task', 'sharded_parts'], allow_failed_imports=False)
model = dict(_delete_=True, type='rsfoundation.ShardedNet')
train_dataloader = dict(batch_size=4, sampler=dict(shuffle=False))
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-2, weight_decay=0.05),
    clip_grad=dict(max_norm=0.5),
    paramwise_cfg=dict(
        bypass_duplicate=True, norm_decay_mult=0.0, bias_decay_mult=0.0,
        custom_keys=dict(stem=dict(lr_mult=0.1))))
param_scheduler = [dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=4)]
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None, rule=None))
"""


def write_config(folder: Path) -> Path:
    """Write data and config; return the config file."""
    tiny_task.write_config(folder)
    torch.manual_seed(3)
    torch.save(ShardedNet().body.state_dict(), folder / "base.pth")
    file = folder / "sharded.py"
    file.write_text("_base_ = ['tiny.py']\n" + _CHANGES)
    return file
