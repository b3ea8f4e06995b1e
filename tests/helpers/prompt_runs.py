"""Runs of small prompt models on toy scenes through the command line."""

from mmengine.config import Config
from prompt_models import CLASSES, SIZE
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.engine.config import config_root
from rsfoundation.prepare.toy.make import make_toy_scenes

NAMES = ("large-vehicle", "ship")
assert len(NAMES) == CLASSES


def rsf(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def toy_scenes(folder):
    """Make two scenes to train, two to validate and a large one."""
    counts = dict(train=2, val=2)
    make_toy_scenes(folder / "toy", size=96, counts=counts, large_size=(96, 96), tasks=["instance"])


def write_config(folder, model, rate=1e-4, name="config.py", **keys):
    """Write a config of two classes, two scenes and one epoch."""
    parts = [f"_base_/{part}.py" for part in ("datasets/toy_instance", "runtime/default")]
    cfg = Config()
    for part in parts:
        cfg.merge_from_dict(Config.fromfile(config_root() / part).to_dict())
    for split in ("train", "val", "test"):
        dataset = cfg[f"{split}_dataloader"].dataset
        dataset.update(data_root=f"{folder}/toy/instance", metainfo=dict(classes=NAMES))
        for step in dataset.pipeline:
            if step.type == "Resize":
                step.scale = (SIZE, SIZE)
    cfg.train_dataloader.update(batch_size=1)
    cfg.merge_from_dict(
        dict(
            default_scope="mmdet",
            task=dict(type="rsfoundation.InstanceSegmentation"),
            model=model,
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=rate)),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1),
            val_cfg=dict(type="ValLoop"),
            test_cfg=dict(type="TestLoop"),
            default_hooks=dict(logger=dict(interval=1)),
            predict=dict(window=SIZE, overlap=16),
            **keys,
        )
    )
    cfg.dump(folder / name)
