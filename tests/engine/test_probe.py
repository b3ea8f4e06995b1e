"""Frozen features: neighbours, logistic regression, and the probe of a checkpoint."""

import json

import numpy as np
import pytest
import torch
from recognition_run import CONFIG, make_images, make_run, overrides

from rsfoundation.core.errors import CheckpointError, ConfigError
from rsfoundation.engine import probe as module
from rsfoundation.engine.config import load_config
from rsfoundation.engine.probe import linear, neighbours, probe
from rsfoundation.engine.resolve_config import RunOptions


def blobs(count, seed, spread=0.6, classes=3):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(classes, 8)) * 2
    labels = rng.integers(0, classes, count)
    features = (centres[labels] + rng.normal(size=(count, 8)) * spread).astype(np.float32)
    return features, np.eye(classes, dtype=np.float32)[labels], labels


@pytest.mark.parametrize("blocks", [(256, 16384), (7, 11)])
def test_neighbours_vote_by_cosine_similarity(blocks, monkeypatch):
    monkeypatch.setattr(module, "_QUERIES", blocks[0])
    monkeypatch.setattr(module, "_KEYS", blocks[1])
    train, targets, _ = blobs(90, 0)
    test, _, _ = blobs(40, 1)
    found = neighbours(train, targets, test)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (test, train)]
    similar = unit[0] @ unit[1].T
    for row, scores in zip(similar, found, strict=True):
        nearest = np.argsort(-row)[:20]
        votes = np.exp(row[nearest] / 0.07)
        np.testing.assert_allclose(
            scores, (votes[:, None] * targets[nearest]).sum(0) / votes.sum(), rtol=1e-4
        )


def test_fewer_images_than_neighbours_all_vote():
    train, targets, _ = blobs(5, 0)
    assert np.isfinite(neighbours(train, targets, train)).all()


@pytest.mark.parametrize("rows", [16384, 13])
def test_logistic_regression_is_at_the_minimum_of_its_loss(rows, monkeypatch):
    """Blocks change nothing, and separable classes are distinguished."""
    monkeypatch.setattr(module, "_ROWS", rows)
    train, targets, _ = blobs(150, 0)
    test, _, labels = blobs(80, 1)
    scores = linear(train, targets, test, False)
    assert scores.shape == (80, 3) and (scores.argmax(1) == labels).mean() >= 0.95
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    monkeypatch.setattr(module, "_ROWS", 16384)
    np.testing.assert_allclose(linear(train, targets, test, False), scores, atol=2e-3)


def test_several_labels_get_independent_scores():
    train, targets, _ = blobs(150, 0)
    both = np.concatenate([targets[:, :2], targets[:, :1]], 1)
    scores = linear(train, both, train, True)
    np.testing.assert_allclose(scores[:, 0], scores[:, 2], atol=1e-3)
    assert ((scores > 0.5) == (both > 0)).mean() >= 0.95


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp("scenes"))


def test_a_checkpoint_of_any_task_is_probed(scenes, tmp_path):
    """Random features tell two colours apart; the backbone of the checkpoint is the one that is measured."""
    _, model = make_run(tmp_path / "run", scenes)
    state = {f"backbone.{key}": value for key, value in model.backbone.state_dict().items()}
    state["bbox_head.fc.weight"] = torch.zeros(2)
    torch.save(dict(state_dict=state), tmp_path / "detector.pth")
    options = RunOptions(tmp_path / "out", device="cpu")
    own = probe(load_config(CONFIG, overrides(scenes)), tmp_path / "run", options)
    other = probe(load_config(CONFIG, overrides(scenes)), tmp_path / "detector.pth", options)
    assert own.metrics == other.metrics
    assert own.metrics["knn_top1"] == own.metrics["linear_top1"] == 1.0
    assert other.details == dict(train_images=16, test_images=16, channels=256)
    written = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert written["metrics"] == other.metrics and written["checkpoint"].endswith("detector.pth")
    features = np.load(tmp_path / "out" / "probe" / "test.npy", mmap_mode="r")
    assert features.shape == (16, 256)
    from rsfoundation.models.classifiers import pool

    image = next(iter((scenes / "val" / "field").glob("0.png")))
    from rsfoundation.datasets.transforms.recognition import resize
    from rsfoundation.io.loading import ImageLoading

    pixels = torch.from_numpy(resize(ImageLoading().read(image), (32, 32))).permute(2, 0, 1)
    batch = model.eval().data_preprocessor(dict(inputs=[pixels], data_samples=None), False)
    with torch.no_grad():
        expected = pool(model.backbone(batch["inputs"]))[0]
    np.testing.assert_allclose(features[0], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_probed_is_named(scenes, tmp_path):
    make_run(tmp_path / "run", scenes)
    options = RunOptions(tmp_path / "out", device="cpu")
    with pytest.raises(ConfigError, match="takes the config of a classifier"):
        probe(load_config("quickstart/segmentation_toy_lsknet_t"), tmp_path / "run", options)
    torch.save(dict(state_dict={"other.weight": torch.zeros(1)}), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="nothing in the checkpoint fits"):
        probe(load_config(CONFIG, overrides(scenes)), tmp_path / "odd.pth", options)
    with pytest.raises(CheckpointError):
        probe(load_config(CONFIG, overrides(scenes)), "no-such-weights", options)
    with pytest.raises(ConfigError, match="one process"):
        probe(load_config(CONFIG), None, RunOptions(launcher="pytorch"))
