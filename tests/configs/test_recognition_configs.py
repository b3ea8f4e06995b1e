"""Every recipe of scene recognition and pretraining: its comment, its settings, its model."""

import re
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.engine.config import config_root, list_configs
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.models.classifiers import SceneClassifier
from rsfoundation.models.masked_image import MaskedImageModel

ROOT = config_root()


class Row(NamedTuple):
    """What a config has to state and to set."""

    reported: str
    classes: int
    batch: int
    epochs: int
    drop_path: float
    mixed: bool  # mixup 0.8, CutMix 1.0, label smoothing 0.1, erasing 0.25


# The rows of the repositories, typed from these, not read from the configs.
ROWS = {
    "rsp_resnet50_300e_millionaid": Row("acc@1 98.99, acc@5 99.82", 51, 128, 300, 0.0, True),
    "rsp_swin_t_300e_millionaid": Row("acc@1 98.59, acc@5 99.88", 51, 128, 300, 0.2, True),
    "vitaev2_s_100e_millionaid": Row("acc@1 98.97, acc@5 99.88", 51, 128, 100, 0.0, True),
    "lwganet_l0_300e_aid": Row("top-1 94.6", 30, 64, 300, 0.0, False),
    "lwganet_l1_300e_aid": Row("top-1 94.85", 30, 64, 300, 0.1, False),
    "lwganet_l2_300e_aid": Row("top-1 95.45", 30, 64, 300, 0.1, False),
    "lwganet_l0_300e_resisc45": Row("top-1 95.49", 45, 64, 300, 0.0, False),
    "lwganet_l1_300e_resisc45": Row("top-1 95.7", 45, 64, 300, 0.1, False),
    "lwganet_l2_300e_resisc45": Row("top-1 96.17", 45, 64, 300, 0.1, False),
    "lwganet_l0_300e_ucm": Row("top-1 98.57", 21, 64, 300, 0.0, False),
    "lwganet_l1_300e_ucm": Row("top-1 98.81", 21, 64, 300, 0.1, False),
    "lwganet_l2_300e_ucm": Row("top-1 98.57", 21, 64, 300, 0.1, False),
    "lsknet_t_300e_imagenet": Row("no accuracy, 300 epochs", 1000, 128, 300, 0.1, True),
    "lsknet_s_300e_imagenet": Row("no accuracy, 300 epochs", 1000, 128, 300, 0.1, True),
    "lsknet_t_300e_eurosat_ms": Row("none", 10, 64, 300, 0.0, False),
}
# Parameters in millions, published for the classifiers of LWGANet with 45 classes.
LWGANET_SIZES = {"l0": 1.72, "l1": 5.90, "l2": 13.0}


def names(folder):
    return [name.split("/")[1] for name in list_configs() if name.startswith(f"{folder}/")]


def read(name, folder="recognition"):
    return Config.fromfile(ROOT / folder / f"{name}.py")


def head_comment(name, folder="recognition"):
    lines = (ROOT / folder / f"{name}.py").read_text().splitlines()
    return " ".join(line[2:] for line in lines if line.startswith("#"))


def test_no_recipe_is_missing_or_unlisted():
    assert set(names("recognition")) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_the_comment_states_the_reported_number_and_its_protocol(name):
    comment, row = head_comment(name), ROWS[name]
    assert re.search(rf"Reported: {re.escape(row.reported)}(?![\d])", comment) and "Protocol: " in comment


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_is_the_published_one(name):
    cfg, row = read(name), ROWS[name]
    model, optimizer = cfg.model, cfg.optim_wrapper.optimizer
    assert model.head.num_classes == row.classes
    assert cfg.train_dataloader.batch_size == row.batch and cfg.train_cfg.max_epochs == row.epochs
    assert model.backbone.get("drop_path_rate", 0.0) == row.drop_path
    rate = 1e-3 if "imagenet" in name else 5e-4
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", rate, 0.05)
    assert cfg.optim_wrapper.clip_grad == dict(max_norm=5, norm_type=2)
    assert cfg.optim_wrapper.paramwise_cfg == dict(flat_decay_mult=0.0)  # biases and all of one dimension
    cosine = cfg.param_scheduler[-1]
    assert cosine.type == "CosineAnnealingLR" and cosine.end == row.epochs
    mixing = model.data_preprocessor
    found = (mixing.get("mixup", 0), mixing.get("cutmix", 0), mixing.get("erasing", 0))
    assert found == ((0.8, 1.0, 0.25) if row.mixed else (0, 0, 0))
    assert model.head.get("label_smoothing", 0) == (0.1 if row.mixed else 0)
    steps = {step.type.rsplit(".", 1)[-1]: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps["RandomResizedCrop"]["size"] == (64 if "eurosat" in name else 224)
    assert ("RandAugment" in steps) == ("eurosat" not in name)
    assert "init_cfg" not in model.backbone  # from random weights


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_builds_its_classifier(name):
    cfg = read(name)
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert isinstance(model, SceneClassifier) and model.head.fc.out_features == ROWS[name].classes
    if name.endswith("resisc45"):
        millions = sum(value.numel() for value in model.parameters()) / 1e6
        assert millions == pytest.approx(LWGANET_SIZES[cfg.model.backbone.arch], rel=5e-3)


@pytest.mark.parametrize("name", names("pretraining"))
def test_a_pretraining_states_what_is_reported_and_builds(name):
    assert "Reported: none." in head_comment(name, "pretraining")
    cfg = read(name, "pretraining")
    cfg.model.backbone.pop("init_cfg", None)
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert isinstance(model, MaskedImageModel)
    assert cfg.default_hooks.checkpoint.save_best is None and "val_cfg" not in cfg
