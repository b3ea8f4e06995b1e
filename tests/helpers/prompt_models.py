"""Small prompt detectors from the base configs, most on an encoder of 32 channels and images of 64 px."""

import numpy as np
import torch
from locations import CONFIGS
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

SIZE, WIDTH, CLASSES = 64, 32, 2
POSITIONS = dict(
    hf_pretrain_name=None, init_cfg=None, extra_config=dict(hidden_size=16, num_pos_feats=WIDTH // 2)
)
DECODER = dict(
    hf_pretrain_name=None,
    init_cfg=None,
    extra_config=dict(hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16),
)
VISION = dict(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    global_attn_indexes=[1],
    mlp_dim=32,
    window_size=2,
    image_size=SIZE,
    output_channels=WIDTH,
    num_pos_feats=WIDTH // 2,
)


def encoder(**options):
    """Return the config of a state space encoder of two blocks."""
    return dict(
        type="rsfoundation.RSMamba",
        arch=dict(embed_dims=WIDTH, num_layers=2, feedforward_channels=WIDTH),
        img_size=SIZE,
        patch_size=8,
        out_type="featmap_hwc",
        out_indices=[0, 1],
        **options,
    )


def neck(channels=(WIDTH, WIDTH)):
    """Return the config of an aggregator and a pyramid of four levels."""
    return dict(
        feature_aggregator=dict(
            in_channels=list(channels), hidden_channels=8, out_channels=WIDTH, select_layers=[0, 1]
        ),
        feature_spliter=dict(
            backbone_channel=WIDTH, in_channels=[8, 16, 32, 32], out_channels=WIDTH, num_outs=4
        ),
    )


def read(name):
    """Return the model of a base config of heads."""
    return Config.fromfile(CONFIGS / "_base_/heads" / f"{name}.py").model


def build(model):
    """Build a model in mmdet's scope, with weights that do not depend on what ran before."""
    init_default_scope("mmdet")
    torch.manual_seed(0)
    made = MODELS.build(model)
    made.init_weights()
    return made


def anchor(**changes):
    """Return a small RSPrompter-anchor or, with ``type``, another two-stage model of the same parts."""
    cfg = read("rsprompter_anchor")
    small = dict(
        backbone=encoder(),
        neck=neck(),
        shared_image_embedding=POSITIONS,
        rpn_head=dict(in_channels=WIDTH, feat_channels=WIDTH, anchor_generator=dict(strides=[2, 4, 8, 16])),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=WIDTH, featmap_strides=[2, 4, 8, 16]),
            bbox_head=dict(in_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES),
            mask_roi_extractor=dict(out_channels=WIDTH, featmap_strides=[2, 4, 8, 16]),
            mask_head=dict(in_channels=WIDTH, mask_decoder=DECODER),
        ),
        train_cfg=dict(rpn_proposal=dict(max_per_img=20), rcnn=dict(sampler=dict(num=16))),
        test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=6)),
    )
    _merge(cfg, small)
    _merge(cfg, changes)
    return cfg


def query(name="rsprompter_query", **changes):
    """Return a small RSPrompter-query or SAM-seg with Mask2Former."""
    cfg = read(name)
    attention = dict(embed_dims=16, num_heads=2)
    ffn = dict(ffn_cfg=dict(embed_dims=16, feedforward_channels=16))
    positions = dict(num_feats=8)
    small = dict(
        backbone=encoder(),
        neck=neck(),
        panoptic_head=dict(
            strides=[2, 4, 8, 16],
            in_channels=[WIDTH] * 4,
            feat_channels=16,
            out_channels=WIDTH,
            num_queries=5,
            num_things_classes=CLASSES,
            loss_cls=dict(class_weight=[1.0] * CLASSES + [0.1]),
            pixel_decoder=dict(
                norm_cfg=dict(num_groups=4),
                encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=attention, **ffn)),
                positional_encoding=positions,
            ),
            positional_encoding=positions,
            transformer_decoder=dict(
                num_layers=2, layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, **ffn)
            ),
        ),
        panoptic_fusion_head=dict(num_things_classes=CLASSES),
        train_cfg=dict(num_points=64),
        test_cfg=dict(max_per_image=5),
    )
    if name == "rsprompter_query":
        small["shared_image_embedding"] = POSITIONS
        small["panoptic_head"]["mask_decoder"] = DECODER
    _merge(cfg, small)
    _merge(cfg, changes)
    return cfg


def sam_det(**test_cfg):
    """Return a small SAM-det: Faster R-CNN on ResNet-18, and SAM at 32 px."""
    cfg = read("sam_det")
    cfg.detector.backbone.init_cfg = None
    cfg.detector.backbone.depth = 18
    cfg.detector.neck = dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=WIDTH, num_outs=5)
    cfg.detector.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    cfg.detector.roi_head.bbox_roi_extractor.out_channels = WIDTH
    cfg.detector.roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES)
    cfg.detector.test_cfg.rcnn.update(score_thr=0.0, max_per_img=40)
    cfg.segmentor = ConfigDict(
        type="rsfoundation.RSSamModel",
        extra_config=dict(
            vision_config=dict(VISION, image_size=32),
            prompt_encoder_config=dict(hidden_size=WIDTH, image_size=32),
            mask_decoder_config=DECODER["extra_config"],
        ),
    )
    cfg.test_cfg = ConfigDict(test_cfg)
    return cfg


def _merge(cfg, changes):
    """Change a config in place; ``_delete_`` in a value replaces what was there."""
    for key, value in changes.items():
        if not isinstance(value, dict):
            cfg[key] = value
        elif isinstance(cfg.get(key), dict) and not value.get("_delete_"):
            _merge(cfg[key], value)
        else:
            cfg[key] = ConfigDict({name: item for name, item in value.items() if name != "_delete_"})


def batch(count=2, objects=1, ori=SIZE):
    """Return grey images with bright squares, and their samples; ``ori`` is the side of the file."""
    images, samples = [], []
    for number in range(count):
        image = torch.full((3, SIZE, SIZE), 60, dtype=torch.uint8)
        masks, boxes = np.zeros((objects, SIZE, SIZE), np.uint8), []
        for index in range(objects):
            left, top = 6 + 10 * number, 8 + 24 * index
            image[:, top : top + 20, left : left + 20] = 220
            masks[index, top : top + 20, left : left + 20] = 1
            boxes.append([left, top, left + 20.0, top + 20.0])
        truth = InstanceData(
            bboxes=HorizontalBoxes(torch.tensor(boxes).reshape(-1, 4)),
            labels=torch.ones(objects, dtype=torch.long),
            masks=BitmapMasks(masks, SIZE, SIZE),
        )
        scale = SIZE / ori
        meta = dict(img_shape=(SIZE, SIZE), ori_shape=(ori, ori), scale_factor=(scale, scale), img_id=number)
        samples.append(DetDataSample(metainfo=meta, gt_instances=truth))
        images.append(image)
    return dict(inputs=images, data_samples=samples)


def losses(model, data):
    """Return the total loss and its parts."""
    data = model.data_preprocessor(data, True)
    return model.parse_losses(model(**data, mode="loss"))
