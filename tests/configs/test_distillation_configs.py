"""Configs whose model learns from another one: each trains a step, and equal models have no distance."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmrotate.structures.bbox import RotatedBoxes
from mmseg.structures import SegDataSample

from rsfoundation.engine.config import config_root, list_configs, load_config
from rsfoundation.engine.model_builder import model_config
from rsfoundation.engine.resolve_config import drop_sync_bn

SIDE, BATCH = 128, 2
TASKS = {"toy_detection": "detection", "toy_segmentation": "segmentation", "toy_change": "change"}
TASKS |= {"oriented_rcnn": "detection", "unetformer": "segmentation", "changer_ex": "change"}
NAMES = sorted(name for name, file in list_configs().items() if "\ndistill = dict(" in file.read_text())


def task_of(name):
    return next(task for part, task in TASKS.items() if part in name)


def network(cfg):
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return ROOT_MODELS.build(model_config(cfg))


def with_teacher(name, folder, **changes):
    """Return the student of a config, whose teacher has random weights."""
    cfg = load_config(name)
    cfg.setdefault("distill", {})
    cfg.merge_from_dict({f"distill.{key}": value for key, value in changes.items()})
    teacher = load_config(cfg.distill.teacher_config)
    teacher.pop("distill", None)
    torch.save(dict(state_dict=network(teacher).state_dict(), meta={}), folder / "teacher.pth")
    cfg.distill.teacher_checkpoint = str(folder / "teacher.pth")
    return network(cfg)


def detected():
    sample = DetDataSample(
        metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0))
    )
    boxes = RotatedBoxes(torch.tensor([[20.0, 20, 24, 10, 0.4], [84, 40, 30, 18, -0.7]]))
    sample.gt_instances = InstanceData(labels=torch.tensor([0, 3]), bboxes=boxes)
    sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0).long())
    return sample


def labelled():
    sample = SegDataSample(
        metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE))
    )
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, SIDE, SIDE)))
    return sample


def batch(task):
    bands = 6 if task == "change" else 3
    images = [torch.randint(0, 256, (bands, SIDE, SIDE), dtype=torch.uint8) for _ in range(BATCH)]
    sample = detected if task == "detection" else labelled
    return dict(inputs=images, data_samples=[sample() for _ in range(BATCH)])


def losses_of(model, name):
    found = model(**model.data_preprocessor(batch(task_of(name)), True), mode="loss")
    return found, {key: value for key, value in found.items() if key.endswith("Imitation")}


def test_each_task_has_a_published_size_and_a_toy():
    assert len(NAMES) == 6 and sorted(map(task_of, NAMES)) == sorted([*TASKS.values()])


SLOW = [pytest.param(name, marks=() if "/toy_" in name else pytest.mark.slow) for name in NAMES]


@pytest.mark.parametrize("name", SLOW)
def test_trains_a_step(name, tmp_path):
    model = with_teacher(name, tmp_path).train()
    found, imitated = losses_of(model, name)
    assert len(imitated) == len(load_config(name).distill.losses)
    assert all(value.isfinite() for value in imitated.values())
    compared = [key for key, value in imitated.items() if float(value.detach()) > 0]
    assert len(compared) >= len(imitated) - ("detection" in task_of(name)), "boxes alone may have no sure one"
    for key in compared:
        (reached,) = torch.autograd.grad(imitated[key], next(model.backbone.parameters()), retain_graph=True)
        assert float(reached.abs().sum()) > 0, key
    sum(imitated.values()).backward()
    gradients = [value.grad for value in model.backbone.parameters() if value.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert set(found) > set(imitated)
    assert not any(key.startswith("distiller") for key in model.state_dict())


@pytest.mark.parametrize("name", [name for name in NAMES if "/toy_" in name])
def test_a_model_has_no_distance_from_itself(name, tmp_path):
    config = config_root() / f"{name}.py"
    model = with_teacher(name, tmp_path, teacher_config=str(config))
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("distiller")}
    model.distiller.teacher.load_state_dict(state)
    _, imitated = losses_of(model.eval(), name)
    assert imitated and all(float(value.detach()) < 1e-4 for value in imitated.values())


ONE_STAGE = {
    "retinanet": [
        dict(type="FeatureImitation", module="neck"),
        dict(type="ClassImitation", module="bbox_head"),
        dict(type="BoxImitation", module="bbox_head", min_score=0.0),
    ],
    "s2anet": [
        dict(type="FeatureImitation", module="neck"),
        dict(type="ClassImitation", module="bbox_head_init"),
        dict(type="BoxImitation", module="bbox_head_init", min_score=0.0),
        dict(type="ClassImitation", module="bbox_head_refine.0"),
    ],
}


@pytest.mark.parametrize("kind", ONE_STAGE)
def test_one_stage_detectors_learn_from_one_of_another_backbone(kind, tmp_path):
    names = (f"quickstart/detection_toy_{kind}_{backbone}" for backbone in ("lwganet_l0", "lsknet_t"))
    student, teacher = names
    model = with_teacher(student, tmp_path, teacher_config=teacher, losses=ONE_STAGE[kind]).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    found = model(**model.data_preprocessor(batch("detection"), True), mode="loss")
    imitated = {key: value for key, value in found.items() if key.endswith("Imitation")}
    assert len(imitated) == len(ONE_STAGE[kind])
    for value in imitated.values():
        assert value.isfinite() and value > 0
        (reached,) = torch.autograd.grad(value, next(model.backbone.parameters()), retain_graph=True)
        assert reached.abs().max() > 0
    before = next(model.backbone.parameters()).clone()
    total, _ = model.parse_losses(found)
    total.backward()
    optimizer.step()
    assert not torch.equal(before, next(model.backbone.parameters()))
