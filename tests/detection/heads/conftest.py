"""Whole detectors of the shipped head files, small enough for a unit test."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.engine.config import config_root
from rsfoundation.engine.norm import drop_sync_bn

BASE = config_root() / "_base_"
SIDE = 128


def narrow(node):
    """Halve every width below the head four times: the tests are about fitting together."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("feat_channels", "in_channels", "out_channels", "conv_out_channels") and value == 256:
                node[key] = 32
            elif key == "fc_out_channels":
                node[key] = 64
            elif key in ("max_per_img", "nms_pre"):
                node[key] = 100
            else:
                narrow(value)
    elif isinstance(node, list):
        for value in node:
            narrow(value)


@pytest.fixture
def build_detector(tmp_path):
    """Return a function that builds a head file on a small backbone, as a config would."""

    def build(head, backbone="lsknet_t_scratch", overrides=None):
        text = (
            f"_base_ = ['{BASE}/backbones/{backbone}.py', '{BASE}/heads/{head}.py']\n"
            "model = dict(backbone={{_base_.backbone}},"
            " neck=dict(in_channels={{_base_.backbone_channels}}))\n"
        )
        (tmp_path / "config.py").write_text(text)
        cfg = Config.fromfile(tmp_path / "config.py")
        narrow(cfg.model)
        cfg.merge_from_dict(overrides or {})
        drop_sync_bn(cfg)
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model

    return build


def sample(boxes, labels=None):
    """A sample of one image with these boxes ``(N, 5)``."""
    made = DetDataSample(
        metainfo=dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0))
    )
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    labels = torch.arange(len(boxes)) % 15 if labels is None else torch.tensor(labels)
    made.gt_instances = InstanceData(bboxes=RotatedBoxes(boxes), labels=labels)
    made.ignored_instances = InstanceData(bboxes=RotatedBoxes(boxes[:0]), labels=labels[:0])
    return made


def batch(*samples):
    """Inputs as the data loader gives them."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=generator) for _ in samples]
    return {"inputs": images, "data_samples": list(samples)}
