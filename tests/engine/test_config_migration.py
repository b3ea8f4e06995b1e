"""Configs of mmrotate, mmseg and Open-CD become configs of this package; what is not understood is named."""

import textwrap

import pytest

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.config_migration import convert_config

SCHEDULE = """
data = dict(samples_per_gpu=2)
optimizer = dict(type='AdamW', lr=0.0002, weight_decay=0.05)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.25, step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
my_key = 3
"""
ROTATED = """
img_norm_cfg = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
model = dict(
    type='RotatedRetinaNet',
    pretrained='weights.pth',
    backbone=dict(type='LSKNet', embed_dims=[32, 64, 160, 256], depths=[3, 3, 5, 2], drop_path_rate=0.1),
    neck=dict(type='FPN', in_channels=[32, 64, 160, 256], out_channels=64, start_level=1, num_outs=5,
              add_extra_convs='on_input'),
    bbox_head=dict(
        type='RotatedRetinaHead', num_classes=15, in_channels=64, stacked_convs=1, feat_channels=64,
        anchor_generator=dict(type='RotatedAnchorGenerator', octave_base_scale=4, scales_per_octave=3,
                              ratios=[1.0, 0.5, 2.0], strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHAOBBoxCoder', angle_range='le90', norm_factor=None, edge_swap=True,
                        proj_xy=True, target_means=[0.0] * 5, target_stds=[1.0] * 5),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0)),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
                      ignore_iof_thr=-1, iou_calculator=dict(type='RBboxOverlaps2D')),
        allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=2000, min_bbox_size=0, score_thr=0.05, nms=dict(iou_thr=0.1), max_per_img=2000))
"""


def write(folder, text):
    file = folder / "old.py"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def test_a_detector_of_mmrotate_0x_builds(tmp_path):
    old = write(tmp_path, ROTATED + SCHEDULE)
    done = convert_config(old, tmp_path / "new.py")
    assert done.dialect == "mmrotate 0.x" and done.task == "OrientedDetection"
    # every key that is not understood, with its line; the network builds, or it would be one of them
    line = old.read_text().splitlines().index("my_key = 3") + 1
    assert [(one.key, one.where) for one in done.unknown] == [("my_key", f"{old}:{line}")]
    namespace = {}
    text = (tmp_path / "new.py").read_text(encoding="utf-8")
    exec(text, namespace)
    model = namespace["model"]
    assert model["type"] == "mmdet.RetinaNet" and model["backbone"]["arch"] == "t"
    assert model["backbone"]["init_cfg"] == dict(type="Pretrained", checkpoint="weights.pth")
    assert model["data_preprocessor"]["mean"] == [1.0, 2.0, 3.0]
    assert model["test_cfg"]["nms"] == dict(iou_threshold=0.1, type="nms_rotated")
    assert model["bbox_head"]["anchor_generator"]["angle_version"] is None
    assert model["bbox_head"]["bbox_coder"]["angle_version"] == "le90"
    assert namespace["optim_wrapper"]["clip_grad"] == dict(max_norm=35, norm_type=2)
    warm, steps = namespace["param_scheduler"]
    assert (warm["start_factor"], warm["end"], steps["milestones"]) == (0.25, 500, [8, 11])
    assert namespace["train_cfg"]["max_epochs"] == 12
    # MMEngine refuses loaders and metrics of validation and test without their loops
    assert (namespace["val_cfg"], namespace["test_cfg"]) == (dict(type="ValLoop"), dict(type="TestLoop"))


def test_what_cannot_be_converted_is_named_with_its_line(tmp_path):
    text = ROTATED.replace("'FocalLoss'", "'OurLoss'").replace("'step'", "'cyclic'")
    done = convert_config(write(tmp_path, text), tmp_path / "new.py")
    found = {one.key: one for one in done.unknown}
    assert "model.bbox_head.loss_cls.type" in found
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "loss_cls" in row)
    assert found["model.bbox_head.loss_cls.type"].where.endswith(f":{line}")
    assert "does not build" in found["model"].why
    assert "# Not converted: model.bbox_head.loss_cls.type" in done.text


def test_hooks_are_named_but_for_the_count_of_classes(tmp_path):
    text = ROTATED + "custom_hooks = [dict(type='NumClassCheckHook'), dict(type='OurHook', rate=2)]\n"
    done = convert_config(write(tmp_path, text), tmp_path / "new.py")
    (found,) = (one for one in done.unknown if one.key == "custom_hooks")
    assert "OurHook" in found.why and found.where.endswith(f":{len(text.splitlines())}")
    assert "# Not converted: custom_hooks (OurHook" in done.text


def test_a_segmentor_of_mmseg_0x(tmp_path):
    text = """
    img_norm_cfg = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)
    model = dict(
        type='EncoderDecoder',
        backbone=dict(type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3)),
        decode_head=dict(type='FCNHead', in_channels=512, in_index=3, channels=32, num_classes=6,
                         loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False)),
        test_cfg=dict(mode='whole'))
    data = dict(samples_per_gpu=2)
    optimizer = dict(type='SGD', lr=0.01)
    lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)
    runner = dict(type='IterBasedRunner', max_iters=80000)
    """
    done = convert_config(write(tmp_path, text), tmp_path / "new.py", "potsdam")
    assert (done.dialect, done.task, done.unknown) == ("mmseg 0.x", "SemanticSegmentation", ())
    assert "'end': 80000" in done.text and "datasets/potsdam.py" in done.text


def test_a_config_of_open_cd(tmp_path):
    text = """
    default_scope = 'opencd'
    model = dict(
        type='SiamEncoderDecoder',
        data_preprocessor=dict(type='DualInputSegDataPreProcessor', mean=[0.0] * 6, std=[1.0] * 6),
        backbone=dict(type='mmseg.ResNetV1c', depth=18),
        neck=dict(type='FeatureFusionNeck', policy='concat'),
        decode_head=dict(type='mmseg.FCNHead', in_channels=1024, in_index=3, channels=32, num_classes=2,
                         loss_decode=dict(type='mmseg.CrossEntropyLoss')),
        test_cfg=dict(mode='whole'))
    """
    done = convert_config(write(tmp_path, text), tmp_path / "new.py")
    assert (done.dialect, done.task, done.unknown) == ("Open-CD", "ChangeDetection", ())


def test_options_that_a_type_does_not_have_are_named_with_their_line_in_a_base(tmp_path):
    base = ROTATED.replace("type='FPN',", "type='FPN',\n              speed_up=True,")
    (tmp_path / "base.py").write_text(base + SCHEDULE, encoding="utf-8")
    old = write(tmp_path, "_base_ = ['base.py']\nmodel = dict(\n    bbox_head=dict(fast=1))\n")
    done = convert_config(old, tmp_path / "new.py")
    rows = (base + SCHEDULE).splitlines()
    line, other = (next(i for i, row in enumerate(rows, 1) if word in row) for word in ("speed_up", "my_key"))
    assert {one.key: one.where for one in done.unknown} == {
        "model.neck.speed_up": f"{tmp_path / 'base.py'}:{line}",
        "model.bbox_head.fast": f"{old}:3",
        "my_key": f"{tmp_path / 'base.py'}:{other}",
    }
    assert "speed_up=" not in done.text and "# Not converted: model.neck.speed_up" in done.text


CHANGE = """
default_scope = 'opencd'
model = dict(
    type='SiamEncoderDecoder',
    backbone=dict(type='mmseg.ResNetV1c', depth=18),
    neck=dict(type='FeatureFusionNeck', policy='concat'),
    decode_head=dict(type='mmseg.FCNHead', in_channels=1024, in_index=3, channels=32, num_classes=2,
                     loss_decode=dict(type='mmseg.CrossEntropyLoss')))
train_dataloader = dict(batch_size=3)
"""


@pytest.mark.parametrize(
    ("schedule", "dataset", "pipeline", "sampler"),
    [
        (
            "train_cfg = dict(type='IterBasedTrainLoop', max_iters=40, val_interval=20)",
            "levir_cd",
            "change_standard_256",
            "InfiniteSampler",
        ),
        (
            "train_cfg = dict(by_epoch=True, max_epochs=4)",
            "levir_cd",
            "change_standard_256",
            "DefaultSampler",
        ),
        ("train_cfg = dict(by_epoch=True, max_epochs=4)", "toy_change", None, "DefaultSampler"),
    ],
)
def test_the_new_config_has_all_that_a_training_needs(tmp_path, schedule, dataset, pipeline, sampler):
    done = convert_config(write(tmp_path, CHANGE + schedule), tmp_path / "new.py", dataset)
    cfg = load_config(tmp_path / "new.py")  # bases are found from wherever it is written
    assert done.unknown == ()
    loader = cfg.train_dataloader
    # an infinite sampler would never end an epoch, and rates belong to the batch
    assert (loader.batch_size, loader.sampler.type) == (3, sampler)
    assert loader.dataset.pipeline[0].type.startswith("rsfoundation.")
    assert (f"pipelines/{pipeline}.py" in done.text) if pipeline else ("pipelines" not in done.text)
    if "max_iters" in schedule:
        assert cfg.default_hooks.checkpoint.interval == 20 and not cfg.log_processor.by_epoch


def test_a_data_set_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="no data set is called 'dota'") as raised:
        convert_config(write(tmp_path, CHANGE), tmp_path / "new.py", "dota")
    assert "dota_ss" in raised.value.fix and not (tmp_path / "new.py").exists()


def test_old_configs_are_refused_with_the_command(tmp_path):
    old = write(tmp_path, ROTATED + SCHEDULE)
    with pytest.raises(ConfigError, match=r"0\.x") as raised:
        load_config(old)
    assert raised.value.fix.startswith("rsf convert config")


@pytest.mark.parametrize(
    ("text", "what"), [("x = 1\n", "has no model"), ("_base_ = 'nowhere.py'\n", "cannot be read")]
)
def test_files_that_are_no_configs(tmp_path, text, what):
    with pytest.raises(ConfigError, match=what):
        convert_config(write(tmp_path, text), tmp_path / "new.py")
    with pytest.raises(ConfigError, match="no such config"):
        convert_config(tmp_path / "none.py", tmp_path / "new.py")
    assert not (tmp_path / "new.py").exists()
