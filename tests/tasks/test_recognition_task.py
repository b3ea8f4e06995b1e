"""Scene recognition from training to maps of tiles, on small coloured images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from locations import ROOT

from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict
from rsfoundation.io.images import write_rgb

COLOURS = {"field": (60, 140, 50), "water": (30, 60, 110)}


def coloured(name, size=64, seed=0):
    noise = np.random.default_rng(seed).integers(-20, 20, (size, size, 3))
    return np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for split in ("train", "val"):
        for name in COLOURS:
            for index in range(8):
                write_rgb(folder / split / name / f"{index}.png", coloured(name, seed=index))
    return folder


def overrides(scenes):
    found = []
    for split in ("train", "val", "test"):
        part = "train" if split == "train" else "val"
        found.append(f"{split}_dataloader.dataset.data_root={scenes / part}")
    return [
        *found,
        "train_dataloader.batch_size=8",
        "train_dataloader.dataset.pipeline.1.size=32",
        "val_dataloader.dataset.pipeline.1.size=32",
        "test_dataloader.dataset.pipeline.1.size=32",
        "model.head.num_classes=2",
        "train_cfg.max_epochs=6",
        "train_cfg.val_interval=6",
        "predict.window=64",
    ]


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    config = ROOT / "configs" / "quickstart" / "recognition_toy_lsknet_t.py"
    options = RunOptions(run, device="cpu", seed=0)
    train(load_config(config, overrides(scenes)), options)
    return run, run_test(load_config(config, overrides(scenes)), None, options, pictures=2)


def test_two_colours_are_told_apart_in_a_few_steps(trained):
    run, tested = trained
    assert tested.task == "recognition" and tested.metrics["top1"] >= 0.9
    assert set(tested.details) == {"accuracy/field", "accuracy/water"}
    assert {Path(file).name for file in tested.reports} == {"evaluation.json", "confusion.png"}
    assert len(list(Path(tested.pictures).glob("*.png"))) == 2
    assert next(run.glob("best_top1_*.pth"))


def test_a_folder_of_images_gets_one_class_each(trained, scenes, tmp_path):
    run, _ = trained
    done = predict(WindowModel(run, device="cpu"), [scenes / "val" / "water"], tmp_path)
    assert len(done) == 8 and {scene.summary["class"] for scene in done} == {"water"}
    content = json.loads((tmp_path / "0.json").read_text())
    assert content["classes"] == ["field", "water"] and content["tiles"][0]["class"] == "water"
    assert sum(content["tiles"][0]["scores"]) == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "0_overlay.png").is_file() and (tmp_path / "0_comparison.png").is_file()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Water on the left, field on the right, 150 x 200 pixels of 2 m."""
    import rasterio

    left, right = coloured("water", 200)[:150, :100], coloured("field", 200)[:150, 100:]
    image = np.concatenate([left, right], axis=1).transpose(2, 0, 1)
    path = tmp_path_factory.mktemp("large") / "scene.tif"
    transform = rasterio.Affine(2, 0, 500_000, 0, -2, 5_000_000)
    profile = dict(driver="GTiff", width=200, height=150, count=3, dtype="uint8", crs="EPSG:32633")
    with rasterio.open(path, "w", **profile, transform=transform) as made:
        made.write(image)
    return path


def test_a_scene_becomes_a_map_of_tiles_without_gaps_or_overlap(trained, large, tmp_path):
    import geopandas

    run, _ = trained
    options = PredictOptions(window=50, overlap=0, formats=("gpkg", "csv", "json"))
    (done,) = predict(WindowModel(run, device="cpu"), [large], tmp_path, options)
    assert done.summary == {"tiles": 12, "field": 6, "water": 6}
    tiles = geopandas.read_file(tmp_path / "scene.gpkg")
    assert tiles.area.sum() == pytest.approx(tiles.union_all().area) == pytest.approx(200 * 150 * 4)
    west = tiles[tiles.geometry.centroid.x < 500_200]
    assert set(west["class"]) == {"water"} and len(west) == 6
    rows = (tmp_path / "scene.csv").read_text().splitlines()
    assert rows[0] == "x1,y1,x2,y2,class,field,water" and len(rows) == 13
    assert (tmp_path / "scene_overlay.png").is_file()


def test_tiles_of_windows_that_overlap_meet_in_the_middle(trained, large, tmp_path):
    import geopandas

    run, _ = trained
    options = PredictOptions(window=64, overlap=10, formats=("gpkg",), picture=False)
    predict(WindowModel(run, device="cpu"), [large], tmp_path, options)
    tiles = geopandas.read_file(tmp_path / "scene.gpkg")
    assert tiles.area.sum() == pytest.approx(tiles.union_all().area) == pytest.approx(120_000)


def test_several_labels_are_trained_tested_and_predicted(scenes, tmp_path):
    rows = []
    for name, label in (("field", "green|dry"), ("water", "blue")):
        rows += [f"{name}/{index}.png\t{label}" for index in range(8)]
    for part in ("train", "val"):
        (scenes / part / "labels.txt").write_text("\n".join(rows))
    config = ROOT / "configs" / "quickstart" / "recognition_toy_lsknet_t.py"
    changed = [*overrides(scenes), "task.multi_label=True", "model.head.multi_label=True"]
    for split in ("train", "val", "test"):
        changed += [
            f"{split}_dataloader.dataset.ann_file=labels.txt",
            f"{split}_dataloader.dataset.multi_label=True",
        ]
    changed += [f"{split}_evaluator.multi_label=True" for split in ("val", "test")]
    changed.append("model.head.num_classes=3")
    options = RunOptions(tmp_path / "run", device="cpu", seed=0)
    train(load_config(config, changed), options)
    tested = run_test(load_config(config, changed), None, options, pictures=1)
    assert tested.metrics["mAP"] >= 0.9 and next((tmp_path / "run").glob("best_mAP_*.pth"))
    image = scenes / "val" / "field" / "0.png"
    chosen = PredictOptions(score_threshold=0.5)
    (done,) = predict(WindowModel(tmp_path / "run", device="cpu"), [image], tmp_path / "out", chosen)
    assert set(done.summary["class"].split(", ")) == {"dry", "green"}


def test_pretraining_runs_and_its_backbone_starts_a_classifier(scenes, tmp_path):
    config = ROOT / "configs" / "quickstart" / "pretraining_toy_lsknet_t.py"
    changed = [
        f"train_dataloader.dataset.data_root={scenes / 'train'}",
        "train_dataloader.batch_size=8",
        "train_dataloader.dataset.pipeline.1.size=64",
        "train_cfg.max_epochs=2",
    ]
    options = RunOptions(tmp_path / "run", device="cpu", seed=0)
    done = train(load_config(config, changed), options)
    assert done.last_checkpoint.is_file() and done.best_checkpoint is None and done.metrics == {}
    from rsfoundation.models.factory import create_model

    made = create_model("lsknet_t", pretrained=str(done.last_checkpoint))
    assert not made.load_report.missing and not made.load_report.skipped
    state = torch.load(done.last_checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    assert torch.equal(made.state_dict()["norm4.weight"], state["backbone.norm4.weight"])


@pytest.mark.parametrize("name", ["lsknet_t", "rsmamba_s"])
def test_a_resumed_pretraining_ends_with_the_same_weights(name, scenes, tmp_path):
    config = ROOT / "configs" / "quickstart" / f"pretraining_toy_{name}.py"
    changed = [
        f"train_dataloader.dataset.data_root={scenes / 'train'}",
        "train_dataloader.batch_size=8",
        "train_dataloader.dataset.pipeline.1.size=32",
        "default_hooks.checkpoint.interval=1",
        "train_cfg.max_epochs=2",
    ]
    if name != "lsknet_t":
        changed += ["model.decoder_depth=1", "model.backbone.encoder.img_size=64"]
    whole = train(load_config(config, changed), RunOptions(tmp_path / "whole", device="cpu", seed=0))
    train(
        load_config(config, [*changed, "train_cfg.max_epochs=1"]),
        RunOptions(tmp_path / "parts", device="cpu", seed=0),
    )
    resumed = RunOptions(tmp_path / "parts", device="cpu", seed=0, resume="auto")
    parts = train(load_config(config, changed), resumed)
    one, two = (
        torch.load(done.last_checkpoint, map_location="cpu", weights_only=False)["state_dict"]
        for done in (whole, parts)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
