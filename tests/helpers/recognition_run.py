"""A run folder of scene recognition without a training, and images of two colours for it."""

import numpy as np
import torch
from locations import ROOT
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.io.images import write_rgb

COLOURS = {"field": (60, 140, 50), "water": (30, 60, 110)}
CONFIG = ROOT / "configs" / "quickstart" / "recognition_toy_lsknet_t.py"


def coloured(name, size=64, seed=0):
    """An image of one colour with noise."""
    noise = np.random.default_rng(seed).integers(-20, 20, (size, size, 3))
    return np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)


def make_images(folder, count=8):
    """Write ``count`` images per class and split, a folder per class."""
    for split in ("train", "val"):
        for name in COLOURS:
            for index in range(count):
                image = coloured(name, seed=index + (100 if split == "val" else 0))
                write_rgb(folder / split / name / f"{index}.png", image)
    return folder


def overrides(scenes, size=32):
    """Overrides of the quickstart config for the images."""
    found = [f"model.head.num_classes={len(COLOURS)}", "train_dataloader.batch_size=8"]
    for split in ("train", "val", "test"):
        part = "train" if split == "train" else "val"
        found.append(f"{split}_dataloader.dataset.data_root={scenes / part}")
        found.append(f"{split}_dataloader.dataset.pipeline.1.size={size}")
    return found


def make_run(folder, scenes, config=CONFIG, changes=()):
    """Write ``config.py`` and a checkpoint of random weights; return the config and the model."""
    torch.manual_seed(0)
    cfg = load_config(config, [*overrides(scenes), *changes])
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / "config.py")
    drop_sync_bn(cfg)
    init_default_scope("mmengine")
    model = MODELS.build(cfg.model)
    meta = dict(dataset_meta=dict(classes=tuple(COLOURS)), epoch=3, iter=12)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / "epoch_3.pth")
    (folder / "last_checkpoint").write_text(str(folder / "epoch_3.pth"))
    return cfg, model
