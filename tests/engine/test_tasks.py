"""What the engine reads of a config's task."""

import pytest
from mmengine.config import Config

from rsfoundation.engine.config import build_task
from rsfoundation.engine.resolve_config import RunOptions, resolve_config


@pytest.mark.parametrize(
    "task,asked,kept",
    [
        ("InstanceSegmentation", "auto", "coco/segm_mAP"),  # CocoMetric reports boxes first
        ("ChangeDetection", "auto", "changed/F1"),
        ("InstanceSegmentation", "coco/bbox_mAP", "coco/bbox_mAP"),
        ("OrientedDetection", "mAP50", "detection/mAP50"),  # the name that the log shows
        ("OrientedDetection", ["mAP50", "detection/mAP75"], ["detection/mAP50", "detection/mAP75"]),
    ],
)
def test_the_best_checkpoint_is_the_one_of_the_primary_metric(task, asked, kept):
    cfg = Config(
        dict(
            task=dict(type=f"rsfoundation.{task}"),
            default_hooks=dict(checkpoint=dict(type="CheckpointHook", save_best=asked)),
        )
    )
    resolved = resolve_config(cfg, RunOptions(), build_task(cfg)).cfg
    assert resolved.default_hooks.checkpoint.save_best == kept
