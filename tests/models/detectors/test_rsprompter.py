"""RSPrompter's detectors: what they train, predict, freeze and load."""

from types import SimpleNamespace

import pytest
import torch
from prompt_models import CLASSES, SIZE, VISION, WIDTH, anchor, batch, build, losses, neck, query

from rsfoundation.core.errors import ConfigError
from rsfoundation.engine.peft import merge_adapters
from rsfoundation.models.heads.prompter_anchor_head import _no_masks
from rsfoundation.models.prompt.features import PromptFeatures, content_size, to_image_size
from rsfoundation.models.prompt.sam import SAM

SAM_BACKBONE = dict(
    _delete_=True,
    type="rsfoundation.RSSamVisionEncoder",
    extra_config=dict(VISION, output_hidden_states=True),
)


MODELS = {
    "anchor": lambda: anchor(backbone_freeze=False),
    "anchor without sine": lambda: anchor(
        backbone_freeze=False, roi_head=dict(mask_head=dict(with_sincos=False))
    ),
    "anchor on SAM": lambda: anchor(backbone_freeze=False, backbone=SAM_BACKBONE, neck=neck([32] * 3)),
    "query": lambda: query(backbone_freeze=False),
    "SAM-seg with Mask2Former": lambda: query("sam_seg_mask2former"),
}


@pytest.mark.parametrize("name", MODELS)
def test_loss_falls_and_predictions_have_masks_of_the_files_size(name):
    model = build(MODELS[name]()).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(6):
        loss, _ = losses(model, batch())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        totals.append(loss.item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        found = model.eval().test_step(batch(ori=80))[0].pred_instances
    assert found.masks.shape == (len(found.scores), 80, 80) and found.masks.dtype == torch.bool
    assert len(found.bboxes) == len(found.labels) > 0


@pytest.mark.parametrize("name", ["anchor", "query"])
def test_every_parameter_gets_a_gradient_also_from_images_without_objects(name):
    model = build(MODELS[name]()).train()
    for objects in (1, 0):
        model.zero_grad()
        loss, parts = losses(model, batch(objects=objects))
        loss.backward()
        assert torch.isfinite(loss)
        assert name == "query" or (parts["loss_mask"] == 0) == (objects == 0)
        assert not [k for k, v in model.named_parameters() if v.requires_grad and v.grad is None]
        frozen = [key for key, value in model.named_parameters() if not value.requires_grad]
        assert frozen and all(".iou_prediction_head." in key for key in frozen)


def test_losses_of_the_query_head_are_named_as_published():
    model = build(query()).train()
    _, parts = losses(model, batch())
    kinds = ["loss_cls", "loss_mask", "loss_dice", "loss_mask_plus", "loss_dice_plus"]
    prefixes = ["", "d0.", "d1."]
    assert parts.keys() == {"loss", *(prefix + kind for prefix in prefixes for kind in kinds)}


def test_fine_masks_are_made_once_in_evaluation():
    model = build(query()).eval()
    calls = []
    model.panoptic_head.mask_decoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model.test_step(batch())
    assert len(calls) == 1


def test_frozen_encoder_and_decoder():
    model = build(anchor(decoder_freeze=True)).train()
    head = model.roi_head.mask_head
    for part in (model.backbone, head.mask_decoder, head.no_mask_embed):
        assert not any(p.requires_grad for p in part.parameters())
    assert not model.backbone.training and head.training
    assert all(p.requires_grad for p in head.point_emb.parameters())
    thawed = build(anchor(decoder_freeze=False, backbone_freeze=False))
    names = [name for name, p in thawed.named_parameters() if not p.requires_grad]
    assert all(".iou_prediction_head." in name for name in names)


def test_adapters_inside_a_frozen_encoder_are_trained():
    backbone = dict(SAM_BACKBONE, peft_config=dict(r=2, lora_alpha=2))
    model = build(anchor(backbone=backbone, neck=neck([32] * 3))).train()
    trained = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)
    assert model.backbone.training
    loss, _ = losses(model, batch())
    loss.backward()
    parameters = dict(model.backbone.named_parameters())
    assert any(parameters[name].grad.abs().sum() > 0 for name in trained)


def test_the_image_embedding_is_the_encoders_last_map():
    image = torch.randn(1, 3, SIZE, SIZE)
    model = build(anchor()).eval()
    x = model.extract_feat(image)
    assert isinstance(x, PromptFeatures) and len(x) == 4
    torch.testing.assert_close(x.embedding, model.backbone(image)[-1].permute(0, 3, 1, 2))
    assert x.positions.shape == (1, WIDTH, 8, 8)
    model = build(anchor(backbone=SAM_BACKBONE, neck=neck([32] * 3))).eval()
    x = model.extract_feat(image)
    torch.testing.assert_close(x.embedding, model.backbone(image).last_hidden_state)
    model.embedding_level = 2
    assert model.extract_feat(image).embedding is not None


def copied(value):
    """Copy what a module is called with, as DeepSpeed's ZeRO-3 does."""
    if isinstance(value, (tuple, list)):
        return value.__class__([copied(item) for item in value])
    return value


@pytest.mark.parametrize("name", ["anchor", "query"])
def test_submodules_may_be_called_with_copies(name):
    model = build(MODELS[name]())
    for part in model.modules():
        part.register_forward_pre_hook(lambda _, arguments: copied(arguments))
    loss, _ = losses(model.train(), batch())
    assert torch.isfinite(loss)
    with torch.no_grad():
        assert len(model.eval().test_step(batch())) == 2


def test_an_embedding_of_another_width_is_refused():
    model = build(anchor(shared_image_embedding=dict(extra_config=dict(num_pos_feats=8))))
    with pytest.raises(ConfigError, match="32 channels; the mask decoder takes 16"):
        model.extract_feat(torch.zeros(1, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(multimask_output=True), "one mask of each region"),
        (dict(class_agnostic=False), "one mask of each region"),
        (dict(in_channels=64), "in_channels is 64, and the mask decoder has 32"),
    ],
)
def test_options_that_the_mask_head_cannot_train_with(options, message):
    with pytest.raises(ConfigError, match=message):
        build(anchor(roi_head=dict(mask_head=options)))


def test_masks_that_are_not_padded_are_refused():
    model = build(anchor()).train()
    data = batch()
    data["data_samples"][0].gt_instances.masks = data["data_samples"][0].gt_instances.masks.resize((32, 32))
    model.data_preprocessor.pad_mask = False
    with pytest.raises(ConfigError, match="pad_mask=True"):
        losses(model, data)


def sam_file(tmp_path):
    """Write a small SAM as Hugging Face does; return it with the file."""
    torch.manual_seed(3)
    decoder = dict(hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)
    sam = SAM(
        "base",
        VISION,
        dict(hidden_size=WIDTH, image_size=SIZE),
        decoder,
    )
    torch.nn.init.normal_(sam.prompt_encoder.no_mask_embed.weight)
    torch.save(sam.state_dict(), tmp_path / "sam.bin")
    return sam, dict(type="Pretrained", checkpoint=str(tmp_path / "sam.bin"))


def test_one_sam_checkpoint_fills_every_part(tmp_path):
    sam, init = sam_file(tmp_path)
    cfg = anchor(
        backbone=dict(SAM_BACKBONE, init_cfg=init),
        neck=neck([32] * 3),
        shared_image_embedding=dict(init_cfg=init),
        roi_head=dict(mask_head=dict(mask_decoder=dict(init_cfg=init))),
    )
    state = build(cfg).state_dict()
    prefixes = {
        "backbone.": "vision_encoder.",
        "shared_image_embedding.": "shared_image_embedding.",
        "roi_head.mask_head.mask_decoder.": "mask_decoder.",
    }
    for own, theirs in prefixes.items():
        keys = [key for key in sam.state_dict() if key.startswith(theirs)]
        assert keys
        for key in keys:
            torch.testing.assert_close(state[own + key], sam.state_dict()[key])
    torch.testing.assert_close(
        state["roi_head.mask_head.no_mask_embed.weight"], sam.prompt_encoder.no_mask_embed.weight
    )
    cfg = query(panoptic_head=dict(mask_decoder=dict(init_cfg=init)))
    state = build(cfg).state_dict()
    for key, value in sam.prompt_encoder.mask_embed.state_dict().items():
        torch.testing.assert_close(state[f"panoptic_head.sam_mask_embed.{key}"], value)


def test_a_checkpoint_of_the_encoder_alone_is_refused_where_the_decoder_is_wanted(tmp_path):
    sam, init = sam_file(tmp_path)
    torch.save(
        {k: v for k, v in sam.state_dict().items() if not k.startswith("prompt_encoder")},
        tmp_path / "sam.bin",
    )
    with pytest.raises(ConfigError, match=r"no prompt_encoder\.no_mask_embed"):
        build(anchor(roi_head=dict(mask_head=dict(mask_decoder=dict(init_cfg=init)))))


def test_keys_are_those_of_published_checkpoints():
    keys = build(anchor()).state_dict().keys()
    for key in (
        "shared_image_embedding.shared_image_embedding.positional_embedding",
        "neck.feature_aggregator.downconvs.0.0.weight",
        "neck.feature_spliter.fpn1.0.weight",
        "roi_head.bbox_head.fc_cls.weight",
        "roi_head.mask_head.mask_decoder.mask_decoder.iou_token.weight",
        "roi_head.mask_head.no_mask_embed.weight",
        "roi_head.mask_head.point_emb.8.weight",
    ):
        assert key in keys
    head = build(query()).panoptic_head
    assert [tuple(layer.weight.shape) for layer in head.point_emb[::2]] == [(8, 16), (8, 8), (320, 8)]
    assert tuple(head.cls_embed[2].weight.shape) == (CLASSES + 1, 16)


def meta(ori, scale, batch_shape=(64, 64)):
    return dict(ori_shape=ori, scale_factor=scale, batch_input_shape=batch_shape, img_shape=batch_shape)


def test_what_the_image_fills_of_a_padded_batch():
    assert content_size(meta((100, 50), (0.64, 0.64))) == (64, 32)
    # 1024 / 1030 * 1030 is 1023.9999999999999 in floating point
    assert content_size(meta((1030, 1030), (1024 / 1030, 1024 / 1030), (1024, 1024))) == (1024, 1024)
    assert content_size(meta((10_000, 1), (0.0064, 0.0064))) == (64, 1)


def test_masks_lose_their_padding_before_they_get_the_size_of_the_file():
    masks = torch.zeros(1, 16, 16)
    masks[:, :8] = 1  # the upper half: all that the image fills
    shown = to_image_size(masks, meta((50, 100), (0.64, 0.64)), rescale=True)
    assert shown.shape == (1, 50, 100)
    assert (shown[:, :46] > 0.9).all()
    assert to_image_size(masks, meta((50, 100), (0.64, 0.64)), rescale=False).shape == (1, 32, 64)


@pytest.mark.parametrize("rescale", [True, False])
def test_no_masks_have_the_size_of_masks(rescale):
    """Also of a padded batch, so that results of its images go together."""
    info = meta((50, 100), (0.64, 0.64))
    some = to_image_size(torch.zeros(1, 16, 16), info, rescale)
    none = _no_masks(torch.zeros(1, 1, 16, 16), info, rescale, 0.5)
    assert none.shape == (0, *some.shape[1:]) and none.dtype == torch.bool


def test_scores_in_place_of_masks():
    cfg = anchor(test_cfg=dict(rcnn=dict(mask_thr_binary=-1.0)))
    with torch.no_grad():
        found = build(cfg).eval().test_step(batch())[0].pred_instances
    assert found.masks.dtype == torch.uint8 and found.masks.unique().numel() > 2


def test_masks_inside_boxes_alone():
    """Logits outside the box have no loss, and predicted masks end at their boxes."""
    model = build(anchor(roi_head=dict(mask_head=dict(within_boxes=True)))).train()
    head = model.roi_head.mask_head
    truth = batch(1)["data_samples"][0].gt_instances
    result = SimpleNamespace(
        pos_priors=truth.bboxes.tensor, pos_assigned_gt_inds=torch.tensor([0])
    )  # 6..26 x 8..28 px: rows 4..14, columns 3..13 of the logits
    logits = torch.full((1, 1, 32, 32), -20.0)
    logits[..., 2:16, 1:15] = 20.0
    inside = head.loss_and_target(logits, [result], [truth])["loss_mask"]["loss_mask"]
    logits[..., 20:, :] = 20.0
    assert inside < 0.05
    assert head.loss_and_target(logits, [result], [truth])["loss_mask"]["loss_mask"] == inside
    logits[..., 4:9, :] = -20.0
    assert head.loss_and_target(logits, [result], [truth])["loss_mask"]["loss_mask"] > 5
    loss, _ = losses(model, batch())
    loss.backward()
    with torch.no_grad():
        found = model.eval().test_step(batch(ori=80))[0].pred_instances
    for mask, (left, top, right, bottom) in zip(found.masks, found.bboxes.tolist(), strict=True):
        rows, columns = mask.nonzero(as_tuple=True)
        if len(rows):
            assert rows.min() >= int(top) and rows.max() <= bottom
            assert columns.min() >= int(left) and columns.max() <= right


def test_adapters_of_a_sam_encoder_merge_into_its_weights():
    backbone = dict(SAM_BACKBONE, peft_config=dict(r=2, lora_alpha=2, lora_dropout=0.0))
    model = build(anchor(backbone=backbone, neck=neck([32] * 3))).eval()
    for name, parameter in model.backbone.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    image = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        before = model.backbone(image).last_hidden_state
        assert merge_adapters(model) == 2
        after = model.backbone(image).last_hidden_state
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)
    plain = build(anchor(backbone=SAM_BACKBONE, neck=neck([32] * 3)))
    assert list(model.state_dict()) == list(plain.state_dict()), "a config without peft_config loads it"
