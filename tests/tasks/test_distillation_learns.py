"""The toy distillation learns: far better than the best constant map, on scenes that it has not seen."""

import pytest
from locations import ROOT

from rsfoundation.engine.config import load_config
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.prepare.toy.make import make_toy_scenes


def config_of(scenes, epochs, steps, *more):
    """Return the toy config for scenes in a folder, ``steps`` steps in all, validated at the end."""
    options = [f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")]
    options += [
        f"{part}_dataloader.dataset.data_root={scenes / ('train' if part == 'train' else 'val') / 'images'}"
        for part in ("train", "val", "test")
    ]
    length = [f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}"]
    end = [f"param_scheduler.1.end={steps}", f"param_scheduler.1.T_max={steps - 25}"]
    options += [*length, *end, f"default_hooks.checkpoint.interval={epochs}", *more]
    cfg = load_config(ROOT / "configs" / "distill" / "toy_sam_vit.py", options)
    for part in ("train", "val", "test"):
        cfg[f"{part}_dataloader"].pop("persistent_workers")
    return cfg


def fade(steps):
    return f"model.corruption.fade=({steps // 2},{3 * steps // 4})"


def error_of(cfg, folder):
    return train(cfg, RunOptions(folder, device="cpu", seed=0)).metrics["relative_error"]


def test_a_tiny_student_halves_the_error_of_the_best_constant_map(tmp_path):
    counts = dict(train=32, val=12, test=1)
    make_toy_scenes(tmp_path, size=96, counts=counts, large=0, tasks=("detection",))
    small = ["model.teacher.image_size=64", "model.backbone.image_size=64"]
    small += [
        "train_dataloader.dataset.pipeline.1.size=64",
        "train_dataloader.dataset.pipeline.1.scale=(0.4,0.6)",
    ]
    small += [f"{part}_dataloader.dataset.pipeline.1.crop_size=(64,64)" for part in ("val", "test")]
    steps = 180
    cfg = config_of(tmp_path / "detection", steps // 2, steps, fade(steps), *small)
    assert error_of(cfg, tmp_path / "run") < 0.5


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_error_falls_below_half_of_the_constant_maps_with_and_without_noise(tmp_path):
    counts = dict(train=100, val=24, test=1)
    make_toy_scenes(tmp_path, size=256, counts=counts, large=0, tasks=("detection",))
    errors, steps = {}, 120  # of 16 scenes
    for name, options in (("corrupted", (fade(steps),)), ("clean", ("model.corruption=None",))):
        errors[name] = error_of(config_of(tmp_path / "detection", 20, steps, *options), tmp_path / name)
    assert max(errors.values()) < 0.5, errors
    assert errors["corrupted"] < errors["clean"] + 0.1, errors


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_noise_and_masking_help_where_few_images_are_learned_by_heart(tmp_path):
    make_toy_scenes(tmp_path, size=256, counts=dict(train=8, val=24, test=1), large=0, tasks=("detection",))
    student = dict(hidden_size=64, num_hidden_layers=3, mlp_dim=128, global_attn_indexes="(2,)")
    larger = [f"model.backbone.{key}={value}" for key, value in student.items()]
    errors, steps = {}, 800
    for name, more in (
        ("corrupted", "model.corruption.fade=(450,650)"),
        ("clean", "model.corruption=None"),
    ):
        cfg = config_of(
            tmp_path / "detection", steps, steps, "train_dataloader.batch_size=8",
            "optim_wrapper.optimizer.lr=0.003", *larger, more,
        )  # fmt: skip
        cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline  # as from a cache
        errors[name] = error_of(cfg, tmp_path / name)
    assert errors["corrupted"] < 0.95 * errors["clean"], errors
