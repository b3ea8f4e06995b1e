"""Several heads on one backbone: what it saves, and that results stay the same."""

import json

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.inference.model import WindowModel, share_backbone
from rsfoundation.inference.predict import PredictOptions, predict_scenes
from rsfoundation.io.images import write_rgb

CONFIGS = ("quickstart/segmentation_toy_lsknet_t", "quickstart/change_toy_lsknet_t")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Segmentation and change heads with random weights on the same backbone weights."""
    folder = tmp_path_factory.mktemp("heads")
    backbone, files = None, []
    for config, names in zip(
        CONFIGS, (("a", "b", "c", "d", "e", "f"), ("unchanged", "changed")), strict=True
    ):
        cfg = load_config(config)
        init_default_scope(cfg.default_scope)
        torch.manual_seed(len(files))
        network = MODELS.build(cfg.model)
        backbone = backbone or {k: v.clone() for k, v in network.backbone.state_dict().items()}
        network.backbone.load_state_dict(backbone)
        palette = [(i, i, i) for i in range(len(names))]
        file = folder / f"{config.rsplit('/')[-1]}" / "random.pth"
        file.parent.mkdir()
        torch.save(
            dict(
                state_dict=network.state_dict(), meta=dict(dataset_meta=dict(classes=names, palette=palette))
            ),
            file,
        )
        files.append(file)
    return files


@pytest.fixture
def scenes(tmp_path):
    import numpy as np

    rng = np.random.default_rng(0)
    files = [tmp_path / "before.png", tmp_path / "after.png"]
    for file in files:
        write_rgb(file, rng.integers(0, 255, (64, 128, 3), np.uint8))
    return files


def load(checkpoints):
    return [WindowModel(file, config, "cpu") for file, config in zip(checkpoints, CONFIGS, strict=True)]


def test_the_backbone_sees_every_date_once(checkpoints, scenes, tmp_path):
    options = PredictOptions(window=64, overlap=0, formats=("json",), picture=False)
    models = load(checkpoints)
    (apart,) = predict_scenes(models[1:], scenes, tmp_path / "change", options)
    (alone,) = predict_scenes(models[:1], scenes[1:], tmp_path / "segmentation", options)
    shared = share_backbone(models)
    (joint,) = predict_scenes(models, scenes, tmp_path / "joint", options)
    assert (shared.runs, shared.asked) == (4, 6)  # two windows of two dates; three uses of each window
    expected = {f"change: {key}": value for key, value in apart.summary.items()}
    expected |= {f"segmentation: {key}": value for key, value in alone.summary.items()}
    assert joint.summary == expected
    found = sorted(path.relative_to(tmp_path / "joint") for path in joint.files)
    assert [path.parts for path in found] == [
        ("change_toy_lsknet_t", "before.json"),
        ("segmentation_toy_lsknet_t", "before.json"),
    ]
    for path, folder, name in zip(found, ("change", "segmentation"), ("before", "after"), strict=True):
        assert json.loads((tmp_path / "joint" / path).read_text()) == json.loads(
            (tmp_path / folder / f"{name}.json").read_text()
        )


def test_other_backbones_are_refused(checkpoints):
    models = load(checkpoints)
    with torch.no_grad():
        next(models[1].network.backbone.parameters()).add_(1e-3)
    with pytest.raises(ConfigError, match="backbones of two models differ"):
        share_backbone(models)
