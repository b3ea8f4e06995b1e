"""Every published row of instance segmentation has a config whose comment and settings say the same."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.engine.config import config_root, dicts_of, list_configs, load_config
from rsfoundation.registry import DATASETS, METRICS, TASKS

ROOT = config_root()
# (head, data set): box and mask AP of tables I to III of RSPrompter, epochs, learning rate, images per GPU.
ROWS = {
    ("anchor", "whu"): (71.9, 70.4, 300, 2e-4, 2),
    ("anchor", "nwpu"): (70.3, 66.1, 500, 2e-4, 1),
    ("anchor", "ssdd"): (70.4, 66.8, 600, 2e-4, 2),
    ("query", "whu"): (72.5, 72.5, 300, 1e-4, 1),
    ("query", "nwpu"): (68.4, 67.5, 600, 1e-4, 1),
    ("query", "ssdd"): (66.0, 67.3, 600, 1e-4, 1),
    ("seg_mask_rcnn", "whu"): (70.3, 70.1, 150, 2e-4, 4),
    ("seg_mask_rcnn", "nwpu"): (68.8, 65.2, 250, 2e-4, 2),
    ("seg_mask_rcnn", "ssdd"): (68.7, 66.1, 250, 2e-4, 2),
    ("seg_mask2former", "whu"): (70.7, 71.1, 300, 1e-4, 4),
    ("seg_mask2former", "nwpu"): (63.1, 64.3, 600, 1e-4, 2),
    ("seg_mask2former", "ssdd"): (63.0, 66.5, 600, 1e-4, 1),
    ("sam_det", "whu"): (69.1, 61.8, 200, 1e-4, 4),
    ("sam_det", "nwpu"): (64.2, 51.5, 300, 1e-4, 4),
    ("sam_det", "ssdd"): (70.0, 46.0, 300, 1e-4, 4),
}
# RS4D: (head, data set): epochs, rate, images per GPU.
RS4D = {
    ("bbox", "whu"): (800, 9.2224e-5, 8),
    ("bbox", "ssdd"): (800, 1e-4, 4),
    ("bbox", "nwpu"): (1600, 1e-4, 4),
    ("bbox", "coco"): (800, 1e-4, 4),  # of the base encoder
    ("prompt", "whu"): (800, 1e-4, 4),
    ("prompt", "ssdd"): (800, 1e-4, 4),
    ("prompt", "nwpu"): (800, 1e-4, 1),
}
CLASSES = {"whu": 1, "nwpu": 10, "ssdd": 1, "coco": 80}
NAMES = sorted(
    f"{folder}/{file.stem}" for folder in ("rsprompter", "rs4d") for file in (ROOT / folder).glob("*.py")
)


def read(name):
    return Config.fromfile(ROOT / f"{name}.py")


def comment_of(name):
    lines = [line[2:] for line in (ROOT / f"{name}.py").read_text().splitlines() if line.startswith("#")]
    return " ".join(lines)


def data_of(name):
    return re.search(r"_(whu|nwpu|ssdd|coco)(_512)?$", name)[1]


@pytest.mark.parametrize(("head", "data"), ROWS)
def test_rows_of_rsprompter(head, data):
    box, mask, epochs, rate, batch = ROWS[head, data]
    names = [name for name in NAMES if name.endswith(f"_{head}_{epochs}e_{data}")]
    assert names
    for name in names:
        cfg, comment = read(name), comment_of(name)
        assert f"{box} box AP" in comment and f"{mask} mask AP" in comment
        assert f"{epochs} epochs" in comment and cfg.train_cfg.max_epochs == epochs
        assert cfg.optim_wrapper.optimizer.lr == rate
        assert cfg.train_dataloader.batch_size == batch
    if head in ("anchor", "query"):
        assert {"base", "huge"} == {re.search("sam_vit_([a-z]+)", name)[1] for name in names}


@pytest.mark.parametrize(("head", "data"), RS4D)
def test_rows_of_rs4d(head, data):
    epochs, rate, batch = RS4D[head, data]
    for arch in "b" if data == "coco" else "blh":
        cfg = read(f"rs4d/rsmamba_{arch}_rs4d_{head}_{epochs}e_{data}")
        assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr) == (epochs, rate)
        assert cfg.train_dataloader.batch_size == batch
        assert head == "bbox" or not cfg.model.roi_head.mask_head.with_sincos


def test_the_variant_with_mosaics_has_them_and_no_other_has():
    def composed(name):
        steps = read(name).train_dataloader.dataset.pipeline
        return [step.type for step in steps].count("rsfoundation.InstanceMosaic")

    with_mosaics = [name for name in NAMES if composed(name)]
    assert with_mosaics == ["rs4d/rsmamba_b_rs4d_bbox_pa_pafpn_1600e_nwpu"]


def test_the_baseline_names_the_rerun():
    assert "67.1 box AP and 65.8 mask AP" in comment_of("rsprompter/resnet50_mask_rcnn_300e_nwpu")


@pytest.mark.parametrize("name", NAMES)
def test_settings_fit_each_other(name):
    cfg, data = read(name), data_of(name)
    comment = comment_of(name)
    assert "Reported: " in comment and "Protocol: COCO's metrics" in comment
    side = 512 if name.endswith("_512") else 1024
    assert f"single scale of {side} px" in comment
    (augment,) = cfg.model.data_preprocessor.batch_augments
    assert augment.size == (side, side)
    assert [step.get("scale") for step in cfg.test_dataloader.dataset.pipeline if step.type == "Resize"] == [
        (side, side)
    ]
    assert cfg.param_scheduler[1].end == cfg.param_scheduler[1].T_max == cfg.train_cfg.max_epochs
    assert len(DATASETS.get(cfg.train_dataloader.dataset.type).METAINFO["classes"]) == CLASSES[data]
    assert METRICS.get(cfg.test_evaluator.type) is not None
    assert not Path(cfg.data_root).is_absolute()
    assert TASKS.build({**cfg.task, "type": "InstanceSegmentation"}).name == "instance"


@pytest.mark.parametrize("name", NAMES)
def test_model_builds_for_the_classes_of_its_data(name):
    cfg = read(name)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    wanted = CLASSES[data_of(name)]
    heads = [
        part
        for key, part in model.named_modules()
        if key.endswith(("bbox_head", "panoptic_head", "panoptic_fusion_head"))
    ]
    assert heads and {head.num_classes for head in heads} == {wanted}
    assert "neck" not in cfg.model or not hasattr(model.neck, "feature_aggregator") or _fits(model)


def _fits(model):
    """Whether the aggregator takes as many maps as the encoder gives."""
    aggregator = model.neck.feature_aggregator
    if not hasattr(aggregator, "select_layers"):
        return True
    encoder = model.backbone
    given = len(encoder.layers) + 1 if getattr(encoder, "output_hidden_states", False) else len(encoder.out_indices)
    return len(aggregator.in_channels) == given


def test_the_guide_lists_every_config_with_its_numbers():
    text = (ROOT.parent / "docs/instance.md").read_text()
    rows = dict(re.findall(r"^\| `((?:rsprompter|rs4d)/[^`]+)` \| ([^|]+) \|", text, re.M))
    assert sorted(rows) == NAMES
    for name, numbers in rows.items():
        reported = re.search(r"Reported: ([\d.]+) box AP.*?([\d.]+) mask AP", comment_of(name))
        assert numbers == (f"{reported[1]} / {reported[2]}" if reported else "-")


@pytest.mark.parametrize("name", [name for name in list_configs() if name.startswith("rsprompter/sam_vit_")])
def test_all_parts_of_sam_start_from_one_checkpoint(name):
    """SAM's mask decoder was trained with the encoder of its own size."""
    parts = dicts_of(load_config(name).model)
    starts = [part["checkpoint"] for _, part in parts if isinstance(part.get("checkpoint"), str)]
    size = name.split("_")[2]
    assert starts and set(starts) == {f"sam_vit_{size}-sa1b"}
