"""SAM-det: a detector's boxes prompt a frozen SAM."""

import torch
from mmengine.config import ConfigDict
from prompt_models import CLASSES, SIZE, VISION, WIDTH, batch, build, losses, read


def small(**test_cfg):
    cfg = read("sam_det")
    cfg.detector.backbone.init_cfg = None
    cfg.detector.backbone.depth = 18
    cfg.detector.neck = dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=WIDTH, num_outs=5)
    cfg.detector.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    cfg.detector.roi_head.bbox_roi_extractor.out_channels = WIDTH
    cfg.detector.roi_head.bbox_head.update(in_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES)
    cfg.detector.test_cfg.rcnn.update(score_thr=0.0, max_per_img=40)
    decoder = dict(hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)
    cfg.segmentor = ConfigDict(
        type="rsfoundation.RSSamModel",
        extra_config=dict(
            vision_config=dict(VISION, image_size=32),
            prompt_encoder_config=dict(hidden_size=WIDTH, image_size=32),
            mask_decoder_config=decoder,
        ),
    )
    cfg.test_cfg = ConfigDict(test_cfg)
    return cfg


def test_the_detector_trains_and_sam_does_not():
    model = build(small()).train()
    loss, parts = losses(model, batch())
    loss.backward()
    assert {"loss_rpn_cls", "loss_cls", "loss_bbox"} <= parts.keys()
    assert not any(p.requires_grad for p in model.segmentor.parameters()) and not model.segmentor.training
    assert model.detector.training
    assert model.detector.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0


def test_every_detected_box_has_a_mask_of_the_files_size():
    model = build(small()).eval()
    with torch.no_grad():
        found = model.test_step(batch(ori=80))[0].pred_instances
    assert len(found.bboxes) > 32, "more than one group of prompts"
    assert found.masks.shape == (len(found.bboxes), 80, 80) and found.masks.dtype == torch.bool


def test_true_boxes_as_prompts_give_what_sam_gives():
    model = build(small(oracle_on=True)).eval()
    data = batch(ori=80)
    truth = data["data_samples"][0].gt_instances.bboxes.tensor
    with torch.no_grad():
        sample = model.test_step(data)[0]
        images = model.data_preprocessor(batch(), False)["inputs"]
        logits = model.segmentor(images[:1], input_boxes=truth[None], multimask_output=False).pred_masks[
            0, :, 0
        ]
    found = sample.pred_instances
    torch.testing.assert_close(found.bboxes, truth * 80 / SIZE)
    wide = torch.nn.functional.interpolate(logits[None], (SIZE, SIZE), mode="bilinear")
    wide = torch.nn.functional.interpolate(wide, (80, 80), mode="bilinear")[0] > 0
    assert (found.masks == wide).float().mean() > 0.99


def test_true_boxes_are_not_the_default():
    assert not build(small()).oracle_on


def test_no_box_no_mask():
    model = build(small()).eval()
    model.detector.test_cfg.rcnn.score_thr = 1.1
    model.detector.roi_head.test_cfg.score_thr = 1.1
    with torch.no_grad():
        found = model.test_step(batch(ori=80))[0].pred_instances
    assert found.masks.shape == (0, 80, 80)
