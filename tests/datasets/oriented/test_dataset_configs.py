"""The shipped data set configs: every one reads, names registered parts, and sets up what it says."""

from pathlib import Path

import pytest
from locations import CONFIGS
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope

from rsfoundation.registry import DATASETS, METRICS

FOLDER = CONFIGS / "_base_" / "datasets"
UPRIGHT = {"dota_ss", "dota_ms", "dota15_ss", "dota15_ms", "dota2_ss"}
ORIENTED = sorted(
    UPRIGHT | {"dior_r", "fair1m_ms", "hrsc2016", "ssdd_rotated", "hrsid_rotated", "rsp_dota_ss", "rsp_hrsc"}
)


@pytest.fixture(params=ORIENTED)
def cfg(request):
    return Config.fromfile(FOLDER / f"{request.param}.py")


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmrotate")


def build(loader):
    return DATASETS.build({**loader.dataset, "lazy_init": True})


def test_parts_build(cfg):
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        data = build(loader)
        assert data.metainfo["classes"] and not Path(data.data_root).is_absolute()
        assert [TRANSFORMS.build(step) for step in loader.dataset.pipeline]
    assert METRICS.build(cfg.val_evaluator) is not None and cfg.test_evaluator == cfg.val_evaluator
    assert cfg.val_dataloader.dataset.test_mode and cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt


@pytest.mark.parametrize(
    ("name", "classes", "upright", "scale"),
    [
        ("dota_ss", 15, [9, 11], (1024, 1024)),
        ("dota_ms", 15, [9, 11], (1024, 1024)),
        ("dota15_ss", 16, [9, 11], (1024, 1024)),
        ("dota15_ms", 16, [9, 11], (1024, 1024)),
        ("dota2_ss", 18, [9, 11], (1024, 1024)),
        ("dior_r", 20, [15], (800, 800)),
        ("fair1m_ms", 37, [9, 11], (1024, 1024)),  # as published: ARJ21 and Passenger_Ship
        ("hrsc2016", 1, [], (800, 800)),
        ("ssdd_rotated", 1, [], (512, 512)),
        ("hrsid_rotated", 1, [], (800, 800)),
        ("rsp_dota_ss", 15, [], (1024, 1024)),
        ("rsp_hrsc", 1, [], (1333, 800)),
    ],
)
def test_classes_upright_labels_and_size(name, classes, upright, scale):
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    data = build(cfg.train_dataloader)
    assert len(data.metainfo["classes"]) == classes and data.upright_labels == upright
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        (resize,) = (step for step in loader.dataset.pipeline if step.type == "mmdet.Resize")
        assert resize.scale == scale and resize.keep_ratio


def test_what_was_meant_for_fair1m_is_one_option_away():
    cfg = Config.fromfile(FOLDER / "fair1m_ms.py")
    cfg.merge_from_dict({"train_dataloader.dataset.upright_classes": ["Roundabout"]})
    data = build(cfg.train_dataloader)
    assert [data.metainfo["classes"][label] for label in data.upright_labels] == ["Roundabout"]


@pytest.mark.parametrize("name", ORIENTED)
def test_augmentation_is_the_published_one(name):
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    steps = {}
    for step in cfg.train_dataloader.dataset.pipeline:
        steps.setdefault(step.type.split(".")[-1], []).append(step)
    if name.startswith("rsp_"):
        assert [(flip.prob, flip.direction) for flip in steps["RandomFlip"]] == [
            (0.5, "horizontal"),
            (0.5, "vertical"),
        ]
        assert "RandomRotate" not in steps and cfg.train_dataloader.dataset.small == "ignore"
    else:
        (flip,), (turn,) = steps["RandomFlip"], steps["RandomRotate"]
        assert flip.prob == 0.75 and flip.direction == ["horizontal", "vertical", "diagonal"]
        assert (turn.prob, turn.angle_range) == (0.5, 180)


@pytest.mark.parametrize("name", sorted(UPRIGHT | {"fair1m_ms", "rsp_dota_ss"}))
def test_tiled_sets_state_their_cut(name):
    cfg = Config.fromfile(FOLDER / f"{name}.py")
    expected = "ms" if name.endswith("_ms") else "ss"
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.dataset.preset == expected and loader.dataset.split.startswith(f"{expected}/")
