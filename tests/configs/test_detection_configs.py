"""The quickstart configs, and the figures that all published Oriented R-CNN rows share."""

from locations import CONFIGS
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from rsfoundation.io.dota import read_dota_txt
from rsfoundation.registry import DATASETS, METRICS, TASKS

QUICKSTART = sorted((CONFIGS / "quickstart").glob("detection*.py"))


@pytest.fixture(params=QUICKSTART, ids=lambda path: path.stem)
def cfg(request):
    config = Config.fromfile(request.param)
    init_default_scope(config.default_scope)
    return config


def test_there_are_configs():
    assert len(QUICKSTART) >= 7


def test_model_builds_on_its_backbone(cfg):
    model = MODELS.build(cfg.model)
    assert list(cfg.model.neck.in_channels) == list(model.backbone.out_channels)
    heads = [part for part in model.modules() if hasattr(part, "bbox_coder") and not hasattr(part, "rpn_cls")]
    assert heads and {head.bbox_coder.angle_version for head in heads} <= {"le90", "le135"}


def test_task_metric_and_data_set_are_ours(cfg):
    assert TASKS.build({**cfg.task, "type": "OrientedDetection"}).name == "detection"
    assert METRICS.build(cfg.val_evaluator) is not None
    assert DATASETS.get(cfg.train_dataloader.dataset.type) is not None
    assert not Path(cfg.data_root).is_absolute()


def test_oriented_rcnn_base_figures():
    """The table that all published rows derive from."""
    cfg = Config.fromfile(CONFIGS / "lsknet/lsknet_t_oriented_rcnn_1x_dota_ms.py")
    model = cfg.model
    assert model.rpn_head.bbox_coder.target_stds == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]
    assert model.rpn_head.loss_bbox.beta == pytest.approx(1 / 9)
    assert model.train_cfg.rpn.assigner.iou_calculator.type == "RBbox2HBboxOverlaps2D"
    assert (model.train_cfg.rpn.assigner.gpu_assign_thr, model.train_cfg.rcnn.assigner.gpu_assign_thr) == (
        800,
        800,
    )
    for proposals in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        assert (proposals.nms_pre, proposals.max_per_img, proposals.nms.iou_threshold) == (2000, 2000, 0.8)
    assert model.test_cfg.rcnn.nms == {"type": "nms_rotated", "iou_threshold": 0.1}
    assert cfg.optim_wrapper.optimizer.lr == 2e-4 and cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.dataset.split == "ms/trainval"
    assert cfg.test_dataloader.dataset.split == "ms/val"


def test_one_training_step_and_one_prediction_of_the_quickstart(make_split):
    """Every part meets: reader, pipeline, model, loss, metric; an image without objects included."""
    row = "10 10 30 10 30 20 10 20 ship 0"
    root = make_split({"a": f"{row}\n32 24 50 30 47 39 29 33 plane 0", "b": ""})
    assert len(read_dota_txt(root / "train/labelTxt/a.txt").objects) == 2
    cfg = Config.fromfile(CONFIGS / "quickstart/detection_toy_lsknet_t.py")
    init_default_scope(cfg.default_scope)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        (resize,) = (step for step in loader.dataset.pipeline if step.type == "mmdet.Resize")
        resize.scale = (96, 96)
    data = DATASETS.build({**cfg.train_dataloader.dataset, "data_root": str(root), "filter_cfg": None})
    model = MODELS.build(_without_sync(cfg.model))
    batch = [data[0], data[1]]
    inputs = {key: [item[key] for item in batch] for key in batch[0]}
    losses = model(**model.data_preprocessor(inputs, True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert torch.isfinite(total)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.backbone.parameters())

    held_out = DATASETS.build({**cfg.val_dataloader.dataset, "data_root": str(root), "split": "train"})
    metric = METRICS.build(cfg.val_evaluator)
    metric.dataset_meta = held_out.metainfo
    model.eval()
    for index in range(2):
        item = held_out[index]
        with torch.no_grad():
            samples = model.val_step({key: [value] for key, value in item.items()})
        metric.process({}, [sample.to_dict() for sample in samples])
    assert 0 <= metric.evaluate(2)["detection/mAP50"] <= 1


def _without_sync(model):
    model.backbone.norm_cfg.type = "BN"
    return model
