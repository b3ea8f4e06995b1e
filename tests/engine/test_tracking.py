"""TensorBoard and wandb hold metrics, config and pictures of a run; its log lines say how fast it is."""

import json
import re
import struct
import time

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


def wandb_rows(file):
    """The rows of an offline run: records of a LevelDB log of protobuf messages."""
    from wandb.proto import wandb_internal_pb2

    content, offset, record = file.read_bytes(), 7, b""
    while offset < len(content):
        left = 32768 - offset % 32768
        if left < 7:
            offset += left
            continue
        _checksum, length, kind = struct.unpack("<IHB", content[offset : offset + 7])
        record += content[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()
            message.ParseFromString(record)
            record = b""
            if message.WhichOneof("record_type") == "history":
                items = message.history.item
                yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def test_rows_of_both_trackers_carry_epoch_and_iteration(tiny_config, monkeypatch):
    """24 images in batches of 4: validated after epochs 2 and 4, iterations 12 and 24."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tiny_config.parent / "run"
    train(tiny_config, RunOptions(folder, device="cpu", track=("tensorboard", "wandb")))
    (record,) = folder.rglob("run-*.wandb")
    deadline = time.monotonic() + 60  # wandb's own process writes the file
    while len(scalars := [row for row in wandb_rows(record) if "loss" in row or "accuracy" in row]) < 14:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [(row["epoch"], row["iter"]) for row in scalars if "accuracy" in row] == [(2, 12), (4, 24)]
    trained = [(row["epoch"], row["iter"]) for row in scalars if "loss" in row]
    assert trained == [(epoch, 6 * (epoch - 1) + part) for epoch in (1, 2, 3, 4) for part in (2, 4, 6)]
    assert all(("val/time" in row) == ("accuracy" in row) != ("time" in row) for row in scalars)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = folder.rglob("events.out.tfevents.*")
    board = EventAccumulator(str(events))
    board.Reload()
    for tag in ("accuracy", "val/time"):
        assert [event.step for event in board.Scalars(tag)] == [12, 24]
    assert [event.step for event in board.Scalars("time")] == [part for _, part in trained]


def test_a_tracker_that_is_not_installed_says_how(tiny_config, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    options = RunOptions(tiny_config.parent / "run", device="cpu", track=("wandb",))
    with pytest.raises(ConfigError, match=r"rsfoundation\[wandb\]"):
        train(tiny_config, options)
