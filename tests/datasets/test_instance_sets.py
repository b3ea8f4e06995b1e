"""The published instance sets: their classes, and real samples that train, predict and draw if present."""

import cv2
import numpy as np
import pytest
import torch
from locations import SAMPLES
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope, init_default_scope
from prompt_models import anchor, build, losses

from rsfoundation.core.task import Classes
from rsfoundation.registry import DATASETS
from rsfoundation.tasks.instance import InstanceSegmentation

SETS = {
    "NWPUInsSegDataset": ("nwpu_vhr10_rsprompter", "NWPU_instances", 10, 28, 20),
    "SSDDInsSegDataset": ("ssdd_rsprompter", "SSDD_instances", 1, 1, 1),
}
STEPS = [
    dict(type="rsfoundation.LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="PackDetInputs"),
]


@pytest.fixture(autouse=True)
def _scope():
    before = DefaultScope.get_current_instance()
    init_default_scope("mmdet")
    yield
    if before is not None:
        init_default_scope(before.scope_name)


def test_classes_and_colours():
    names = {
        "WHUInsSegDataset": 1,
        "NWPUInsSegDataset": 10,
        "SSDDInsSegDataset": 1,
        "ISAIDInsSegDataset": 15,
    }
    for name, count in names.items():
        meta = DATASETS.get(f"rsfoundation.{name}").METAINFO
        assert len(meta["classes"]) == len(set(meta["classes"])) == len(set(meta["palette"])) == count
    assert DATASETS.get("rsfoundation.NWPUInsSegDataset").METAINFO["classes"][2] == "storage_tank"


@pytest.mark.parametrize("name", SETS)
def test_samples_train_predict_and_draw(name):
    folder, prefix, classes, trained, tested = SETS[name]
    root = SAMPLES / folder
    if not root.is_dir():
        pytest.skip("the samples are not here")
    options = dict(
        type=f"rsfoundation.{name}", data_root=str(root), data_prefix=dict(img="imgs"), pipeline=STEPS
    )
    train, val = (
        DATASETS.build(dict(options, ann_file=f"annotations/{prefix}_{split}.json", test_mode=split == "val"))
        for split in ("train", "val")
    )
    assert (train.report.objects, val.report.objects) == (trained, tested)
    model = build(anchor(backbone_freeze=False, roi_head=dict(bbox_head=dict(num_classes=classes)))).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(5):
        loss, _ = losses(model, pseudo_collate([train[0]]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        (sample,) = model.eval().test_step(pseudo_collate([val[0]]))
    image = cv2.imread(sample.metainfo["img_path"])
    assert sample.pred_instances.masks.shape[1:] == image.shape[:2]
    meta = val.metainfo
    del sample.gt_instances  # at the size of the network's input
    drawn = InstanceSegmentation().draw_comparison(
        [image], sample, Classes(meta["classes"], tuple(meta["palette"]))
    )
    assert drawn.dtype == np.uint8 and drawn.shape[1] > image.shape[1]
