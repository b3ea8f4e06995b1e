"""Distillation as a training run: live and cached teacher, resume, report, picture, export."""

import json

import cv2
import numpy as np
import pytest
import torch
from locations import ROOT
from typer.testing import CliRunner

from rsfoundation.cli.app import app
from rsfoundation.core.errors import ConfigError, DataError
from rsfoundation.engine.checkpointing.export_backbone import export_backbone
from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.evaluation.distillation_metric import DistillationMetric
from rsfoundation.models.factory import create_model
from rsfoundation.prepare.features import prepare_features
from rsfoundation.tasks.distillation import principal_components

LIVE, CACHED = (
    ROOT / "configs" / "distill" / f"{name}.py" for name in ("toy_sam_rsmamba", "toy_sam_rsmamba_cached")
)


@pytest.fixture
def scenes(tmp_path):
    """Twelve images of 64 px."""
    rng = np.random.default_rng(0)
    for index in range(12):
        part = "val" if index >= 8 else "train"
        file = tmp_path / "data" / part / "images" / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        cv2.imwrite(str(file), cv2.resize(coarse, (64, 64)))
    return tmp_path / "data"


def small(scenes, *more, epochs=2):
    changed = [
        "model.backbone.img_size=64",
        "model.backbone.arch.num_layers=2",
        "train_dataloader.batch_size=4",
        f"train_cfg.max_epochs={epochs}",
        "train_cfg.val_interval=1",
        "default_hooks.checkpoint.interval=1",
    ]
    for name in ("train", "val", "test"):
        folder = "train" if name == "train" else "val"
        changed += [
            f"{name}_dataloader.dataset.data_root={scenes / folder / 'images'}",
            f"{name}_dataloader.num_workers=0",
        ]
    return [*changed, *more]


def live(scenes, *more, **options):
    pipeline = ["train_dataloader.dataset.pipeline.1.size=64"]
    pipeline += [f"{name}_dataloader.dataset.pipeline.1.crop_size=(64,64)" for name in ("val", "test")]
    return load_config(LIVE, small(scenes, *pipeline, "model.teacher.image_size=64", *more, **options))


def cached(scenes, root, *more, **options):
    more = (f"model.teacher.root={root}", "model.teacher.teacher.image_size=64", *more)
    return load_config(CACHED, small(scenes, *more, **options))


def state_of(result):
    return torch.load(result.last_checkpoint, map_location="cpu", weights_only=False)["state_dict"]


def options_of(folder, **more):
    return RunOptions(folder, device="cpu", seed=0, **more)


def test_a_run_reports_resumes_exactly_and_exports_the_plain_student(scenes, tmp_path):
    whole = train(live(scenes), options_of(tmp_path / "whole"))
    assert 0 < whole.metrics["relative_error"] < 3 and whole.best_checkpoint.is_file()
    assert next((tmp_path / "whole" / "pictures" / "val").glob("*.png"))
    train(live(scenes, epochs=1), options_of(tmp_path / "parts"))
    parts = train(live(scenes), options_of(tmp_path / "parts", resume="auto"))
    one, two = state_of(whole), state_of(parts)
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    tested = run_test(live(scenes), None, options_of(tmp_path / "whole"), pictures=1)
    report = json.loads((tmp_path / "whole" / "evaluation" / "distillation.json").read_text())
    assert len(report["r2_per_channel"]) == 32 and report["images"] == 4
    assert tested.metrics["cosine"] == pytest.approx(report["metrics"]["cosine"])

    made = export_backbone(whole.last_checkpoint, tmp_path / "student.pth")
    arch = dict(embed_dims=32, num_layers=2, feedforward_channels=64)
    student = create_model(
        "RSMamba", pretrained=str(made.output), arch=arch, img_size=64, out_type="featmap"
    ).eval()
    assert not student.load_report.missing and "units of the teacher" in made.card.read_text()
    from mmengine.registry import init_default_scope

    from rsfoundation.registry import MODELS

    init_default_scope("mmengine")
    model = MODELS.build(live(scenes).model).eval()
    model.load_state_dict(one)
    images = torch.randn(2, 3, 64, 64)
    wanted = torch.stack([sample.student_map for sample in model.predict(images)])
    assert torch.allclose(student(images)[0], wanted, atol=1e-4)
    file = tmp_path / "student.pt2"
    command = ["export", str(whole.last_checkpoint), "--part", "backbone", "--size", "64", "--fixed-size"]
    done = CliRunner().invoke(app, [*command, "-o", str(file)])
    assert done.exit_code == 0, done.output
    pixels = torch.rand(1, 3, 64, 64) * 255
    (found,) = torch.export.load(file).module()(pixels)
    preprocessor = model.data_preprocessor
    (wanted,) = student((pixels - preprocessor.mean) / preprocessor.std)
    assert torch.allclose(found, wanted, atol=1e-3)


def test_a_cache_trains_as_the_live_teacher_does(scenes, tmp_path):
    root = tmp_path / "features"
    made = prepare_features(cached(scenes, root), root, form="fp32", device="cpu", workers=0)
    assert (made.computed, made.kept, made.stale) == (12, 0, 0)
    from_cache = train(cached(scenes, root, "model.corruption=None"), options_of(tmp_path / "cached"))
    config = cached(scenes, root, "model.corruption=None")
    config.model.teacher = config.model.teacher.teacher
    from_teacher = train(config, options_of(tmp_path / "live"))
    one, two = state_of(from_cache), state_of(from_teacher)
    assert all(torch.allclose(one[key], two[key], atol=1e-4) for key in one)


def test_a_dump_continues_and_repairs_and_refuses_what_does_not_fit(scenes, tmp_path):
    root = tmp_path / "features"
    config = cached(scenes, root)
    prepare_features(config, root, device="cpu", workers=0, part=(0, 2))
    made = prepare_features(config, root, device="cpu", workers=0)
    assert (made.computed, made.kept) == (6, 6)
    shard = next(root.glob("part0of2-*.bin"))
    shard.write_bytes(shard.read_bytes()[:-5])
    made = prepare_features(config, root, device="cpu", workers=0)
    assert (made.computed, made.kept, made.damaged) == (1, 11, 1)
    (scenes / "train" / "images" / "0.png").unlink()
    made = prepare_features(config, root, device="cpu", workers=0)
    assert (made.computed, made.stale) == (0, 1)
    other = cached(scenes, root, "model.data_preprocessor.std=[1.0,1.0,1.0]")
    with pytest.raises(DataError, match="another preprocessing"):
        prepare_features(other, root, device="cpu", workers=0)
    with pytest.raises(DataError, match="another preprocessing"):
        train(other, options_of(tmp_path / "run"))
    deeper = cached(scenes, root, "model.teacher.teacher.num_hidden_layers=3")
    with pytest.raises(DataError, match="another teacher"):
        train(deeper, options_of(tmp_path / "run"))
    with pytest.raises(DataError, match="allowed"):
        prepare_features(config, tmp_path / "other", device="cpu", workers=0, max_gib=1e-9)


def test_random_steps_cannot_be_cached(scenes, tmp_path):
    with pytest.raises(ConfigError, match="another view each time"):
        prepare_features(live(scenes), tmp_path / "features", device="cpu")


def test_the_constant_map_is_the_yardstick():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 3, 4, 4)).astype(np.float32)
    median = np.median(truth, 0)

    def metrics(found):
        metric = DistillationMetric()
        for wanted, own in zip(truth, found, strict=True):
            metric.process(
                None, [dict(teacher_map=torch.from_numpy(wanted), student_map=torch.from_numpy(own))]
            )
        return metric.compute_metrics(metric.results)

    constant = metrics(np.broadcast_to(median, truth.shape).copy())
    assert constant["relative_error"] == pytest.approx(1)
    perfect = metrics(truth)
    assert perfect["relative_error"] == 0 and perfect["r2"] == perfect["r2_p10"] == pytest.approx(1)
    half = metrics((truth + median) / 2)
    assert half["relative_error"] == pytest.approx(0.5) and half["cosine"] < perfect["cosine"]


def test_components_of_equal_maps_look_equal():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(6, 5, 7))
    first, second, third = principal_components(one, [one, one, -one])
    assert first.shape == (5, 7, 3) and (first == second).all() and (first != third).any()
