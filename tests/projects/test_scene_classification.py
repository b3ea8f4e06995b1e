"""A fifth task runs through the same engine without an edit in the package."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from locations import ROOT

from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import predict
from rsfoundation.io.images import write_rgb

PROJECT = ROOT / "projects" / "scene_classification"


@pytest.fixture
def scenes(tmp_path):
    """Two classes that differ in colour."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name, colour in (("field", (60, 140, 50)), ("water", (30, 60, 110))):
            for index in range(8):
                noise = rng.integers(-20, 20, (64, 64, 3))
                image = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                write_rgb(tmp_path / "scenes" / split / name / f"{index}.png", image)
    return tmp_path / "scenes"


def test_the_project_trains_tests_and_predicts(scenes, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT))
    monkeypatch.delitem(sys.modules, "scene_classification", raising=False)
    overrides = [
        f"{split}_dataloader.dataset.{key}={value}"
        for split in ("train", "val", "test")
        for key, value in (("data_root", scenes / ("train" if split == "train" else "val")), ("size", 64))
    ]
    overrides += [f"{split}_dataloader.num_workers=0" for split in ("train", "val", "test")]
    overrides += [
        "train_dataloader.batch_size=8",
        "train_cfg.max_epochs=4",
        "train_cfg.val_interval=4",
        "model.backbone.init_cfg=None",
    ]
    config = PROJECT / "configs" / "lsknet_t_scenes.py"
    options = RunOptions(tmp_path / "run", device="cpu", seed=0)
    train(load_config(config, overrides), options)
    tested = run_test(load_config(config, overrides), None, options, pictures=2)
    assert set(tested.metrics) == {"accuracy"} and tested.task == "scene"
    assert len(list(Path(tested.pictures).glob("*.png"))) == 2
    image = scenes / "val" / "field" / "0.png"
    (done,) = predict(WindowModel(tmp_path / "run", device="cpu"), [image], tmp_path / "out")
    assert set(json.loads((tmp_path / "out" / "0.json").read_text())) == {"field", "water"}
    assert done.summary["class"] in ("field", "water")
