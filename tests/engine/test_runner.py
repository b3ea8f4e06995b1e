"""Classes of a model come from its checkpoint, else from the config's data; both are compared in training."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import build_task, checkpoint_classes
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import predict
from rsfoundation.io.checkpoints import read_checkpoint, write_safetensors
from rsfoundation.io.images import write_rgb


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from tiny_task import write_config

    config = write_config(tmp_path_factory.mktemp("tiny"), "predict = dict(window=8, overlap=0)\n")
    return train(config, RunOptions(config.parent / "run", device="cpu")).work_dir


def old_style(state, meta):
    """What mmcv 1.x wrote from a distributed run."""
    return {"meta": meta, "state_dict": {f"module.{key}": value for key, value in state.items()}}


@pytest.mark.parametrize("kind", ["safetensors", "bare", "mmcv 1.x", "run"])
def test_prediction_from_weights_without_metadata(run, tmp_path, caplog, kind):
    from mmengine.logging import MMLogger

    state = read_checkpoint(run / "epoch_4.pth")["state_dict"]
    file = tmp_path / "weights.pth"
    if kind == "safetensors":
        file = write_safetensors(state, tmp_path / "weights.safetensors")
    elif kind == "mmcv 1.x":
        torch.save(
            old_style(state, {"CLASSES": ("first", "second"), "PALETTE": [(1, 2, 3), (4, 5, 6)]}), file
        )
    else:
        torch.save(state, file)
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    model = WindowModel(run if kind == "run" else file, config=run / "config.py", device="cpu")
    logger.removeHandler(caplog.handler)
    expected = ("first", "second") if kind == "mmcv 1.x" else ("right", "left")
    assert model.classes.names == expected
    if kind == "mmcv 1.x":
        assert model.classes.palette == ((1, 2, 3), (4, 5, 6))
    said = "names no classes; those of the config's test data are used: right, left" in caplog.text
    assert said == (kind in ("safetensors", "bare"))
    write_rgb(tmp_path / "scene.png", np.zeros((8, 16, 3), np.uint8))
    (done,) = predict(model, [tmp_path / "scene.png"], tmp_path / "out")
    assert done.windows == 2


def test_data_are_not_read_for_their_classes(tmp_path):
    data = dict(
        type="rsfoundation.DOTADataset", data_root=str(tmp_path / "nowhere"), version="1.5", pipeline=[]
    )
    cfg = Config(dict(test_dataloader=dict(dataset=data), task=dict(type="rsfoundation.OrientedDetection")))
    build_task(cfg)
    assert len(checkpoint_classes({}, cfg).names) == 16


@pytest.mark.parametrize("way", ["load_from", "resume"])
def test_a_checkpoint_of_the_same_classes_in_another_order_does_not_train_on(run, tmp_path, way):
    content = read_checkpoint(run / "epoch_4.pth")
    content["meta"]["dataset_meta"]["classes"] = ("left", "right")
    torch.save(content, tmp_path / "swapped.pth")
    swapped = str(tmp_path / "swapped.pth")
    options = RunOptions(
        tmp_path / "run",
        resume=swapped if way == "resume" else None,
        device="cpu",
        overrides=() if way == "resume" else (f"load_from={swapped}",),
    )
    with pytest.raises(ConfigError, match="the checkpoint: left, right; the training data: right, left"):
        train(run.parent / "tiny.py", options)
