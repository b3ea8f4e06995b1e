"""The toy distillation learns: far better than the best constant map, on scenes that it has not seen."""

import pytest
from locations import ROOT

from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.prepare.toy.make import make_toy_scenes

EPOCHS = 20
STEPS = 6 * EPOCHS  # of 16 scenes


def config_of(scenes, *more):
    options = [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
    options += [
        f"{part}_dataloader.dataset.data_root={scenes / ('train' if part == 'train' else 'val') / 'images'}"
        for part in ("train", "val", "test")
    ]
    length = [f"train_cfg.max_epochs={EPOCHS}", f"train_cfg.val_interval={EPOCHS}"]
    end = [f"param_scheduler.1.end={STEPS}", f"param_scheduler.1.T_max={STEPS - 25}"]
    options += [*length, *end, f"default_hooks.checkpoint.interval={EPOCHS}", *more]
    cfg = load_config(ROOT / "configs" / "distill" / "toy_sam_vit.py", options)
    for part in ("train", "val", "test"):
        cfg[f"{part}_dataloader"].pop("persistent_workers")
    return cfg


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_error_falls_below_half_of_the_constant_maps_with_and_without_noise(tmp_path):
    counts = dict(train=100, val=24, test=1)
    make_toy_scenes(tmp_path, size=256, counts=counts, large=0, tasks=("detection",))
    errors = {}
    fade = f"model.corruption.fade=({STEPS // 2},{3 * STEPS // 4})"
    for name, options in (("corrupted", (fade,)), ("clean", ("model.corruption=None",))):
        cfg = config_of(tmp_path / "detection", *options)
        result = train(cfg, RunOptions(tmp_path / name, device="cpu", seed=0))
        errors[name] = result.metrics["relative_error"]
    assert max(errors.values()) < 0.5, errors
    assert errors["corrupted"] < errors["clean"] + 0.1, errors
