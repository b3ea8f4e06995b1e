"""Small SAM networks of the installed transformers, with weights that make every part count."""

import pytest
import torch

VISION = dict(
    hidden_size=64,
    output_channels=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    image_size=128,
    patch_size=16,
    window_size=3,
    global_attn_indexes=[1],
    mlp_dim=128,
    num_pos_feats=16,
)
PROMPT = dict(hidden_size=32, image_size=128, patch_size=16, mask_input_channels=16)
DECODER = dict(hidden_size=32, mlp_dim=64, num_attention_heads=4, iou_head_hidden_dim=32)


def randomise(module, seed=0):
    """Draw every tensor, tables of positions and norms too."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.dim() > 1:
                value.normal_(0, value[0].numel() ** -0.5)
            else:
                value.normal_(1 if name.endswith("weight") else 0, 0.1)
    return module.eval()


def hf_sam(**vision):
    """A whole ``SamModel`` of transformers; the test is skipped where that is absent."""
    transformers = pytest.importorskip("transformers", reason="comparison: pip install transformers")
    config = transformers.SamConfig(
        vision_config={**VISION, **vision}, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER
    )
    return randomise(transformers.SamModel(config))


def assert_equal_maps(found, expected, tolerance=2e-5):
    """Compare to ``tolerance`` times the largest expected value."""
    assert found.shape == expected.shape
    worst = ((found - expected).abs().max() / expected.abs().max()).item()
    assert worst <= tolerance, f"{worst:.2e} of absmax"


# Hugging Face's name (a part of it) -> that of the original repository, in this order.
_MATRIX = "positional_encoding_gaussian_matrix"
_ORIGINAL = {
    "vision_encoder.layers.": "image_encoder.blocks.",
    "vision_encoder.neck.conv1.": "image_encoder.neck.0.",
    "vision_encoder.neck.layer_norm1.": "image_encoder.neck.1.",
    "vision_encoder.neck.conv2.": "image_encoder.neck.2.",
    "vision_encoder.neck.layer_norm2.": "image_encoder.neck.3.",
    "vision_encoder.patch_embed.projection.": "image_encoder.patch_embed.proj.",
    "vision_encoder.": "image_encoder.",
    "shared_image_embedding.positional_embedding": f"prompt_encoder.pe_layer.{_MATRIX}",
    "prompt_encoder.point_embed.": "prompt_encoder.point_embeddings.",
    "prompt_encoder.mask_embed.conv1.": "prompt_encoder.mask_downscaling.0.",
    "prompt_encoder.mask_embed.layer_norm1.": "prompt_encoder.mask_downscaling.1.",
    "prompt_encoder.mask_embed.conv2.": "prompt_encoder.mask_downscaling.3.",
    "prompt_encoder.mask_embed.layer_norm2.": "prompt_encoder.mask_downscaling.4.",
    "prompt_encoder.mask_embed.conv3.": "prompt_encoder.mask_downscaling.6.",
    "mask_decoder.upscale_conv1.": "mask_decoder.output_upscaling.0.",
    "mask_decoder.upscale_layer_norm.": "mask_decoder.output_upscaling.1.",
    "mask_decoder.upscale_conv2.": "mask_decoder.output_upscaling.3.",
    ".layers.0.weight": ".layers.1.weight",  # of the heads: see original_state
    ".layers.0.bias": ".layers.1.bias",
    ".proj_in.": ".layers.0.",
    ".proj_out.": ".layers.2.",
    ".layer_norm_final_attn.": ".norm_final_attn.",
    ".layer_norm": ".norm",
}


def original_state(state):
    """A state of transformers' ``SamModel`` under the names of ``sam_vit_b_01ec64.pth``."""
    out = {}
    for key, value in state.items():
        if key.startswith("prompt_encoder.shared_embedding"):
            continue  # the original has this tensor once
        for theirs, name in _ORIGINAL.items():
            key = key.replace(theirs, name)
        out[key] = value
    return out


def mmpretrain_state(state):
    """The encoder of such a state under the names of mmpretrain's ``ViTSAM``."""
    names = {
        "neck.conv1.": "channel_reduction.0.",
        "neck.layer_norm1.": "channel_reduction.1.",
        "neck.conv2.": "channel_reduction.2.",
        "neck.layer_norm2.": "channel_reduction.3.",
        ".layer_norm1.": ".ln1.",
        ".layer_norm2.": ".ln2.",
        ".mlp.lin1.": ".ffn.layers.0.0.",
        ".mlp.lin2.": ".ffn.layers.1.",
    }
    out = {}
    for key, value in state.items():
        if key.startswith("vision_encoder."):
            key = key.removeprefix("vision_encoder.")
            for theirs, name in names.items():
                key = key.replace(theirs, name)
            out[f"backbone.{key}"] = value
    return out
