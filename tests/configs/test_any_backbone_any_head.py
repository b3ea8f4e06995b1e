"""Every registered backbone in every head, through its file in ``configs/_base_/backbones`` alone.

A new backbone enters by being registered and having such a file; its larger editions run with ``-m slow``.
"""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmrotate.structures.bbox import RotatedBoxes
from mmseg.structures import SegDataSample

from rsfoundation.engine.config import config_root, load_config
from rsfoundation.engine.networks import backbone_names
from rsfoundation.engine.resolve_config import drop_sync_bn
from rsfoundation.registry import MODELS

SIDE, BATCH = 64, 2
BASE = config_root() / "_base_"
PYRAMID = (4, 8, 16, 32)
# What a config writes to place a backbone, as the headers of the head files say.
PLACING = {
    "oriented_rcnn_small": "neck=dict(in_channels={{_base_.backbone_channels}})",
    "mask_rcnn": "neck=dict(in_channels={{_base_.backbone_channels}})",
    "upernet": """decode_head=dict(in_channels={{_base_.backbone_channels}}),
        auxiliary_head=dict(in_channels=_base_.backbone_channels[2])""",
    "unetformer": "decode_head=dict(in_channels={{_base_.backbone_channels}})",
    "siam_upernet": """decode_head=dict(in_channels=[2 * c for c in _base_.backbone_channels]),
        auxiliary_head=dict(in_channels=2 * _base_.backbone_channels[2])""",
    "changer": "decode_head=dict(in_channels={{_base_.backbone_channels}})",
    "bit": "decode_head=dict(in_channels=_base_.backbone_channels[1])",
    "a2net": "",
}
SEGMENTATION = ("upernet", "unetformer")
CHANGE = ("siam_upernet", "changer", "bit", "a2net")

# Fewer proposals and channels than published: the matrix is about fitting together.
FEW = ["test_cfg.rpn.max_per_img=50", "test_cfg.rcnn.max_per_img=5", "train_cfg.rpn_proposal.max_per_img=50"]
NARROW = ["decode_head.channels=64", "auxiliary_head.channels=64"]
OVERRIDES = {
    "oriented_rcnn_small": FEW,
    "mask_rcnn": [*FEW, "train_cfg.rcnn.sampler.num=32", "roi_head.bbox_head.fc_out_channels=128"],
    "upernet": NARROW,
    "unetformer": ["decode_head.channels=32"],
    "siam_upernet": NARROW,
    "changer": ["decode_head.channels=32", "decode_head.sampler.min_kept=100"],
    "bit": [],
    "a2net": ["mid=16"],
}


def base_configs():
    """The files that any head can take: those with four maps."""
    read = {path.stem: Config.fromfile(path) for path in sorted((BASE / "backbones").glob("*.py"))}
    return {name: cfg for name, cfg in read.items() if len(cfg.backbone_channels) == len(PYRAMID)}


def types_of(backbone):
    """The backbone's type, and that of an encoder inside it, without prefix."""
    inner = types_of(backbone["encoder"]) if "encoder" in backbone else []
    return [*inner, backbone["type"].removeprefix("rsfoundation.")]


def without_file(registered, configs):
    """What is registered but in no base config."""
    return set(registered) - {kind for cfg in configs.values() for kind in types_of(cfg.backbone)}


def size(cfg):
    """Orders the editions of one backbone: by channels, then by depth where these are equal."""
    network = cfg.backbone.get("encoder", cfg.backbone)
    return sum(cfg.backbone_channels), max(network.get("out_indices", [0])), "init_cfg" in network


def cases():
    """Every file; all but the smallest edition of each backbone are slow."""
    configs = base_configs()
    smallest = {}
    for name in sorted(configs, key=lambda name: size(configs[name])):
        smallest.setdefault(types_of(configs[name].backbone)[0], name)
    slow = configs.keys() - smallest.values()
    return [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in configs]


def test_every_registered_backbone_has_a_base_config():
    missing = without_file(backbone_names(), base_configs())
    assert not missing, (
        f"{', '.join(sorted(missing))}: registered, but no file of configs/_base_/backbones/ places it. "
        "Write one with `backbone` and its four `backbone_channels`; a plain encoder goes into a PlainPyramid"
    )


def test_a_backbone_without_a_file_is_found_out():
    assert without_file(["LSKNet", "RSMamba", "Unheard"], base_configs()) == {"Unheard"}


@pytest.mark.parametrize("name", base_configs())
def test_base_config_declares_what_the_backbone_gives(name):
    cfg = base_configs()[name]
    drop_sync_bn(Config({"model": cfg.backbone}))
    with torch.device("meta"):
        backbone = MODELS.build(cfg.backbone)
    assert list(backbone.out_channels) == list(cfg.backbone_channels)
    assert tuple(backbone.out_strides) == PYRAMID


def build(backbone, head, folder):
    """A config as users write it, read from a file and built."""
    text = (
        f"_base_ = ['{BASE}/backbones/{backbone}.py', '{BASE}/heads/{head}.py']\n"
        f"model = dict(backbone={{{{_base_.backbone}}}}, {PLACING[head]})\n"
    )
    (folder / "config.py").write_text(text)
    cfg = load_config(folder / "config.py", [f"model.{override}" for override in OVERRIDES[head]])
    drop_sync_bn(cfg)
    init_default_scope(cfg.default_scope)
    return ROOT_MODELS.build(cfg.model)


def images(bands, count, side):
    return [torch.randint(0, 256, (bands, side, side), dtype=torch.uint8) for _ in range(count)]


METAINFO = dict(img_shape=(SIDE, SIDE), ori_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0))


def objects(**fields):
    """A sample with two objects."""
    sample = DetDataSample(metainfo=METAINFO)
    sample.gt_instances = InstanceData(labels=torch.tensor([0, 3]), **fields)
    sample.ignored_instances = InstanceData(bboxes=fields["bboxes"][:0], labels=torch.zeros(0).long())
    return sample


def rotated():
    return objects(bboxes=RotatedBoxes(torch.tensor([[20.0, 20, 24, 10, 0.4], [44, 40, 30, 18, -0.7]])))


def masked():
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    masks[0, 10:30, 8:32] = masks[1, 30:60, 28:52] = 1
    boxes = torch.tensor([[8.0, 10, 32, 30], [28, 30, 52, 60]])
    return objects(bboxes=boxes, masks=BitmapMasks(masks.numpy(), SIDE, SIDE))


def labelled(side=SIDE):
    size = (side, side)
    metainfo = dict(METAINFO, img_shape=size, ori_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0])
    sample = SegDataSample(metainfo=metainfo)
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 2, (1, side, side)))
    return sample


DATA = {
    "oriented_rcnn_small": (3, rotated),
    "mask_rcnn": (3, masked),
    **{head: (3, labelled) for head in SEGMENTATION},
    **{head: (6, labelled) for head in CHANGE},
}


def batch(head):
    bands, sample = DATA[head]
    return dict(inputs=images(bands, BATCH, SIDE), data_samples=[sample() for _ in range(BATCH)])


def check_prediction(head, samples):
    assert len(samples) == BATCH
    for sample in samples:
        if head in (*SEGMENTATION, *CHANGE):
            assert sample.pred_sem_seg.data.shape == (1, SIDE, SIDE)
            assert sample.seg_logits.data.isfinite().all()
        else:
            found = sample.pred_instances
            assert len(found.bboxes) == len(found.labels) and found.scores.isfinite().all()
            assert head != "mask_rcnn" or found.masks.shape == (len(found.labels), SIDE, SIDE)


@pytest.mark.parametrize("head", PLACING)
@pytest.mark.parametrize("name", cases())
def test_trains_one_step_and_predicts(name, head, tmp_path):
    torch.manual_seed(0)
    model = build(name, head, tmp_path).train()
    losses = model(**model.data_preprocessor(batch(head), True), mode="loss")
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    total.backward()
    trained = {key: p.grad for key, p in model.backbone.named_parameters() if p.requires_grad}
    reached = [gradient for gradient in trained.values() if gradient is not None]
    assert reached and (len(reached) == len(trained) or head == "bit"), "BIT takes a map of stride 8 alone"
    assert all(gradient.isfinite().all() for gradient in reached)
    assert next(iter(trained.values())).abs().sum() > 0, "the first layer learns"

    model.eval()
    with torch.no_grad():
        check_prediction(head, model.val_step(batch(head)))


@pytest.mark.parametrize("head", SEGMENTATION)
@pytest.mark.parametrize("name", cases())
def test_segmentors_train_on_a_single_image(name, head, tmp_path):
    """Batch norms of maps pooled to 1x1 have nothing to take a variance of.

    128 px: of 64, LWGANet's own pooling leaves one value per channel, too.
    """
    torch.manual_seed(0)
    model = build(name, head, tmp_path).train()
    data = dict(inputs=images(3, 1, 128), data_samples=[labelled(128)])
    total, _ = model.parse_losses(model(**model.data_preprocessor(data, True), mode="loss"))
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert total.isfinite() and gradients and all(gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        (sample,) = model.eval().val_step(dict(inputs=images(3, 1, 128), data_samples=[labelled(128)]))
    assert sample.pred_sem_seg.data.shape == (1, 128, 128) and sample.seg_logits.data.isfinite().all()
