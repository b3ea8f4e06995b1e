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
