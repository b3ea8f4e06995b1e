"""The toy distillation learns: far better than the best constant map, on scenes that it has not seen."""

import time

import pytest
import torch
from locations import ROOT
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.models.distill.feature_distiller import relative_error
from rsfoundation.prepare.toy.make import make_toy_scenes
from rsfoundation.registry import MODELS

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


def error_on_noisy_scenes(cfg, checkpoint):
    """Return the mean relative error where the student alone sees scenes of a noisier sensor."""
    init_default_scope("mmengine")
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=False)["state_dict"])
    generator = torch.Generator().manual_seed(0)
    errors = []
    for batch in Runner.build_dataloader(dict(cfg.val_dataloader)):
        data = model.data_preprocessor(batch, False)
        noisy = data["inputs"] + 0.2 * torch.randn(data["inputs"].shape, generator=generator)
        with torch.no_grad():
            target = model.teach(data["inputs"], data["data_samples"])
            errors.append(relative_error(model.pair_of(noisy, data["data_samples"], target)))
    return float(torch.stack(errors).mean())


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_noise_and_masking_learn_and_stand_noise(tmp_path):
    counts = dict(train=100, val=24, test=1)
    make_toy_scenes(tmp_path, size=256, counts=counts, large=0, tasks=("detection",))
    errors, noisy = {}, {}
    fade = f"model.corruption.fade=({STEPS // 2},{3 * STEPS // 4})"
    for name, options in (("corrupted", (fade,)), ("clean", ("model.corruption=None",))):
        cfg = config_of(tmp_path / "detection", *options)
        started = time.process_time()
        result = train(cfg, RunOptions(tmp_path / name, device="cpu", seed=0))
        errors[name] = result.metrics["relative_error"]
        noisy[name] = error_on_noisy_scenes(cfg, result.last_checkpoint)
        print(f"{name}: {errors[name]:.3f}, noisy {noisy[name]:.3f}, {time.process_time() - started:.0f} s")
    assert errors["corrupted"] < 0.5 and errors["clean"] < 0.5
    assert errors["corrupted"] < errors["clean"] + 0.05
    assert noisy["corrupted"] < noisy["clean"]
