"""SAM's parts against the golden outputs of transformers, in the wrappers that configs name."""

import torch

from rsfoundation.models.prompt.sam import SAM
from rsfoundation.models.prompt.sam_prompt import SAMPositionalEmbedding, SAMPromptEncoder
from rsfoundation.registry import MODELS


def build(kind, **options):
    return MODELS.build(dict(type=f"rsfoundation.{kind}", **options))


def test_key_list_of_the_whole_model(assert_keys):
    with torch.device("meta"):
        model = SAM("base")
    assert len(model.state_dict()) == 315
    assert_keys("is_sam_vit_base", model)


def test_vision_encoder(golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    name = "is_sam_vision_encoder_tiny"
    meta = golden_meta(name)
    extra = dict(meta["vision_config"], output_hidden_states=True)
    encoder = build("RSSamVisionEncoder", hf_pretrain_name="facebook/sam-vit-base", extra_config=extra)
    assert_keys(name, encoder)
    with torch.no_grad():
        last, states = load_recipe_weights(encoder)(golden_image(*meta["inputs"][0]))
    outputs = {"last_hidden_state": last, **{f"hidden{index}": x for index, x in enumerate(states)}}
    assert_outputs(name, outputs, 2e-5)


def test_image_wide_embedding(golden_meta, assert_keys, load_recipe_weights, assert_outputs):
    name = "is_sam_image_wide_pe"
    meta = golden_meta(name)
    embedding = build("RSSamPositionalEmbedding", extra_config=meta["vision_config"])
    assert_keys(name, embedding)
    assert_outputs(name, [load_recipe_weights(embedding).image_wide(meta["size"])], 2e-5)


def test_prompt_encoder(golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    name = "is_sam_prompt_encoder_tiny"
    meta = golden_meta(name)
    encoder = SAMPromptEncoder(
        **meta["prompt_encoder_config"], shared_embedding=SAMPositionalEmbedding(num_pos_feats=16)
    )
    assert_keys(name, encoder)
    load_recipe_weights(encoder)
    boxes, points, masks = (golden_image(*entry) for entry in meta["inputs"])
    boxes, points = boxes.abs() * 30, points.abs() * 30
    box_sparse, box_dense = encoder(input_boxes=boxes)
    point_sparse, _ = encoder(points, torch.tensor([[[1, 0]], [[1, -1]]]))
    _, mask_dense = encoder(input_masks=masks)
    outputs = dict(box_sparse=box_sparse, box_dense=box_dense, pt_sparse=point_sparse, mask_dense=mask_dense)
    assert_outputs(name, outputs, 2e-5)
    wrapper = build("RSSamPromptEncoder", extra_config=meta["prompt_encoder_config"])
    own = {f"prompt_encoder.{key}" for key in encoder.state_dict() if not key.startswith("shared_embedding")}
    assert set(wrapper.state_dict()) == own


def test_mask_decoder(golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    name = "is_sam_mask_decoder_tiny"
    meta = golden_meta(name)
    decoder = build("RSSamMaskDecoder", extra_config=meta["mask_decoder_config"])
    assert_keys(name, decoder)
    load_recipe_weights(decoder)
    inputs = [golden_image(*entry) for entry in meta["inputs"]]
    masks, iou = decoder(*inputs, multimask_output=False)
    many, many_iou = decoder(*inputs, multimask_output=True)
    assert_outputs(name, dict(masks=masks, iou=iou, masks_multi=many, iou_multi=many_iou), 2e-5)
