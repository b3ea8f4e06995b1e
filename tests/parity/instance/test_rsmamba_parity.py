from pathlib import Path

import pytest
import torch

from rsfoundation.models.encoders.rsmamba import MambaMixer, RSMamba

ENCODERS = sorted(path.stem for path in Path(__file__).parent.glob("is_rsmamba_tiny_*.npz"))


def test_all_published_variants_are_here():
    assert len(ENCODERS) == 13


def test_mixer(golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    meta = golden_meta("is_mamba_mixer")
    mixer = MambaMixer(**meta["kwargs"])
    assert_keys("is_mamba_mixer", mixer)
    tokens = golden_image(*meta["inputs"][0])
    assert_outputs("is_mamba_mixer", [load_recipe_weights(mixer)(tokens)], 2e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder(name, golden_meta, golden_image, assert_keys, load_recipe_weights, assert_outputs):
    meta = golden_meta(name)
    encoder = RSMamba(**meta["kwargs"])
    assert_keys(name, encoder)
    load_recipe_weights(encoder)
    image = golden_image(*meta["input"])
    if meta["seed"] is not None:
        torch.manual_seed(meta["seed"])
    with torch.no_grad():
        assert_outputs(name, encoder(image), 2e-4)


@pytest.mark.parametrize(("arch", "depth", "million"), [("base", 24, 11.752448), ("large", 28, 16.567808)])
def test_published_sizes(arch, depth, million, assert_keys):
    with torch.device("meta"):
        encoder = RSMamba(arch=arch, out_type="featmap_hwc", out_indices=range(depth), dt_init="torch")
    assert_keys(f"is_rsmamba_{arch}", encoder)
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(million * 1e6, abs=0.5)
