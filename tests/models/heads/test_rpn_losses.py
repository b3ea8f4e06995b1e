"""RPNs compute from the drawn anchors what upstream computes from all of them, waiting less for a device."""

import copy
import sys

import mmrotate.models.dense_heads as mmrotate_heads
import pytest
import torch
from locations import BENCHMARKS
from mmdet.models.dense_heads import RPNHead as UpstreamRPNHead
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmrotate.structures.bbox import RotatedBoxes

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.oriented import FastRPN, OrientedRPNHead, RPNHead

sys.path.insert(0, str(BENCHMARKS))
from training_step import Waits

STRIDES = (8, 16, 32)
SIZE = 128
PROPOSALS = ConfigDict(nms_pre=100, max_per_img=50, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0)


def settings(kind, **train):
    rotated = kind == "oriented"
    coders = {
        "oriented": dict(
            type="rsfoundation.MidpointOffsetCoder",
            angle_version="le90",
            target_stds=[1.0, 1.0, 1.0, 1.0, 0.5, 0.5],
            target_means=[0.0] * 6,
        ),
        "upright": dict(type="DeltaXYWHBBoxCoder"),
        "decoded": dict(type="DeltaXYWHBBoxCoder"),
    }
    calculator = dict(type="mmrotate.RBbox2HBboxOverlaps2D") if rotated else dict(type="mmdet.BboxOverlaps2D")
    assigner = dict(
        type="mmdet.MaxIoUAssigner",
        pos_iou_thr=0.7,
        neg_iou_thr=0.3,
        min_pos_iou=0.3,
        ignore_iof_thr=0.5 if kind == "upright" else -1,
        iou_calculator=calculator,
    )
    sampler = dict(
        type="mmdet.RandomSampler", num=40, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=False
    )
    return dict(
        in_channels=4,
        feat_channels=8,
        anchor_generator=dict(
            type="mmdet.AnchorGenerator",
            scales=[4],
            ratios=[0.5, 1.0, 2.0],
            strides=STRIDES,
            use_box_type=rotated,
        ),
        bbox_coder=coders[kind],
        reg_decoded_bbox=kind == "decoded",
        loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True),
        loss_bbox=dict(type="mmdet.GIoULoss" if kind == "decoded" else "mmdet.SmoothL1Loss"),
        train_cfg=ConfigDict(
            dict(assigner=assigner, sampler=sampler, allowed_border=0, pos_weight=-1, debug=False), **train
        ),
        test_cfg=PROPOSALS,
    )


def ours(config):
    """The same settings with this package's parts."""
    config = copy.deepcopy(config)
    config["anchor_generator"]["type"] = "rsfoundation.AnchorGenerator"
    config["train_cfg"]["assigner"]["type"] = "rsfoundation.MaxIoUAssigner"
    config["train_cfg"]["sampler"]["type"] = "rsfoundation.RandomSampler"
    return config


def objects_of(kind, count, seed):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * SIZE
    sides = torch.rand(count, 2, generator=generator) * 50 + 10
    if kind == "oriented":
        boxes = RotatedBoxes(torch.cat([centre, sides, torch.rand(count, 1, generator=generator) * 3], 1))
    else:
        boxes = torch.cat([centre - sides / 2, centre + sides / 2], 1)
    return InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long))


def pair(kind, **train):
    torch.manual_seed(0)
    config = settings(kind, **train)
    rotated = kind == "oriented"
    theirs = (mmrotate_heads.OrientedRPNHead if rotated else UpstreamRPNHead)(**copy.deepcopy(config))
    own = (OrientedRPNHead if rotated else RPNHead)(**ours(config))
    theirs.init_weights()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    own.load_state_dict(theirs.state_dict())
    return theirs, own


def maps_of(images=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 4, SIZE // s, SIZE // s, generator=generator) for s in STRIDES]


def total(head, maps, objects, metas, ignored=None):
    torch.manual_seed(7)  # the draws
    losses = head.loss_by_feat(*head(maps), objects, metas, ignored)
    return {name: sum(value) if isinstance(value, list) else value for name, value in losses.items()}


@pytest.mark.parametrize(
    ("kind", "counts", "train"),
    [
        ("oriented", (9, 4), {}),
        ("oriented", (0, 30), dict(pos_weight=2.0)),
        ("oriented", (0, 0), {}),
        ("upright", (12, 1), dict(allowed_border=-1)),
        ("upright", (60, 60), {}),
        ("decoded", (5, 8), {}),
    ],
)
def test_losses_and_gradients_equal_upstreams(kind, counts, train):
    theirs, own = pair(kind, **train)
    objects = [objects_of(kind, count, seed) for seed, count in enumerate(counts)]
    ignored = [objects_of(kind, 2, 20), objects_of(kind, 1, 21)] if kind == "upright" else None
    metas = [
        dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE)),
        dict(img_shape=(SIZE - 20, SIZE), pad_shape=(SIZE, SIZE)),
    ]
    wanted = total(theirs, maps_of(), objects, metas, ignored)
    for _ in range(2):  # the second time with the anchors that were kept
        own.zero_grad()
        found = total(own, maps_of(), objects, metas, ignored)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)
        sum(found.values()).backward()
    sum(wanted.values()).backward()
    for (name, own_parameter), parameter in zip(own.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own_parameter.grad, parameter.grad, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("kind", ["oriented", "upright"])
def test_proposals_equal_upstreams(kind):
    theirs, own = pair(kind)
    metas = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))] * 2
    for one, other in zip(
        *(head.predict_by_feat(*head(maps_of()), batch_img_metas=metas) for head in (own, theirs)),
        strict=True,
    ):
        tensors = [getattr(found.bboxes, "tensor", found.bboxes) for found in (one, other)]
        assert type(one.bboxes) is (RotatedBoxes if kind == "oriented" else torch.Tensor)
        torch.testing.assert_close(tensors[0], tensors[1].reshape(tensors[0].shape))
        torch.testing.assert_close(one.scores, other.scores)
        assert one.labels.tolist() == other.labels.tolist()


def test_proposals_keep_the_type_of_upright_boxes():
    boxes = torch.tensor([[0.0, 0, 9, 9], [40, 40, 60, 60], [5, 5, 5, 8]])
    candidates = InstanceData(
        bboxes=HorizontalBoxes(boxes), scores=torch.tensor([0.2, 0.9, 0.8]), level_ids=torch.tensor([0, 0, 1])
    )
    kept = FastRPN._bbox_post_process(None, candidates, PROPOSALS)
    assert isinstance(kept.bboxes, HorizontalBoxes)
    assert kept.bboxes.tensor.tolist() == [[40, 40, 60, 60], [0, 0, 9, 9]]  # without the one of no width


def test_an_image_without_anchors_is_named():
    _, own = pair("oriented")
    meta = dict(img_shape=(5, 300), pad_shape=(SIZE, SIZE))
    with pytest.raises(ConfigError, match="image of 300 x 5 pixels"):
        total(own, maps_of(1), [objects_of("oriented", 1, 0)], [meta])


@pytest.mark.parametrize("kind", ["oriented", "upright"])
def test_waits_do_not_grow_with_the_objects(kind):
    theirs, own = pair(kind)
    metas = [dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE))] * 2
    counts = []
    for head, objects in ((own, 3), (own, 60), (theirs, 60)):
        batch = [objects_of(kind, objects, seed) for seed in (1, 2)]
        total(head, maps_of(), batch, metas)  # anchors are made once
        with Waits() as waits:
            total(head, maps_of(), batch, metas)
        counts.append(sum(waits.seen.values()))
    assert counts[0] == counts[1] <= 8  # two draws an image, and what the losses look at
    assert counts[2] > 100
