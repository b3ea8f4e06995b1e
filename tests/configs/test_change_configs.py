"""Every config of change detection: its comment, its settings, one step of training and one prediction."""

import re
from typing import NamedTuple

import pytest
import torch
from cd_samples import change_samples
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope

from rsfoundation.engine.config import config_root, list_configs
from rsfoundation.engine.resolve_config import drop_sync_bn

ROOT = config_root()
SIDE = 64


class Row(NamedTuple):
    """What a config has to state and to set."""

    reported: str
    data: str
    batch: int
    rate: float
    length: int  # iterations, or epochs below 1000


def _rows():
    """The published rows, typed from the papers and from Open-CD's tables, not read from the configs."""
    rows = {
        "lsknet/lsknet_s_changer_ex_40k_levir_cd": Row("92.27 F1", "levir_cd", 8, 1e-4, 40000),
        "lsknet/lsknet_s_changer_ex_80k_s2looking": Row("67.52 F1", "s2looking", 8, 1e-4, 80000),
    }
    a2net = {"levir_cd": "91.86", "whu_cd": "94.87", "cdd": "93.18", "sysu_cd": "83.41"}
    clafa = {"levir_cd": "92.42", "whu_cd": "95.24", "cdd": "93.77", "sysu_cd": "82.90"}
    folders = {"levir_cd": "levir_cd_256"}
    for data in a2net:
        folder = folders.get(data, data)
        rows[f"lwganet/lwganet_l0_a2net_40k_{data}"] = Row(f"{a2net[data]} F1", folder, 32, 5e-4, 40000)
        rows[f"lwganet/lwganet_l2_clafa_200e_{data}"] = Row(f"{clafa[data]} F1", folder, 16, 5e-4, 200)
    rsp = {"rsp_resnet50": ("90.10", "96.00"), "rsp_swin_t": ("90.10", "95.21"), "vitaev2_s": ("90.93", "96.81")}
    for backbone, numbers in rsp.items():
        rate = 1e-3 if backbone == "rsp_resnet50" else 6e-5
        for data, number in zip(("levir_cd", "cdd"), numbers, strict=True):
            row = Row(f"{number} F1", folders.get(data, data), 8, rate, 200)
            rows[f"rsp/{backbone}_bit_200e_{data}"] = row
    levir = {
        "fc_ef_40k": ("87.47", "85.84", 1e-3),
        "fc_siam_diff_40k": ("91.14", "87.31", 1e-3),
        "fc_siam_conc_40k": ("88.08", "88.51", 1e-3),
        "snunet_c16_40k": ("92.70", "91.35", 1e-3),
        "tinycd_40k": ("91.87", "90.87", 0.00356799066427741),
        "bit_r18_40k": ("91.97", "90.26", 1e-3),
        "stanet_base_r18_40k": ("69.20", "80.57", 1e-3),
        "stanet_bam_r18_40k": ("70.01", "81.18", 1e-3),
        "stanet_pam_r18_40k": ("72.79", "82.88", 1e-3),
        "changeformer_mit_b0_40k": ("93.00", "90.52", 6e-5),
        "changeformer_mit_b1_40k": ("92.59", "91.11", 6e-5),
        "changer_ex_r18_40k": ("92.86", "91.81", 5e-3),
        "changer_ex_s50_40k": ("93.47", "92.19", 5e-3),
        "changer_ex_s101_40k": ("93.38", "92.33", 5e-3),
        "changer_ex_mit_b0_40k": ("93.61", "92.06", 1e-4),
    }
    for name, (precision, f1, rate) in levir.items():
        rows[f"opencd/{name}_levir_cd"] = Row(f"{precision} precision.*{f1} F1", "levir_cd", 8, rate, 40000)
    s2looking = {
        "r18": ("75.04", "66.28", 1e-3),
        "s50": ("74.63", "67.18", 1e-3),
        "s101": ("74.40", "67.61", 1e-3),
        "mit_b0": ("73.01", "67.08", 1e-4),
    }
    for name, (precision, f1, rate) in s2looking.items():
        row = Row(f"{precision} precision.*{f1} F1", "s2looking", 8, rate, 80000)
        rows[f"opencd/changer_ex_{name}_80k_s2looking"] = row
    rows["opencd/snunet_c16_120k_cdd"] = Row("94.69 precision.*93.27 F1", "cdd", 8, 0.01, 120000)
    return rows


ROWS = _rows()


def is_change(path):
    text = path.read_text()
    bases = re.findall(r"'\.\./_base_/(heads/\w+)\.py'", text)
    return any("ChangeDetection" in (ROOT / "_base_" / f"{base}.py").read_text() for base in bases)


CONFIGS = [name for name, path in list_configs().items() if is_change(path)]


def read(name):
    return Config.fromfile(ROOT / f"{name}.py")


def test_every_row_has_a_config_and_every_other_config_reports_nothing():
    assert set(ROWS) <= set(CONFIGS)
    for name in set(CONFIGS) - set(ROWS):
        text = (ROOT / f"{name}.py").read_text()
        assert "Reported: nothing" in text or name.startswith(("quickstart/", "distill/toy_")), name


@pytest.mark.parametrize("name", ROWS)
def test_comment_and_settings_are_those_of_the_row(name):
    row, cfg = ROWS[name], read(name)
    lines = [line[2:] for line in (ROOT / f"{name}.py").read_text().splitlines() if line.startswith("#")]
    reported, protocol = " ".join(lines).split("Reported: ")[1].split("Protocol: ")
    assert re.match(row.reported, reported)
    assert "confusion matrix" in protocol and f"x {row.batch} pairs" in protocol
    assert cfg.optim_wrapper.optimizer.lr == row.rate
    assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == row.batch
    assert cfg.train_dataloader.dataset.data_root == f"data/{row.data}/"
    assert cfg.train_cfg.get("max_iters", cfg.train_cfg.get("max_epochs")) == row.length
    last = cfg.param_scheduler[-1]
    assert last.end == row.length and last.by_epoch == (row.length < 1000)
    if row.length > 1000:
        assert cfg.default_hooks.checkpoint.interval % cfg.train_cfg.val_interval == 0
    assert cfg.default_hooks.checkpoint.save_best == "auto"  # the F1 of the changed class
    assert cfg.test_evaluator.type == "rsfoundation.ChangeMetric"


def without_downloads(node):
    """Start from random weights."""
    if isinstance(node, dict):
        if (node.get("init_cfg") or {}).get("type") == "Pretrained":
            node.pop("init_cfg")
        if node.get("type") == "rsfoundation.TinyCD":
            node["pretrained"] = False
        for value in node.values():
            without_downloads(value)


def cases():
    """Larger editions of a network that is there already are slow."""
    large = ("_s101_", "_s50_", "_r50_", "_mit_b1_", "lsknet_s", "_bam_", "_whu_cd", "_sysu_cd", "_s2looking")
    slow = [name for name in CONFIGS if any(part in name for part in large) or name.endswith("_cdd")]
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in CONFIGS]


def batch(semantic):
    label = torch.zeros(2, SIDE, SIDE, dtype=torch.long)
    label[:, :20, 30:] = 1
    land = dict(gt_sem_seg_from=label, gt_sem_seg_to=label * 2) if semantic else {}
    pairs = [torch.randint(0, 256, (6, SIDE, SIDE), dtype=torch.uint8) for _ in range(2)]
    return dict(inputs=pairs, data_samples=change_samples(*label, **land))


@pytest.mark.parametrize("name", cases())
def test_trains_one_step_and_predicts(name):
    torch.manual_seed(0)
    cfg = read(name)
    drop_sync_bn(cfg)
    without_downloads(cfg.model)
    init_default_scope(cfg.default_scope)
    model = ROOT_MODELS.build(cfg.model)
    semantic = cfg.model.type.endswith("MultiDecoder")
    model.train()
    losses = model(**model.data_preprocessor(batch(semantic), True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    trained = [gradient for gradient in gradients if gradient is not None]
    assert torch.isfinite(total) and all(gradient.isfinite().all() for gradient in trained)
    assert len(trained) == len(gradients) or cfg.get("find_unused_parameters")
    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch(semantic))
    for sample in samples:
        assert sample.pred_sem_seg.data.shape == (1, SIDE, SIDE)
        assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 1}
        assert not semantic or sample.pred_sem_seg_to.data.shape == (1, SIDE, SIDE)
