"""A complete task in sixty lines, for engine tests: is the left half of an 8 x 8 image brighter?

Registered like any task of a user's project, it also proves that the engine needs no edit for one.
"""

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from rsfoundation.core.task import Draws, Evaluates, PredictsScenes, Task
from rsfoundation.io.images import write_rgb
from rsfoundation.registry import DATASETS, METRICS, MODELS, TASKS


@DATASETS.register_module()
class TinySides(BaseDataset):
    METAINFO = dict(classes=("right", "left"), palette=[(255, 0, 0), (0, 255, 0)])

    def load_data_list(self):
        folder = Path(self.data_root)
        return [
            dict(img_path=str(folder / name), label=label)
            for name, label in json.loads((folder / "labels.json").read_text())
        ]

    def prepare_data(self, index):
        from rsfoundation.io.images import read_rgb

        info = self.get_data_info(index)
        image = torch.from_numpy(read_rgb(info["img_path"])).permute(2, 0, 1)
        sample = BaseDataElement(metainfo=dict(img_path=info["img_path"], label=info["label"]))
        return dict(inputs=image, data_samples=sample)


@MODELS.register_module()
class TinyNet(BaseModel):
    def __init__(self, norm_cfg=None, width=4):
        super().__init__(data_preprocessor=dict(type="mmengine.BaseDataPreprocessor"))
        self.norm_cfg = norm_cfg
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3, padding=1), torch.nn.BatchNorm2d(width), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(width * 64, 2)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        x = torch.stack(inputs) if isinstance(inputs, (list, tuple)) else inputs
        logits = self.head(self.body(x.float() / 255).flatten(1))
        if mode == "loss":
            labels = torch.tensor([sample.label for sample in data_samples], device=logits.device)
            return dict(loss=torch.nn.functional.cross_entropy(logits, labels))
        for sample, row in zip(data_samples, logits, strict=True):
            sample.set_field(int(row.argmax()), "prediction", field_type="metainfo")
        return data_samples


@METRICS.register_module()
class TinyAccuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [int(sample["prediction"] == sample["label"]) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(accuracy=float(np.mean(results)), count=len(results))


class _Sides:
    def __init__(self):
        self.found = []

    def add(self, window, sample):
        self.found.append((window, sample.prediction))

    def result(self):
        return self

    def summary(self):
        return dict(windows=len(self.found), left=sum(side for _, side in self.found))


@TASKS.register_module()
class TinyTask(Task, Evaluates, Draws, PredictsScenes):
    """Which half is brighter."""

    name = "tiny"
    metric_names = {"accuracy": "accuracy"}
    primary_metric = "accuracy"
    writers = {"json": lambda result, path: path.write_text(json.dumps(result.summary()))}

    def window_input(self, crops):
        image = torch.from_numpy(np.ascontiguousarray(crops[0][..., ::-1])).permute(2, 0, 1)
        return dict(inputs=image, data_samples=BaseDataElement())

    def accumulator(self, height, width, classes, score_threshold, options=None):
        return _Sides()

    def draw_truth(self, images, sample, classes):
        return images[0]

    def draw_result(self, images, result, classes):
        return images[0]

    def draw_comparison(self, images, sample, classes):
        return np.hstack([images[0], images[0]])

    def image_paths(self, sample):
        return [sample.img_path]


def make_data(folder: Path, count: int = 24) -> Path:
    """Write ``count`` images and labels."""
    rng = np.random.default_rng(0)
    labels = []
    for index in range(count):
        side = index % 2
        image = rng.integers(0, 90, (8, 8, 3), np.uint8)
        image[:, slice(0, 4) if side else slice(4, 8)] += 120
        write_rgb(folder / f"{index:03d}.png", image)
        labels.append((f"{index:03d}.png", side))
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder


CONFIG = """# Tiny task for engine tests
custom_imports = dict(imports=['tiny_task'], allow_failed_imports=False)
default_scope = 'mmengine'
task = dict(type='rsfoundation.TinyTask')
model = dict(type='rsfoundation.TinyNet', norm_cfg=dict(type='SyncBN'))
data = dict(type='rsfoundation.TinySides', data_root={root!r})
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(pipeline=[], **data),
                        sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(pipeline=[], **data),
                      sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='rsfoundation.TinyAccuracy')
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
default_hooks = dict(logger=dict(type='LoggerHook', interval=2),
                     checkpoint=dict(type='CheckpointHook', interval=1, save_best='accuracy', rule='greater'))
"""


def write_config(folder: Path, extra: str = "") -> Path:
    """Write data and config into ``folder``; return the config file."""
    make_data(folder / "data")
    file = folder / "tiny.py"
    file.write_text(CONFIG.format(root=str(folder / "data")) + extra)
    return file
