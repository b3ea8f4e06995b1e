"""Every kind of prompt model goes the whole way on toy scenes: train, test, predict."""

import json

import pytest
from mmengine.config import Config
from prompt_models import CLASSES, SIZE, anchor, query, sam_det
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.engine.config import config_root
from rsfoundation.prepare.toy.make import make_toy_scenes

MODELS = {
    "RSPrompterAnchor": anchor,
    "RSPrompterQuery": query,
    "SAMSegMask2Former": lambda: query("sam_seg_mask2former"),
    "SAMDet": sam_det,
}
NAMES = ("large-vehicle", "ship")


def rsf(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def write_config(folder, model):
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
            optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-4)),
            train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1, val_interval=1),
            val_cfg=dict(type="ValLoop"),
            test_cfg=dict(type="TestLoop"),
            default_hooks=dict(logger=dict(interval=1)),
            predict=dict(window=SIZE, overlap=16),
        )
    )
    cfg.dump(folder / "config.py")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_train_test_and_predict(tmp_path, name):
    make_toy_scenes(
        tmp_path / "toy", size=96, counts=dict(train=2, val=2), large_size=(96, 96), tasks=["instance"]
    )
    assert len(NAMES) == CLASSES
    model = MODELS[name]()
    assert model.type.endswith(name)
    write_config(tmp_path, model)
    run = tmp_path / "run"
    rsf("train", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    losses = [row["loss"] for row in json.loads((run / "metrics.json").read_text())["train"]]
    assert losses and all(value > 0 for value in losses)
    rsf("test", tmp_path / "config.py", "--work-dir", run, "--device", "cpu")
    metrics = json.loads((run / "test.json").read_text())["metrics"]
    assert {"bbox_mAP50", "segm_mAP50"} <= metrics.keys()
    scene = next((tmp_path / "toy/instance/large").glob("*.png"))
    rsf("predict", scene, "--model", run, "-o", tmp_path / "found", "--device", "cpu", "--score", "0")
    (found,) = (tmp_path / "found").glob(f"{scene.stem}*.json")
    assert json.loads(found.read_text())
