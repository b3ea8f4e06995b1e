"""Networks on which training strategies could differ: a steep loss, batch norm, a parameter without use."""

from pathlib import Path

import tiny_task
import torch
from mmengine.model import BaseModel

from rsfoundation.registry import MODELS


class _Base(BaseModel):
    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor or dict(type="mmengine.BaseDataPreprocessor"))


@MODELS.register_module()
class SteepNet(_Base):
    """A loss that is linear in one weight: its gradient has the norm 10 in every step."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.weight = torch.nn.Parameter(torch.zeros(4))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return dict(loss=5 * self.weight.sum() + 1000)


class _Stage(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)


@MODELS.register_module()
class NestedNet(_Base):
    """Lists of blocks inside blocks of a list; containers that are never called."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        torch.manual_seed(0)
        pairs = [torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)) for _ in range(2)]
        self.blocks = torch.nn.Sequential(*pairs)
        self.stages = torch.nn.ModuleList(_Stage() for _ in range(2))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = self.blocks(torch.ones(1, 3))
        for stage in self.stages:
            x = stage.layer(x)
        return dict(loss=x.square().mean())


@MODELS.register_module()
class UnusedNet(_Base):
    """Two parameters that the loss does not reach, one of them without weight decay (a bias)."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.used = torch.nn.Linear(1, 1)
        self.extra = torch.nn.Linear(2, 2)
        torch.nn.init.ones_(self.extra.weight)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return dict(loss=self.used(torch.ones(1, 1)).square().mean())


@MODELS.register_module()
class NormNet(_Base):
    """A backbone with batch norm, or a convolution with one, and a linear head."""

    def __init__(self, backbone=None, data_preprocessor=None):
        super().__init__(data_preprocessor)
        conv = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8))
        self.backbone = conv if backbone is None else MODELS.build(backbone)
        self.head = torch.nn.Linear(8 if backbone is None else self.backbone.out_channels[-1], 2)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        x = torch.nn.functional.interpolate(x.float() / 255, size=(32, 32))
        x = self.backbone(x.to(next(self.backbone.parameters()).dtype))
        logits = self.head((x[-1] if isinstance(x, tuple) else x).mean((2, 3)))
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples])
            return dict(loss=torch.nn.functional.cross_entropy(logits.float(), labels))
        for sample, row in zip(data_samples, logits, strict=True):
            sample.set_field(int(row.argmax()), "prediction", field_type="metainfo")
        return data_samples


_CHANGES = """
custom_imports = dict(imports=['tiny_task', 'strategy_nets'], allow_failed_imports=False)
train_dataloader = dict(batch_size=4, sampler=dict(shuffle=False))
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
param_scheduler = []
train_cfg = dict(max_epochs=2)
val_dataloader = val_evaluator = val_cfg = None
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None, rule=None))
"""


def write_config(folder: Path) -> Path:
    """Write data and config; return the config file. ``model`` is set by each scenario."""
    tiny_task.write_config(folder)
    file = folder / "nets.py"
    file.write_text("_base_ = ['tiny.py']\n" + _CHANGES)
    return file


def replaced(name, **options):
    """Return what sets the model in a scenario."""
    return {"model": dict(_delete_=True, type=f"rsfoundation.{name}", **options)}
