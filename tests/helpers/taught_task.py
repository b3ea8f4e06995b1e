"""The tiny task with a model that can be distilled: of any width, without norms, losses in a method."""

import torch
from tiny_task import TinyNet, write_config

from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.registry import MODELS

EXTRA = """
custom_imports = dict(imports=['tiny_task', 'taught_task'], allow_failed_imports=False)
model = dict(type='rsfoundation.TaughtNet', width={width})
train_dataloader['batch_size'] = 4
train_cfg = dict(by_epoch=True, max_epochs={epochs}, val_interval=1)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.01))
"""
STUDENT = """
distill = dict(
    teacher_checkpoint={teacher!r},
    losses=[dict(type='FeatureImitation', module='body', loss='channel', channels=(4, 8), weight=10.0)])
"""


@MODELS.register_module()
class TaughtNet(TinyNet):
    def __init__(self, width=4, data_preprocessor=None):
        super().__init__(width=width)
        self.data_preprocessor = MODELS.build(
            data_preprocessor or dict(type="mmengine.ImgDataPreprocessor", mean=[90.0] * 3, std=[60.0] * 3)
        )
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.Sigmoid())

    def loss(self, inputs, data_samples):
        labels = torch.tensor([sample.label for sample in data_samples], device=inputs.device)
        return dict(loss_side=torch.nn.functional.cross_entropy(self._logits(inputs), labels))

    def forward(self, inputs, data_samples=None, mode="tensor"):
        if mode == "loss":
            return self.loss(inputs, data_samples)
        logits = self._logits(inputs)
        if mode == "tensor":
            return logits
        for sample, row in zip(data_samples, logits, strict=True):
            sample.set_field(int(row.argmax()), "prediction", field_type="metainfo")
        return data_samples

    def _logits(self, inputs):
        return self.head(self.body(inputs).flatten(1))


def trained_teacher(folder):
    """Train a teacher of twice the width; return its run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = write_config(folder, EXTRA.format(width=8, epochs=2))
    return train(config, RunOptions(folder / "run", device="cpu", seed=1)).work_dir


def student_config(folder, teacher, extra="", epochs=2):
    """Write the config of a student; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    taught = STUDENT.format(teacher=str(teacher))
    return write_config(folder, EXTRA.format(width=4, epochs=epochs) + taught + extra)
