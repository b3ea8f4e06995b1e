"""What options and evaluators of a test change in its config."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from rsfoundation.core.errors import ConfigError
from rsfoundation.core.task import RunRequest
from rsfoundation.engine.model_builder import model_config
from rsfoundation.geometry.boxes import flip, normalise
from rsfoundation.models.detectors.test_time_augmentation import OrientedTTA, unflipped, use_tta
from rsfoundation.tasks.detection import OrientedDetection


@pytest.fixture
def cfg():
    steps = [
        dict(type="rsfoundation.LoadImageFromFile"),
        dict(type="mmdet.Resize", scale=(100, 80), keep_ratio=True),
        dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
        dict(type="ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
        dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "img_path")),
    ]
    return Config(
        dict(
            work_dir="run",
            model=dict(type="Detector"),
            test_dataloader=dict(dataset=dict(type="DOTADataset", pipeline=steps)),
            test_evaluator=dict(type="rsfoundation.DOTAMetric"),
        )
    )


def types(cfg):
    return [step["type"] for step in cfg.test_dataloader.dataset.pipeline]


def test_a_plain_test_is_left_as_it_is(cfg):
    before = cfg.to_dict()
    OrientedDetection().prepare_config(cfg, RunRequest("test"))
    assert cfg.to_dict() == before


@pytest.mark.parametrize(
    "choice", [dict(matching="devkit"), dict(full_images=True), dict(full_image_labels="x")]
)
def test_labels_stay_as_they_are_where_the_metric_needs_them(cfg, choice):
    cfg.test_evaluator.update(choice)
    OrientedDetection().prepare_config(cfg, RunRequest("test"))
    assert "ConvertBoxType" not in types(cfg) and "mmdet.LoadAnnotations" in types(cfg)
    devkit = "matching" in choice
    assert cfg.test_dataloader.dataset.get("ignore_difficulty") == (1 if devkit else None)
    assert cfg.test_dataloader.dataset.get("min_side") == (0 if devkit else None)


def test_a_validation_while_training_follows_its_own_metric(cfg):
    cfg.val_evaluator = dict(type="rsfoundation.DOTAMetric", matching="devkit")
    cfg.val_dataloader = cfg.test_dataloader.to_dict()
    before = cfg.test_dataloader.to_dict()
    OrientedDetection().prepare_config(cfg, RunRequest("train"))
    assert cfg.val_dataloader.dataset.ignore_difficulty == 1
    assert [step["type"] for step in cfg.val_dataloader.dataset.pipeline] == [
        name for name in types(cfg) if name != "ConvertBoxType"
    ]
    assert cfg.test_dataloader.to_dict() == before
    OrientedDetection().prepare_config(
        Config(dict(model={})), RunRequest("train")
    )  # a training without validation


@pytest.mark.parametrize("version", ["1.5", "2.0"])
def test_the_devkit_of_later_versions_counts_difficult_objects(cfg, version):
    cfg.test_evaluator.update(matching="devkit")
    cfg.test_dataloader.dataset.version = version
    OrientedDetection().prepare_config(cfg, RunRequest("test"))
    assert cfg.test_dataloader.dataset.get("ignore_difficulty") is None
    assert cfg.test_dataloader.dataset.min_side == 0


def test_devkit_rules_respect_what_the_config_ignores(cfg):
    cfg.test_evaluator = [dict(type="rsfoundation.DOTAMetric", matching="devkit")]
    cfg.test_dataloader.dataset.ignore_difficulty = 2
    OrientedDetection().prepare_config(cfg, RunRequest("test"))
    assert cfg.test_dataloader.dataset.ignore_difficulty == 2


def test_format_only_replaces_the_evaluator(cfg, tmp_path):
    OrientedDetection(merge_iou=0.2).prepare_config(
        cfg, RunRequest("test", format_only=True, images=tmp_path)
    )
    assert cfg.test_evaluator.type == "rsfoundation.DetectionSubmission"
    assert cfg.test_evaluator.out == "run/submission" and cfg.test_evaluator.images == str(tmp_path)
    assert cfg.test_evaluator.merge_iou == 0.2


def test_a_submission_is_of_the_split_that_the_config_names(cfg):
    cfg.test_dataloader.dataset.split = "ms/val"
    cfg.submission = dict(split="ms/test")
    plain = Config(cfg.to_dict())
    OrientedDetection().prepare_config(cfg, RunRequest("test", format_only=True))
    assert cfg.test_dataloader.dataset.split == "ms/test"
    OrientedDetection().prepare_config(plain, RunRequest("test"))
    assert plain.test_dataloader.dataset.split == "ms/val"


@pytest.mark.parametrize("option", ["out", "images"])
def test_folders_of_a_submission_need_one(cfg, tmp_path, option):
    with pytest.raises(ConfigError, match=f"--{option}") as caught:
        OrientedDetection().prepare_config(cfg, RunRequest("test", **{option: tmp_path}))
    assert "--format-only" in caught.value.fix


def test_tta_multiplies_the_pipeline_and_wraps_the_model(cfg):
    cfg.tta = dict(scales=(0.5, 1.0), flips=(None, "diagonal"))
    OrientedDetection().prepare_config(cfg, RunRequest("test", tta=True))
    assert types(cfg) == ["rsfoundation.LoadImageFromFile", "TestTimeAug"]
    resized, flipped, *rest = cfg.test_dataloader.dataset.pipeline[1]["transforms"]
    assert [tuple(step["scale"]) for step in resized] == [(50, 40), (100, 80)]
    assert [(step["prob"], step["direction"]) for step in flipped] == [(0.0, "horizontal"), (1.0, "diagonal")]
    assert all(len(steps) == 1 for steps in rest)
    assert {"flip", "flip_direction", "scale_factor", "img_id"} <= set(rest[-1][0]["meta_keys"])
    wrapped = model_config(cfg)
    assert wrapped.type == "rsfoundation.OrientedTTA" and wrapped.module.type == "Detector"


def test_tta_says_what_it_cannot_do(cfg):
    bare = Config(cfg.to_dict())
    bare.test_dataloader.dataset.pipeline = bare.test_dataloader.dataset.pipeline[:1]
    with pytest.raises(ConfigError, match="Resize"):
        use_tta(bare, 0.1)
    cfg.lora = dict(rank=4)
    with pytest.raises(ConfigError, match="merge"):
        use_tta(cfg, 0.1)


def form(boxes, scores, labels, **meta):
    sample = DetDataSample(metainfo={"ori_shape": (60, 80), **meta})
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(np.array(boxes).reshape(-1, 5)).float(),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return sample


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.5, 0.5), (1.5, 2.0)])
def test_flips_are_undone_to_the_pixel(direction, factors):
    box = normalise([(20.0, 15, 12, 6, 0.4)])
    scaled = box.copy()
    scaled[:, :2] *= factors  # the detector's frame: box and image scaled, then both mirrored
    mirrored = flip(scaled, round(60 * factors[1]), round(80 * factors[0]), direction)
    mirrored[:, :2] /= factors
    sample = form(mirrored, [0.9], [0], flip=True, flip_direction=direction, scale_factor=factors)
    np.testing.assert_allclose(unflipped(sample), box, atol=1e-5)


def test_forms_are_merged_per_class():
    box = (20.0, 15, 12, 6, 0.4)
    one = form([box, (50, 40, 8, 4, 0)], [0.6, 0.3], [0, 1], img_path="a.png", flip=False)
    two = form(
        [(79 - 20.0, 15, 12, 6, -0.4), box], [0.9, 0.2], [0, 1], flip=True, flip_direction="horizontal"
    )
    tta = OrientedTTA(torch_module(), max_per_image=2)
    (merged,) = tta.merge_preds([(one, two)])
    assert merged.pred_instances.scores.tolist() == pytest.approx([0.9, 0.3])
    assert merged.pred_instances.labels.tolist() == [0, 1]
    np.testing.assert_allclose(merged.pred_instances.bboxes[0], box, atol=1e-5)
    assert merged.img_path == "a.png"


def torch_module():
    module = torch.nn.Identity()
    module.test_step = lambda data: data
    return module
