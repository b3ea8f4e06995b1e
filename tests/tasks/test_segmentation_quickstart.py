import json

from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict
from rsfoundation.prepare.toy.make import make_toy_scenes


def small(root):
    """The shipped quickstart, on six tiny scenes."""
    make_toy_scenes(root, size=64, counts=dict(train=4, val=2), large_size=(150, 100), tasks=["segmentation"])
    overrides = [
        f"{split}_dataloader.dataset.data_root={root}/segmentation" for split in ("train", "val", "test")
    ]
    overrides += ["train_dataloader.batch_size=2", "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    return load_config("quickstart/segmentation_toy_lsknet_t", overrides)


def test_train_test_and_predict_a_large_scene(tmp_path):
    cfg = small(tmp_path / "toy")
    trained = train(cfg, RunOptions(work_dir=tmp_path / "run", device="cpu"))
    assert trained.best_checkpoint is not None and 0 <= trained.metrics["mIoU"] <= 1

    tested = run_test(cfg, tmp_path / "run", RunOptions(work_dir=tmp_path / "run", device="cpu"))
    assert tested.metrics["mIoU"] == trained.metrics["mIoU"]
    assert "building/IoU" in tested.details
    assert len(list((tmp_path / "run" / "pictures" / "test").glob("*.png"))) == 2

    scene = next((tmp_path / "toy" / "segmentation" / "img_dir" / "large").iterdir())
    (done,) = predict(
        WindowModel(tmp_path / "run", device="cpu"),
        [scene],
        tmp_path / "out",
        PredictOptions(window=64, overlap=16),
    )
    assert done.windows == 3 * 2
    classes = json.loads((tmp_path / "out" / f"{scene.stem}.json").read_text())["classes"]
    assert sum(item["pixels"] for item in classes.values()) == 150 * 100
    assert any(path.name.endswith("_comparison.png") for path in done.files)
