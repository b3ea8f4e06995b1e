"""Every head file builds, trains a step on objects and on none, and predicts."""

import pytest
import torch
from conftest import batch, sample

HEADS = [
    "oriented_rcnn",
    "oriented_rcnn_small",
    "oriented_rcnn_rsp",
    "roi_transformer",
    "strip_rcnn",
    "r3det",
    "s2anet",
    "s2anet_small",
    "rotated_retinanet",
    "rotated_retinanet_small",
    "rotated_fcos",
    "rotated_rtmdet",
]
OBJECTS = [[40.0, 40, 40, 20, 0.4], [90, 80, 60, 24, -1.2], [100, 30, 20, 20, 0.0]]


@pytest.mark.parametrize("head", HEADS)
def test_trains_and_predicts(build_detector, head):
    model = build_detector(head)
    data = model.data_preprocessor(batch(sample(OBJECTS), sample([])), True)
    losses = model(**data, mode="loss")
    total, parts = model.parse_losses(losses)
    assert torch.isfinite(total) and total > 0
    assert all(torch.isfinite(value).all() for value in parts.values())
    total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, grad in gradients.items() if grad is None]
    assert not missing
    assert all(torch.isfinite(grad).all() for grad in gradients.values())

    model.eval()
    with torch.no_grad():
        found = model.test_step(batch(sample([]), sample([])))
    for one in found:
        boxes = one.pred_instances.bboxes
        boxes = boxes.tensor if hasattr(boxes, "tensor") else boxes
        assert boxes.shape[1] == 5 and torch.isfinite(boxes).all()
        assert (boxes[:, 2:4] > 0).all() and len(boxes) == len(one.pred_instances.scores) <= 2000
