"""Every published row has a config whose comment and settings say the same."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.engine.config import config_root
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.registry import DATASETS, METRICS, TASKS


class Row(NamedTuple):
    """What a config has to state and to set."""

    reported: str
    batch: int
    rate: float
    epochs: int
    classes: int
    data: str  # folder of the training split, below data/


# The rows of the papers and repositories, typed from these, not read from the configs.
ROWS = {
    "lsknet/lsknet_t_oriented_rcnn_1x_dota_ms": Row("81.37", 16, 2e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_oriented_rcnn_1x_dota_ms": Row("81.64", 8, 1e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_ema_oriented_rcnn_1x_dota_ms": Row("81.85", 8, 2e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_roi_transformer_1x_dota_ms": Row("81.22", 16, 1e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_r3det_1x_dota_ms": Row("80.08", 16, 2e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_s2anet_1x_dota_ms": Row("81.32", 16, 1e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_t_roi_transformer_1x_dota_ms": Row("nothing", 16, 1e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_t_r3det_1x_dota_ms": Row("nothing", 16, 2e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_t_s2anet_1x_dota_ms": Row("nothing", 16, 1e-4, 12, 15, "dota/ms/trainval"),
    "lsknet/lsknet_s_oriented_rcnn_1x_dota_ss": Row("77.49", 8, 1e-4, 12, 15, "dota/ss/trainval"),
    "lsknet/lsknet_s_oriented_rcnn_1x_fair1m_ms": Row("47.87", 8, 2e-4, 12, 37, "fair1m/ms/train"),
    "lsknet/resnet50_oriented_rcnn_1x_fair1m_ms": Row("45.60", 8, 0.02, 12, 37, "fair1m/ms/train"),
    "lsknet/lsknet_s_oriented_rcnn_3x_hrsc2016": Row("90.65", 16, 4e-4, 36, 1, "hrsc2016/trainval"),
    "lsknet/lsknet_t_rotated_retinanet_1x_dota_ss": Row("nothing", 16, 2e-4, 12, 15, "dota/ss/trainval"),
    "lsknet/lsknet_t_rotated_fcos_1x_dota_ss": Row("nothing", 16, 2e-4, 12, 15, "dota/ss/trainval"),
    "lsknet/lsknet_t_rotated_rtmdet_1x_dota_ss": Row("nothing", 16, 2e-4, 12, 15, "dota/ss/trainval"),
    "lwganet/lwganet_l2_oriented_rcnn_30e_dota_ss": Row("79.02", 8, 2e-4, 30, 15, "dota/ss/trainval"),
    "lwganet/lwganet_l2_oriented_rcnn_30e_dota15_ss": Row("72.91", 8, 2e-4, 30, 16, "dota15/ss/trainval"),
    "lwganet/lwganet_l2_oriented_rcnn_1x_dior_r": Row("68.53", 8, 1e-4, 12, 20, "dior/trainval"),
    "stripnet/stripnet_t_strip_rcnn_1x_dota_ms": Row("81.40", 8, 1e-4, 12, 15, "dota/ms/trainval"),
    "stripnet/stripnet_s_strip_rcnn_1x_dota_ms": Row("82.28", 8, 1e-4, 12, 15, "dota/ms/trainval"),
    "stripnet/stripnet_s_roi_transformer_1x_dota_ms": Row("81.72", 8, 1e-4, 12, 15, "dota/ms/trainval"),
    "stripnet/stripnet_s_strip_rcnn_1x_fair1m_ms": Row("48.26", 8, 1e-4, 12, 37, "fair1m/ms/train"),
    "stripnet/stripnet_s_strip_rcnn_3x_hrsc2016": Row("90.60", 16, 4e-4, 36, 1, "hrsc2016/trainval"),
    "stripnet/stripnet_s_strip_rcnn_1x_dior_r": Row("nothing", 8, 1e-4, 12, 20, "dior/trainval"),
    "stripnet/stripnet_s_strip_rcnn_1x_dota15_ss": Row("nothing", 8, 1e-4, 12, 16, "dota15/ss/trainval"),
    "rsp/rsp_resnet50_oriented_rcnn_1x_dota_ss": Row("76.50", 2, 0.005, 12, 15, "dota/ss/trainval"),
    "rsp/rsp_swin_t_oriented_rcnn_1x_dota_ss": Row("75.68", 2, 1e-4, 12, 15, "dota/ss/trainval"),
    "rsp/vitaev2_s_oriented_rcnn_1x_dota_ss": Row("77.72", 2, 1e-4, 12, 15, "dota/ss/trainval"),
    "rsp/rsp_resnet50_oriented_rcnn_3x_hrsc2016": Row("90.10", 2, 0.005, 36, 1, "hrsc2016/trainval"),
    "rsp/rsp_swin_t_oriented_rcnn_3x_hrsc2016": Row("89.91", 2, 1e-4, 36, 1, "hrsc2016/trainval"),
    "rsp/vitaev2_s_oriented_rcnn_3x_hrsc2016": Row("90.24", 2, 1e-4, 36, 1, "hrsc2016/trainval"),
}
MILESTONES = {12: [8, 11], 30: [16, 22, 27], 36: [24, 33]}
ROOT = config_root()


def read(name):
    return Config.fromfile(ROOT / f"{name}.py")


def comment_of(name):
    lines = [line[2:] for line in (ROOT / f"{name}.py").read_text().splitlines() if line.startswith("#")]
    return " ".join(lines)


def test_no_config_is_missing_or_unlisted():
    folders = {name.split("/")[0] for name in ROWS}
    there = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for folder in folders
        for path in (ROOT / folder).glob("*.py")
        if "oriented" in path.stem or "strip_rcnn" in path.stem or "_dota" in path.stem
    }
    assert there == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_comment_says_number_and_protocol(name):
    row, comment = ROWS[name], comment_of(name)
    reported, protocol = comment.split("Reported: ")[1].split("Protocol: ")
    assert reported.startswith(row.reported)
    assert ("multi-scale training" in protocol) == ("/ms/" in row.data)
    assert "scale" in protocol and f"{row.epochs} epochs" in comment
    rate = re.search(r"(?:AdamW|SGD) ([\d.e-]*\d)", comment)
    assert (float(rate[1]) if rate else row.rate) == row.rate
    gpus = re.search(r"(\d+) GPUs? x (\d+) image", protocol)
    if gpus and row.classes != 1:
        assert int(gpus[1]) * int(gpus[2]) == row.batch


@pytest.mark.parametrize("name", ROWS)
def test_settings_are_those_of_the_row(name):
    row, cfg = ROWS[name], read(name)
    assert cfg.optim_wrapper.optimizer.lr == row.rate
    assert cfg.optim_wrapper.clip_grad.max_norm == 35
    assert cfg.auto_scale_lr == {"enable": False, "base_batch_size": row.batch}
    warm_up, steps = cfg.param_scheduler
    assert (cfg.train_cfg.max_epochs, steps.end, steps.milestones) == (
        row.epochs,
        row.epochs,
        MILESTONES[row.epochs],
    )
    assert warm_up.end == 500 and warm_up.start_factor == pytest.approx(
        1e-3 if name.startswith("rsp/") else 1 / 3
    )
    data = cfg.train_dataloader.dataset
    assert f"{data.data_root}{data.split}" == f"data/{row.data}"
    assert METRICS.build(cfg.test_evaluator).rule == "voc07"
    # mmrotate counts every object of the validation, difficult or cut
    assert cfg.val_dataloader.dataset.get("ignore_difficulty") is None
    server = "dota" in row.data or "fair1m" in row.data
    scale = row.data.split("/")[1]
    assert cfg.get("submission") == (dict(split=f"{scale}/test") if server else None)
    assert DATASETS.get(data.type) is not None and not Path(cfg.data_root).is_absolute()
    assert TASKS.build({**cfg.task, "type": "OrientedDetection"}).name == "detection"


@pytest.mark.parametrize("name", ROWS)
def test_model_builds_for_the_classes_of_its_data(name):
    row, cfg = ROWS[name], read(name)
    init_default_scope(cfg.default_scope)
    drop_sync_bn(cfg)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    heads = [
        part for part in model.modules() if hasattr(part, "num_classes") and not hasattr(part, "rpn_cls")
    ]
    assert heads and {head.num_classes for head in heads} == {row.classes}
    if hasattr(model.backbone, "out_channels"):
        assert list(cfg.model.neck.in_channels) == list(model.backbone.out_channels)


def test_ema_ends_with_the_schedule():
    cfg = read("lsknet/lsknet_s_ema_oriented_rcnn_1x_dota_ms")
    (hook,) = cfg.custom_hooks
    assert hook.gamma == cfg.train_cfg.max_epochs * 8541 and hook.priority == 49


def test_half_precision_where_the_row_says_so():
    wrapped = {name for name in ROWS if read(name).optim_wrapper.type == "AmpOptimWrapper"}
    assert wrapped == {"lsknet/lsknet_s_oriented_rcnn_1x_fair1m_ms"}


def test_stochastic_depth_of_strip_rcnn():
    rates = {name: read(name).model.backbone.drop_path_rate for name in ROWS if name.startswith("stripnet/")}
    low = {name for name, rate in rates.items() if rate == 0.1}
    assert {name.rsplit("_1x_")[-1].rsplit("_3x_")[-1] for name in low} == {"fair1m_ms", "hrsc2016", "dior_r"}
    assert set(rates.values()) == {0.1, 0.15}


def test_roi_transformer_spreads_angles_as_mmrotate_0():
    first, second = read("lsknet/lsknet_s_roi_transformer_1x_dota_ms").model.roi_head.bbox_head
    assert first.bbox_coder.target_stds == (0.1, 0.1, 0.2, 0.2, 1.0) and first.reg_class_agnostic
    assert second.bbox_coder.target_stds == (0.05, 0.05, 0.1, 0.1, 0.5) and not second.reg_class_agnostic


def test_rsp_swin_decays_no_norms():
    cfg = read("rsp/rsp_swin_t_oriented_rcnn_1x_dota_ss")
    assert set(cfg.optim_wrapper.paramwise_cfg.custom_keys) == {
        "absolute_pos_embed",
        "relative_position_bias_table",
        "norm",
    }
    assert (cfg.model.backbone.drop_rate, cfg.model.backbone.frozen_stages) == (0.3, 2)


def test_the_guide_lists_every_config_with_its_number():
    text = (ROOT.parent / "docs/detection.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+/[^`]+)` \| ([^|]+) \|", text, re.M))
    assert set(rows) == set(ROWS)
    for name, row in ROWS.items():
        assert rows[name].startswith("-" if row.reported == "nothing" else row.reported[:4])
