"""Prediction of scenes in several forms: windows flipped and resized, merged into one result."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.engine.config import load_config
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, open_scene, predict_scene
from rsfoundation.io.images import read_rgb, write_rgb

CONFIG = "quickstart/detection_toy_retinanet_lwganet_l0"
OPTIONS = PredictOptions(window=64, overlap=0, score_threshold=0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    cfg = load_config(CONFIG)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    torch.nn.init.normal_(network.bbox_head.retina_cls.weight, std=0.05)  # unlike scores, and none of 1
    file = tmp_path_factory.mktemp("tta") / "random.pth"
    classes = tuple("abcdefghijklmno")  # as many as the config's head
    meta = dict(dataset_meta=dict(classes=classes, palette=[(index, 0, 0) for index in range(15)]))
    torch.save(dict(state_dict=network.state_dict(), meta=meta), file)
    return file


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    file = tmp_path_factory.mktemp("scene") / "scene.png"
    write_rgb(file, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    return file


def found(checkpoint, scene, tta, *overrides):
    size = "test_dataloader.dataset.pipeline.1.scale=(64, 64)"
    model = WindowModel(checkpoint, CONFIG, "cpu", [size, *overrides], tta=tta)
    return predict_scene(model, open_scene([scene]), OPTIONS)


def test_one_form_gives_what_plain_prediction_gives(checkpoint, scene):
    plain = found(checkpoint, scene, False)
    once = found(checkpoint, scene, True, "tta.scales=(1.0,)", "tta.flips=(None,)")
    assert len(plain.scores) > 10
    np.testing.assert_allclose(once.scores, plain.scores, atol=1e-5)
    np.testing.assert_allclose(once.quads, plain.quads, atol=1e-3)


def test_with_both_flips_the_mirror_image_gives_the_mirrored_boxes(checkpoint, scene, tmp_path):
    write_rgb(tmp_path / "mirror.png", read_rgb(scene)[:, ::-1])
    asked = ("tta.scales=(1.0,)", "tta.flips=(None, 'horizontal')")
    straight = found(checkpoint, scene, True, *asked)
    mirrored = found(checkpoint, tmp_path / "mirror.png", True, *asked)
    assert len(straight.scores) == len(mirrored.scores) > 10
    centres = straight.quads.mean(1)
    centres[:, 0] = 63 - centres[:, 0]
    np.testing.assert_allclose(mirrored.scores[:10], straight.scores[:10], atol=1e-5)
    np.testing.assert_allclose(mirrored.quads.mean(1)[:10], centres[:10], atol=1e-2)
