"""Whole detectors of the shipped head files, small enough for a unit test."""

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.engine.config import config_root

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
