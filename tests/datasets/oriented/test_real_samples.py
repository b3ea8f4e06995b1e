"""Real files of every detection data set train a step and are tested, each through its own config."""

import json

import cv2
import numpy as np
import pytest
import torch
from locations import SAMPLES
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.core.task import Classes
from rsfoundation.engine.config import config_root
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.registry import DATASETS, METRICS, TASKS

BASE = config_root() / "_base_"
SIDE = 320
pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no sample data")


def dota(folder):
    return lambda tmp_path: dict(data_root=str(SAMPLES), split=folder, preset=None, on_error="skip")


def hrsc(tmp_path):
    """One label file without its image, which is painted."""
    (tmp_path / "FullDataSet/Annotations").parent.mkdir()
    (tmp_path / "FullDataSet/Annotations").symlink_to(SAMPLES / "hrsc_mmrotate/FullDataSet/Annotations")
    (tmp_path / "FullDataSet/AllImages").mkdir()
    cv2.imwrite(str(tmp_path / "FullDataSet/AllImages/100000006.bmp"), np.full((816, 1172, 3), 90, np.uint8))
    (tmp_path / "demo.txt").write_text("100000006\n")
    return dict(data_root=str(tmp_path), split="demo")


def fair1m(tmp_path):
    """Images of 2 px, whose boxes of one pixel pass for the sake of the layout."""
    return dict(
        type="rsfoundation.FAIR1MDataset",
        data_root=str(SAMPLES / "torchgeo_fake/fair1m"),
        split="train",
        preset=None,
        min_side=0.5,
    )


def hrsid(tmp_path):
    """Masks of instances instead of polygons: written as the json that the data set is distributed with."""
    images, annotations = [], []
    for number, file in enumerate(sorted((SAMPLES / "hrsid_sample/images").glob("*.png")), start=1):
        images.append(dict(id=number, file_name=file.name, width=800, height=800))
        mask = cv2.imread(str(SAMPLES / f"hrsid_sample/masks/{file.stem}_instance_id_RGB.png")).astype(
            np.int64
        )
        identity = mask[..., 2] + 256 * mask[..., 1] + 65536 * mask[..., 0]
        for value in np.unique(identity[identity > 0]):
            outlines, _ = cv2.findContours(
                (identity == value).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            shapes = [outline.reshape(-1).tolist() for outline in outlines if len(outline) >= 3]
            annotations.append(
                dict(id=len(annotations) + 1, image_id=number, category_id=1, segmentation=shapes, iscrowd=0)
            )
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").symlink_to(SAMPLES / "hrsid_sample/images")
    record = dict(images=images, annotations=annotations, categories=[dict(id=1, name="ship")])
    (tmp_path / "annotations/train2017.json").write_text(json.dumps(record))
    return dict(data_root=str(tmp_path), split="train")


def nwpu(tmp_path):
    """Masks of ten classes, in the reader of COCO files."""
    file = "annotations/NWPU_instances_train.json"
    names = [
        row["name"]
        for row in json.loads((SAMPLES / "nwpu_vhr10_rsprompter" / file).read_text())["categories"]
    ]
    return dict(
        type="rsfoundation.CocoOrientedDataset",
        data_root=str(SAMPLES / "nwpu_vhr10_rsprompter"),
        ann_file=file,
        image_dir="imgs",
        metainfo=dict(classes=names),
        split=None,
    )


CASES = {
    "dota_mmrotate": ("dota_ss", dota("dota_mmrotate"), 1),
    "dota_mmrotate_v0": ("dota_ss", dota("dota_mmrotate_v0"), 1),
    "dota_devkit_example": ("dota_ss", dota("dota_devkit_example"), 2),
    "dior_mmrotate": ("dior_r", lambda _: dict(data_root=str(SAMPLES / "dior_mmrotate"), split="demo"), 1),
    "hrsc_mmrotate": ("hrsc2016", hrsc, 1),
    "fair1m": ("fair1m_ms", fair1m, 4),
    "hrsid": ("hrsid_rotated", hrsid, 2),
    "ssdd_rsprompter": (
        "ssdd_rotated",
        lambda _: dict(data_root=str(SAMPLES / "ssdd_rsprompter"), split=["train", "val"]),
        2,
    ),
    "nwpu_vhr10_rsprompter": ("ssdd_rotated", nwpu, 4),
}


def data_of(base, place, loader):
    cfg = Config.fromfile(BASE / f"datasets/{base}.py")
    init_default_scope("mmrotate")
    node = {**cfg[loader].dataset, **place}
    node = {key: value for key, value in node.items() if value is not None}
    for step in node["pipeline"]:
        if step.type == "mmdet.Resize":
            step.scale = (SIDE, SIDE)
    return DATASETS.build(node), cfg


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "config.py"
    path.write_text(
        f"_base_ = ['{BASE}/backbones/lsknet_t_scratch.py', '{BASE}/heads/oriented_rcnn_small.py']\n"
        "model = dict(backbone={{_base_.backbone}}, neck=dict(in_channels={{_base_.backbone_channels}}),\n"
        "    roi_head=dict(bbox_head=dict(num_classes=37)))\n"
    )
    cfg = Config.fromfile(path)
    drop_sync_bn(cfg)
    init_default_scope("mmrotate")
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize("name", CASES)
def test_a_step_and_a_test(name, tmp_path, model):
    base, place, images = CASES[name]
    place = place(tmp_path)
    data, _ = data_of(base, place, "train_dataloader")
    assert len(data) >= images
    model.train()
    batch = [data[index] for index in range(images)]
    packed = model.data_preprocessor({key: [item[key] for item in batch] for key in batch[0]}, True)
    assert sum(len(sample.gt_instances) for sample in packed["data_samples"]) > 0
    total, _parts = model.parse_losses(model(**packed, mode="loss"))
    total.backward()
    assert torch.isfinite(total)
    model.zero_grad()

    held_out, cfg = data_of(base, place, "test_dataloader")
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = held_out.metainfo
    model.eval()
    task = TASKS.build(dict(type="OrientedDetection"))
    classes = Classes(held_out.metainfo["classes"], held_out.metainfo["palette"])
    for index in range(images):
        item = held_out[index]
        with torch.no_grad():
            (sample,) = model.val_step({key: [value] for key, value in item.items()})
        sample.pred_instances = sample.pred_instances[sample.pred_instances.labels < len(classes.names)]
        metric.process({}, [sample.to_dict()])
        image = cv2.imread(sample.img_path)
        picture = task.draw_comparison([image], sample, classes)
        assert picture.shape[1] > image.shape[1] and picture.std() > 0
    assert 0 <= metric.evaluate(images)["detection/mAP50"] <= 1
