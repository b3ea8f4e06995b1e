"""TensorBoard and wandb hold metrics, config and pictures of a run; its log lines say how fast it is."""

import re

import pytest

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine import tracking
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train


def test_both_trackers_hold_metrics_config_and_pictures(tiny_config, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tiny_config.parent / "run"
    options = RunOptions(
        folder, device="cpu", overrides=("train_cfg.max_epochs=2",), track=("tensorboard", "wandb")
    )
    train(tiny_config, options)
    (events,) = folder.rglob("events.out.tfevents.*")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(events))
    board.Reload()
    tags = board.Tags()
    assert {"loss", "accuracy", "time", "data_time", "images_per_second"} <= set(tags["scalars"])
    assert len(tags["images"]) == 4 and any("config" in tag for tag in tags["tensors"])
    (record,) = folder.rglob("run-*.wandb")
    content = record.read_bytes()
    assert b"TinyNet" in content and b"accuracy" in content and b"images_per_second" in content
    assert len(list(folder.rglob("wandb/offline-run-*/files/media/images/**/*.png"))) == 4
    (log,) = folder.glob("*/*.log")
    (line, *_) = re.findall(r"Epoch\(train\).*", log.read_text())
    for part in ("eta:", "time:", "data_time:", "images_per_second:", "peak_memory_mb:"):
        assert part in line or (part == "peak_memory_mb:" and "memory:" in line)


def test_a_tracker_that_is_not_installed_says_how(tiny_config, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    options = RunOptions(tiny_config.parent / "run", device="cpu", track=("wandb",))
    with pytest.raises(ConfigError, match=r"rsfoundation\[wandb\]"):
        train(tiny_config, options)
