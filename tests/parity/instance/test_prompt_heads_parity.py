"""Prompt heads against the golden outputs of RSPrompter."""

import pytest
import torch

from rsfoundation.registry import MODELS


@pytest.mark.parametrize("name", ["is_anchor_mask_head_sincos", "is_anchor_mask_head_plain"])
def test_anchor_mask_head(name, golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    meta = golden_meta(name)
    decoder = dict(type="rsfoundation.RSSamMaskDecoder", extra_config=meta["mask_decoder_config"])
    head = MODELS.build(
        dict(type="rsfoundation.RSPrompterAnchorMaskHead", mask_decoder=decoder, **meta["kwargs"])
    )
    assert_keys(name, head)
    load_recipe_weights(head)
    inputs = [golden_image(*entry) for entry in meta["inputs"]]
    with torch.no_grad():
        masks, iou = head(*inputs, torch.tensor(meta["roi_img_ids"]))
    assert_outputs(name, dict(low_res_masks=masks, iou=iou), 2e-5)


def test_mixture_of_experts(golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    meta = golden_meta("is_moe")
    layer = MODELS.build(dict(type=f"rsfoundation.{meta['cls']}", **meta["kwargs"]))
    assert_keys("is_moe", layer)
    with torch.no_grad():
        out = load_recipe_weights(layer)(golden_image(*meta["inputs"][0]))
    assert_outputs("is_moe", [out], 2e-5)
