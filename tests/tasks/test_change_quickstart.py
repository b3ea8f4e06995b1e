import json

from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict
from rsfoundation.prepare.toy.make import make_toy_scenes


def small(root):
    """The shipped quickstart, on six tiny pairs."""
    make_toy_scenes(root, size=64, counts=dict(train=4, val=2), large_size=(150, 100), tasks=["change"])
    overrides = [f"{split}_dataloader.dataset.data_root={root}/change" for split in ("train", "val", "test")]
    overrides += ["train_dataloader.batch_size=2", "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    return load_config("quickstart/change_toy_lsknet_t", overrides)


def test_train_test_and_predict_a_large_pair(tmp_path):
    cfg = small(tmp_path / "toy")
    trained = train(cfg, RunOptions(work_dir=tmp_path / "run", device="cpu"))
    assert trained.last_checkpoint is not None and "changed/F1" in trained.metrics

    tested = run_test(cfg, trained.last_checkpoint, RunOptions(work_dir=tmp_path / "run", device="cpu"))
    assert set(tested.metrics) == {"changed/F1", "changed/IoU", "changed/Precision", "changed/Recall"}
    assert len(list((tmp_path / "run" / "pictures" / "test").glob("*.png"))) == 2

    folder = tmp_path / "toy" / "change" / "large"
    pair = [next((folder / date).iterdir()) for date in "AB"]
    (done,) = predict(
        WindowModel(tmp_path / "run", device="cpu"),
        pair,
        tmp_path / "out",
        PredictOptions(window=64, overlap=16),
    )
    summary = json.loads((tmp_path / "out" / f"{pair[0].stem}.json").read_text())
    assert done.windows == 3 * 2 and (summary["height"], summary["width"]) == (100, 150)
    assert any(path.name.endswith("_comparison.png") for path in done.files)
