"""SAM-det: a detector's boxes prompt a frozen SAM."""

import torch
from prompt_models import SIZE, batch, build, losses, sam_det


def test_the_detector_trains_and_sam_does_not():
    model = build(sam_det()).train()
    loss, parts = losses(model, batch())
    loss.backward()
    assert {"loss_rpn_cls", "loss_cls", "loss_bbox"} <= parts.keys()
    assert not any(p.requires_grad for p in model.segmentor.parameters()) and not model.segmentor.training
    assert model.detector.training
    assert model.detector.roi_head.bbox_head.fc_cls.weight.grad.abs().sum() > 0


def test_every_detected_box_has_a_mask_of_the_files_size():
    model = build(sam_det()).eval()
    with torch.no_grad():
        found = model.test_step(batch(ori=80))[0].pred_instances
    assert len(found.bboxes) > 32, "more than one group of prompts"
    assert found.masks.shape == (len(found.bboxes), 80, 80) and found.masks.dtype == torch.bool


def test_true_boxes_as_prompts_give_what_sam_gives():
    model = build(sam_det(oracle_on=True)).eval()
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
    assert not build(sam_det()).oracle_on


def test_no_box_no_mask():
    model = build(sam_det()).eval()
    model.detector.test_cfg.rcnn.score_thr = 1.1
    model.detector.roi_head.test_cfg.score_thr = 1.1
    with torch.no_grad():
        found = model.test_step(batch(ori=80))[0].pred_instances
    assert found.masks.shape == (0, 80, 80)
