"""Methods of change detection from a config to a tested and predicted pair, on a few small pairs."""

import json

import cv2
import numpy as np
import pytest
from cd_samples import write_pair

from rsfoundation.engine.config import config_root, load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.inference.model import WindowModel
from rsfoundation.inference.predict import PredictOptions, predict

BASE = config_root() / "_base_"
BINARY = {
    "stanet": "backbone={{_base_.backbone}}, decode_head=dict(in_channels={{_base_.backbone_channels}}, "
    "channels=16, sa_in_channels=16, sa_mode='BAM')",
    "a2net": "backbone={{_base_.backbone}}, mid=8",
    "clafa": "backbone={{_base_.backbone}}, "
    "decode_head=dict(in_channels={{_base_.backbone_channels}}, fpn_channels=16)",
    "rsp_bit": "backbone={{_base_.backbone}}, decode_head=dict(in_channels=_base_.backbone_channels[2])",
    "changer_ex": "backbone=dict(backbone={{_base_.backbone}}), "
    "decode_head=dict(in_channels={{_base_.backbone_channels}}, channels=16)",
}
SLOW = ("clafa", "rsp_bit", "changer_ex")
TAIL = """
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(data_root={root!r}, data_prefix={prefix}, pipeline=_base_.test_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root={root!r}, data_prefix={prefix}))
test_dataloader = val_dataloader
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
predict = dict(window=64, overlap=16)
"""


def write_config(folder, head, dataset, placing, root, prefix):
    bases = [
        "backbones/lwganet_l0_scratch.py",
        f"heads/{head}.py",
        f"datasets/{dataset}.py",
        "runtime/iterations.py",
    ]
    path = folder / f"{head}.py"
    path.write_text(
        f"_base_ = {[str(BASE / base) for base in bases]}\n"
        f"model = dict({placing})\n" + TAIL.format(root=str(root), prefix=prefix)
    )
    return load_config(path)


@pytest.mark.parametrize(
    "head", [pytest.param(head, marks=pytest.mark.slow if head in SLOW else ()) for head in BINARY]
)
def test_a_method_trains_tests_and_predicts(head, tmp_path):
    for name in ("one", "two"):
        write_pair(tmp_path / "data", name, size=(64, 64))
    prefix = dict(img_path_from="A", img_path_to="B", seg_map_path="label")
    cfg = write_config(tmp_path, head, "levir_cd", BINARY[head], tmp_path / "data", prefix)
    options = RunOptions(work_dir=tmp_path / "run", device="cpu")
    trained = train(cfg, options)
    tested = run_test(cfg, trained.last_checkpoint, options)
    assert 0 <= tested.metrics["changed/F1"] <= 1 or np.isnan(tested.metrics["changed/F1"])
    pair = [tmp_path / "data" / date / "one.png" for date in "AB"]
    (done,) = predict(WindowModel(tmp_path / "run", device="cpu"), pair, tmp_path / "out", PredictOptions())
    assert any(path.suffix == ".png" for path in done.files)


def write_semantic(root):
    for name in ("one", "two"):
        write_pair(root, name, size=(64, 64))
        for folder, number in (("label1", 2), ("label2", 5)):
            cover = np.zeros((64, 64), np.uint8)
            cover[:, 32:] = number
            (root / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(root / folder / f"{name}.png"), cover)
        label = root / "label" / f"{name}.png"
        cv2.imwrite(str(label), (cv2.imread(str(label), 0) > 0).astype(np.uint8))


def test_semantic_change_trains_tests_and_predicts_without_labels(tmp_path):
    root = tmp_path / "data"
    write_semantic(root)
    prefix = dict(
        img_path_from="A",
        img_path_to="B",
        seg_map_path="label",
        seg_map_path_from="label1",
        seg_map_path_to="label2",
    )
    heads = "dict(in_channels={{_base_.backbone_channels}}, channels=16)"
    decode_head = f"dict(binary_cd_head={heads}, semantic_cd_head={heads})"
    placing = f"backbone={{{{_base_.backbone}}}}, decode_head={decode_head}"
    cfg = write_config(tmp_path, "semantic_change_upernet", "second", placing, root, prefix)
    options = RunOptions(work_dir=tmp_path / "run", device="cpu")
    trained = train(cfg, options)
    assert list((tmp_path / "run").glob("best_SeK_*.pth"))
    tested = run_test(cfg, trained.last_checkpoint, options)
    assert {"SeK", "SCD_Score", "changed/F1", "semantic/mIoU"} <= set(tested.metrics)
    for name in ("label", "label1", "label2"):
        for file in (root / name).iterdir():
            file.unlink()
    pair = [root / date / "one.png" for date in "AB"]
    (done,) = predict(WindowModel(tmp_path / "run", device="cpu"), pair, tmp_path / "out", PredictOptions())
    summary = json.loads(next(path for path in done.files if path.suffix == ".json").read_text())
    assert (summary["height"], summary["width"]) == (64, 64)
