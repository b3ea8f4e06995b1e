"""Every config of semantic segmentation: its comment, its settings, its data from small files in the real layout."""

import re
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.registry import MODELS as ROOT_MODELS
from PIL import Image

from rsfoundation.engine.config import config_root, list_configs
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.models.segmentors.test_time_augmentation import SegmentationTTA

ROOT = config_root()


class Row(NamedTuple):
    """What a config has to state and to set."""

    reported: str
    data: str
    classes: int
    batch: int
    rate: float
    length: int  # iterations, or epochs below 1000
    passes: int  # at test


# Of each data set: classes, batch, rate, epochs of LSKNet and of LWGANet, passes at test.
DATA = {
    "vaihingen": (6, 8, 4e-4, 105, 105, 40),
    "potsdam": (6, 8, 8e-4, 45, 45, 16),
    "loveda": (7, 16, 4e-4, 30, 30, 8),
    "uavid": (8, 6, 1e-3, 40, 70, 4),
}
PUBLISHED = {
    "lsknet_t_vaihingen": "91.7 mean F1, 84.9 mIoU, 93.6 OA",
    "lsknet_s_vaihingen": "91.8 mean F1, 85.1 mIoU, 93.6 OA",
    "lsknet_t_potsdam": "92.9 mean F1, 86.7 mIoU, 91.7 OA",
    "lsknet_s_potsdam": "93.1 mean F1, 87.2 mIoU, 92.0 OA",
    "lsknet_t_loveda": "53.2 mIoU",
    "lsknet_s_loveda": "54.0 mIoU",
    "lwganet_l2_loveda": "53.6 mIoU",
    "lsknet_t_uavid": "69.3 mIoU",
    "lsknet_s_uavid": "70.0 mIoU",
    "lwganet_l2_uavid": "69.1 mIoU",
}


def _rows():
    """The published rows, typed from papers and repositories, not read from the configs."""
    rows = {}
    for backbone in ("lsknet_t", "lsknet_s", "lwganet_l0", "lwganet_l1", "lwganet_l2"):
        family = backbone.split("_")[0]
        for data, (classes, batch, rate, *lengths, passes) in DATA.items():
            length = lengths[family == "lwganet"]
            for head in ("unetformer", "upernet"):
                number = PUBLISHED.get(f"{backbone}_{data}") if head == "unetformer" else None
                name = f"{family}/{backbone}_{head}_{length}e_{data}"
                rows[name] = Row(number or "nothing", data, classes, batch, rate, length, passes)
    rsp = {"rsp_resnet50": (0.01, 8, 4), "rsp_swin_t": (6e-5, 4, 4), "vitaev2_s": (6e-5, 4, 2)}
    potsdam = {"rsp_resnet50": "89.94", "rsp_swin_t": "90.03", "vitaev2_s": "90.64"}
    isaid = {"rsp_resnet50": "61.26", "rsp_swin_t": "64.10", "vitaev2_s": "64.25"}
    for backbone, (rate, batch, smaller) in rsp.items():
        f1, iou = f"{potsdam[backbone]} mean F1", f"{isaid[backbone]} mIoU"
        rows[f"rsp/{backbone}_upernet_80k_potsdam"] = Row(f1, "potsdam", 5, batch, rate, 80000, 0)
        rows[f"rsp/{backbone}_upernet_80k_isaid"] = Row(iou, "isaid", 16, smaller, rate, 80000, 2)
    return rows


ROWS = _rows()


class Untested(torch.nn.Module):
    """In place of a segmentor where only the views count."""

    def test_step(self, data):
        raise NotImplementedError


def read(name):
    return Config.fromfile(ROOT / f"{name}.py")


def test_no_config_is_missing_or_unlisted():
    bases = re.compile(r"'\.\./_base_/heads/(unetformer|upernet)\.py'")
    found = {name for name, path in list_configs().items() if bases.search(path.read_text())}
    other = ("quickstart/", "distill/")  # test_distillation_configs.py has those of the latter
    assert {name for name in found if not name.startswith(other)} == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_comment_and_settings_are_those_of_the_row(name):
    row, cfg = ROWS[name], read(name)
    lines = [line[2:] for line in (ROOT / f"{name}.py").read_text().splitlines() if line.startswith("#")]
    reported, protocol = " ".join(lines).split("Reported: ")[1].split("Protocol: ")
    assert reported.startswith(row.reported)
    assert f"x {row.batch} images" in protocol
    assert cfg.train_dataloader.batch_size == row.batch
    assert cfg.optim_wrapper.optimizer.lr == row.rate
    assert cfg.train_dataloader.dataset.data_root == f"data/{row.data}/"
    assert cfg.train_cfg.get("max_iters", cfg.train_cfg.get("max_epochs")) == row.length
    assert cfg.param_scheduler[-1].end == row.length
    assert cfg.param_scheduler[-1].by_epoch == (row.length < 1000)
    assert cfg.model.decode_head.num_classes == row.classes
    assert cfg.test_evaluator.get("clutter") == ("keep" if row.data in ("potsdam", "vaihingen") and row.passes else None)
    if row.passes:
        views = SegmentationTTA(Untested(), **cfg.tta).views
        assert len(views) == row.passes
        assert f"{row.passes} passes" in protocol or row.data == "isaid"
        assert cfg.tta.get("average") == (None if row.data == "isaid" else "logits")


def test_restarts_fill_the_schedule():
    for name, row in ROWS.items():
        (schedule, *_) = read(name).param_scheduler
        if schedule.type == "CosineRestartLR":
            assert sum(schedule.periods) == row.length and schedule.periods[:2] == [15, 30]


@pytest.mark.parametrize("name", ROWS)
def test_model_builds_for_the_classes_of_its_data(name):
    row, cfg = ROWS[name], read(name)
    init_default_scope(cfg.default_scope)
    drop_sync_bn(cfg)
    with torch.device("meta"):
        model = ROOT_MODELS.build(cfg.model)
    assert model.decode_head.num_classes == row.classes
    assert list(cfg.model.decode_head.in_channels) == list(model.backbone.out_channels)
    if "upernet" in name:
        assert model.auxiliary_head.num_classes == row.classes


def save(path, side, colour=None, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    if colour is not None:
        pixels = np.full((side, side, 3), colour, np.uint8)
    else:
        pixels = rng.integers(0, 255, (side, side, 3)).astype(np.uint8) if value is None else value
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def potsdam(root):
    for tile in ("2_10", "2_13"):
        save(root / "2_Ortho_RGB" / f"top_potsdam_{tile}_RGB.tif", 1100, value=None)
        save(root / "5_Labels_all" / f"top_potsdam_{tile}_label.tif", 1100, (0, 0, 255))
        save(root / "5_Labels_all_noBoundary" / f"top_potsdam_{tile}_label_noBoundary.tif", 1100, (0, 0, 0))


def vaihingen(root):
    labels = "ISPRS_semantic_labeling_Vaihingen_ground_truth"
    for tile in (1, 2):
        save(root / "top" / f"top_mosaic_09cm_area{tile}.tif", 1100, value=None)
        save(root / f"{labels}_COMPLETE" / f"top_mosaic_09cm_area{tile}.tif", 1100, (0, 0, 255))
        eroded = root / f"{labels}_eroded_COMPLETE" / f"top_mosaic_09cm_area{tile}_noBoundary.tif"
        save(eroded, 1100, (0, 0, 0))


def loveda(root):
    for split in ("Train", "Val"):
        for kind in ("Rural", "Urban"):
            save(root / split / kind / "images_png" / "1.png", 1024, value=None)
            mask = np.full((1024, 1024), 3)
            mask[:500] = 0
            save(root / split / kind / "masks_png" / "1.png", 1024, value=mask)


def uavid(root):
    for split in ("uavid_train", "uavid_val"):
        save(root / split / "seq1" / "Images" / "000000.png", 1100, value=None)
        save(root / split / "seq1" / "Labels" / "000000.png", 1100, (128, 64, 128))


def isaid(root):
    for split in ("train", "val"):
        save(root / split / "images" / "P0001.png", 900, value=None)
        save(root / split / "Semantic_masks" / "P0001_instance_color_RGB.png", 900, (0, 0, 63))


LAYOUTS = {  # the writer of a small copy, a config, the side of training images, a label that occurs
    "vaihingen": (vaihingen, "lsknet/lsknet_t_unetformer_105e_vaihingen", 512, 1),
    "potsdam": (potsdam, "lsknet/lsknet_t_unetformer_45e_potsdam", 768, 1),
    "loveda": (loveda, "lsknet/lsknet_t_unetformer_30e_loveda", 512, 2),
    "uavid": (uavid, "lsknet/lsknet_t_unetformer_40e_uavid", 1024, 1),
    "rsp_potsdam": (potsdam, "rsp/rsp_swin_t_upernet_80k_potsdam", 512, 1),
    "rsp_isaid": (isaid, "rsp/rsp_swin_t_upernet_80k_isaid", 896, 1),
}


@pytest.mark.parametrize("data", LAYOUTS)
def test_the_data_of_a_config_is_read_augmented_and_tested(data, tmp_path):
    write, name, side, label = LAYOUTS[data]
    write(tmp_path)
    cfg = read(name)
    init_default_scope(cfg.default_scope)
    tiles = dict(train=["2_10"], test=["2_13"]) if "potsdam" in data else dict(train=[1], test=[2])
    own = {key: dict(split=value) for key, value in tiles.items()} if data[-3:] in ("gen", "dam") else {}
    train = DATASETS.build(
        {**cfg.train_dataloader.dataset, "data_root": f"{tmp_path}/", **own.get("train", {})}
    )
    np.random.seed(0)
    items = [train[index % len(train)] for index in range(6)]
    assert all(item["inputs"].shape == (3, side, side) for item in items)
    labels = set().union(*(item["data_samples"].gt_sem_seg.data.unique().tolist() for item in items))
    assert label in labels and labels <= {label, 255}
    test = DATASETS.build({**cfg.test_dataloader.dataset, "data_root": f"{tmp_path}/", **own.get("test", {})})
    sample = test[0]["data_samples"]
    assert set(sample.gt_sem_seg.data.unique().tolist()) <= {label, 255}
    assert test[0]["inputs"].shape[1:] == sample.gt_sem_seg.data.shape[1:]
