"""Labels that no loss may turn into NaN."""

import pytest
import torch
from mmdet.datasets.transforms import FilterAnnotations
from oriented_heads import batch, sample

ODD = [
    [40.0, 40, 30, 16, 0.4],  # an ordinary one
    [60, 60, 0, 0, 0],  # a point
    [20, 90, 30, 0, 0.7],  # a line
    [90, 30, 0.3, 0.2, 1.0],  # under a pixel
    [64, 64, 4000, 3000, 0.1],  # larger than the image
    [-300, 500, 40, 20, 0.2],  # outside
    [100, 100, 120, 1, -1.2],  # a hair
]


def kept(boxes):
    """What the pipelines' filter leaves: the same transform, on the same box type."""
    results = {
        "gt_bboxes": sample(boxes).gt_instances.bboxes,
        "gt_bboxes_labels": torch.arange(len(boxes)).numpy(),
    }
    results["gt_ignore_flags"] = torch.zeros(len(boxes), dtype=torch.bool).numpy()
    left = FilterAnnotations(min_gt_bbox_wh=(2, 2))(results)
    return left["gt_bboxes"].tensor.tolist()


def train(model, boxes, steps):
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        chosen = [
            boxes[i] for i in torch.randperm(len(boxes), generator=generator)[: step % (len(boxes) + 1)]
        ]
        data = model.data_preprocessor(batch(sample(chosen), sample(boxes)), True)
        total, parts = model.parse_losses(model(**data, mode="loss"))
        assert torch.isfinite(total), (step, parts)
        optimiser.zero_grad()
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        assert torch.isfinite(norm), step
        optimiser.step()
    assert all(torch.isfinite(weight).all() for weight in model.state_dict().values())


def test_the_filter_leaves_what_can_be_learned():
    sides = [box[2:4] for box in kept(ODD)]
    assert sides == [[30, 16], [4000, 3000], [40, 20]]


@pytest.mark.parametrize("head", ["oriented_rcnn_small", "s2anet_small", "rotated_retinanet_small"])
def test_short_training_stays_finite(build_detector, head):
    train(build_detector(head).train(), kept(ODD), 8)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # ten minutes each, more on a busy machine
@pytest.mark.parametrize("head", ["oriented_rcnn_small", "s2anet_small", "rotated_retinanet_small"])
def test_2000_steps_stay_finite(build_detector, head):
    train(build_detector(head, "lwganet_l0_scratch").train(), kept(ODD), 2000)
