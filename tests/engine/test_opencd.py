"""Configs of Open-CD run as they are, where Open-CD is not installed and where it is."""

import subprocess
import sys

import pytest
from cd_samples import write_pair
from locations import ROOT
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.registry import MODELS as ROOT_MODELS

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.config import load_config
from rsfoundation.engine.evaluate import test as run_test
from rsfoundation.engine.resolve_config import RunOptions
from rsfoundation.engine.train import train
from rsfoundation.models.heads.changer_head import Changer

CONFIG = """
default_scope = 'opencd'
norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='DualInputSegDataPreProcessor', mean=[123.675, 116.28, 103.53] * 2, std=[58.395, 57.12, 57.375] * 2,
    bgr_to_rgb=True, size_divisor=32, pad_val=0, seg_pad_val=255, test_cfg=dict(size_divisor=32))
model = dict(
    type='DIEncoderDecoder', data_preprocessor=data_preprocessor, pretrained=None,
    backbone=dict(
        type='IA_ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 1, 1),
        strides=(1, 2, 2, 2), norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True,
        interaction_cfg=(None, dict(type='SpatialExchange', p=1 / 2), dict(type='ChannelExchange', p=1 / 2),
                         dict(type='ChannelExchange', p=1 / 2))),
    decode_head=dict(
        type='Changer', in_channels=[64, 128, 256, 512], in_index=[0, 1, 2, 3], channels=16,
        dropout_ratio=0.1, num_classes=2, norm_cfg=norm_cfg, align_corners=False,
        sampler=dict(type='mmseg.OHEMPixelSampler', thresh=0.7, min_kept=100),
        loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(), test_cfg=dict(mode='slide', crop_size=(64, 64), stride=(32, 32)))
train_pipeline = [
    dict(type='MultiImgLoadImageFromFile'), dict(type='MultiImgLoadAnnotations'),
    dict(type='MultiImgRandomRotFlip', rotate_prob=0.5, flip_prob=0.5, degree=(-20, 20)),
    dict(type='MultiImgRandomCrop', crop_size=(32, 32), cat_max_ratio=0.75),
    dict(type='MultiImgExchangeTime', prob=0.5),
    dict(type='MultiImgPhotoMetricDistortion', brightness_delta=10, contrast_range=(0.8, 1.2),
         saturation_range=(0.8, 1.2), hue_delta=10),
    dict(type='opencd.MultiImgPackSegInputs')]
test_pipeline = [
    dict(type='MultiImgLoadImageFromFile'), dict(type='MultiImgResize', scale=(64, 64), keep_ratio=True),
    dict(type='MultiImgLoadAnnotations'), dict(type='MultiImgPackSegInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='LEVIR_CD_Dataset', data_root={root!r}, pipeline=train_pipeline,
                 data_prefix=dict(seg_map_path='label', img_path_from='A', img_path_to='B')))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='LEVIR_CD_Dataset', data_root={root!r}, pipeline=test_pipeline,
                 data_prefix=dict(seg_map_path='label', img_path_from='A', img_path_to='B')))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mFscore', 'mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.005, betas=(0.9, 0.999)))
param_scheduler = [dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=2)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, save_best='mIoU'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='CDVisualizationHook', interval=1, img_shape=(1024, 1024, 3)))
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
vis_backends = [dict(type='CDLocalVisBackend')]
visualizer = dict(type='CDLocalVisualizer', vis_backends=vis_backends, name='visualizer', alpha=1.0)
log_processor = dict(by_epoch=False)
tta_model = dict(type='mmseg.SegTTAModel')
"""


@pytest.fixture
def config(tmp_path):
    for name, size in (("one", (64, 64)), ("two", (64, 96))):  # Open-CD's pictures have one size for all
        write_pair(tmp_path / "data", name, size=size)
    path = tmp_path / "changer_ex_r18.py"
    path.write_text(CONFIG.replace("{root!r}", repr(str(tmp_path / "data"))))
    return path


def test_a_config_trains_and_tests_as_it_is(config, tmp_path):
    options = RunOptions(work_dir=tmp_path / "run", device="cpu")
    trained = train(config, options)
    assert trained.last_checkpoint is not None
    assert "changed/F1" in trained.metrics
    assert list((tmp_path / "run").glob("best_mIoU_*.pth"))
    tested = run_test(config, trained.last_checkpoint, options)
    assert 0 <= tested.metrics["changed/IoU"] <= 100
    assert len(list((tmp_path / "run" / "pictures" / "test").glob("*.png"))) == 2


def test_plain_mmengine_finds_our_parts_in_its_scope(config):
    cfg = Config.fromfile(config)
    with DefaultScope.overwrite_default_scope("opencd"):
        model = ROOT_MODELS.build(cfg.model)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert isinstance(model.decode_head, Changer)
    assert dataset[0]["inputs"].shape == (6, 32, 32)
    assert ROOT_MODELS.get("opencd.Changer") is ROOT_MODELS.get("rsfoundation.Changer") is Changer


def test_early_fusion_by_mmsegs_model_needs_no_scope_in_its_name(config):
    """Open-CD's own early-fusion configs name ``EncoderDecoder`` without a scope and do not run there."""
    changed = config.read_text().replace("type='DIEncoderDecoder'", "type='EncoderDecoder'")
    changed = changed.replace("type='IA_ResNetV1c'", "type='mmseg.ResNetV1c', in_channels=6")
    start = changed.index("        interaction_cfg=")
    stop = changed.index("    decode_head=")
    changed = changed[:start].rstrip().rstrip(",") + "),\n" + changed[stop:]
    changed = changed.replace(
        "type='Changer', in_channels=[64, 128, 256, 512]",
        "type='mmseg.SegformerHead', in_channels=[64, 128, 256, 512]",
    )
    config.write_text(changed)
    trained = train(config, RunOptions(work_dir=config.parent / "run", device="cpu"))
    assert "changed/F1" in trained.metrics


def test_parts_that_only_open_cd_has_are_named(config):
    config.write_text(config.read_text().replace("type='Changer'", "type='IFN'"))
    with pytest.raises(ConfigError, match=r"part of Open-CD .* does not have") as caught:
        train(config, RunOptions(device="cpu", work_dir=config.parent / "run"))
    assert "model.decode_head.type" in str(caught.value.where) and "Open-CD" in str(caught.value.fix)


def test_other_configs_stay_as_they_are(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("default_scope = 'mmseg'\nval_evaluator = dict(type='IoUMetric')\n")
    assert load_config(path).to_dict() == dict(default_scope="mmseg", val_evaluator=dict(type="IoUMetric"))


REGISTRY = """
from mmengine.registry import MODELS as ROOT, Registry
MODELS = Registry('model', parent=ROOT, scope='opencd')
@MODELS.register_module()
class Changer:
    pass
"""


def with_opencd(folder, init, config, expression):
    """Print an expression of ``cfg`` in a new process where a package ``opencd`` can be found."""
    package = folder / "site" / "opencd"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(init)
    (package / "registry.py").write_text(REGISTRY)
    program = (
        "from mmengine.registry import MODELS\n"
        "from rsfoundation.engine.config import load_config\n"
        f"cfg = load_config({str(config)!r})\n"
        f"print(cfg.default_scope, {expression})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{ROOT}:{folder / 'site'}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1], done.stdout + done.stderr


def test_an_installed_open_cd_keeps_its_scope(config, tmp_path):
    result, _ = with_opencd(tmp_path, "", config, "cfg.task.type, MODELS.get('opencd.Changer').__module__")
    assert result == "opencd rsfoundation.ChangeDetection opencd.registry"


def test_an_open_cd_that_cannot_be_imported_counts_as_absent(config, tmp_path):
    init = "assert False, 'mmcv is incompatible'"
    result, log = with_opencd(tmp_path, init, config, "cfg.train_pipeline[-1].type")
    assert result == "rsfoundation rsfoundation.MultiImgPackSegInputs"
    assert "cannot be imported (AssertionError: mmcv is incompatible)" in log
