"""Masked image modelling: masks, patches, and a step with every kind of backbone."""

import pytest
import torch
from small_backbones import SMALL

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.masked_image import (
    compact,
    hidden_cells,
    image_of,
    normalised,
    patches_of,
    random_mask,
    seen_places,
    sine_positions,
)
from rsfoundation.registry import MODELS

PYRAMIDS = ("lsknet_t", "stripnet_t", "lwganet_l0", "rsp_resnet50", "rsp_swin_t", "vitaev2_s")
PLAIN = ("rsmamba", "sam_vit")


def build(name, bands=3, **options):
    backbone = SMALL[name]
    if bands != 3:
        inner = {**backbone.get("encoder", backbone), "in_channels": bands}
        backbone = {**backbone, "encoder": inner} if "encoder" in backbone else inner
    kind = "SimMIM" if name in PYRAMIDS else "MAE"
    small = {} if kind == "SimMIM" else dict(decoder_width=16, decoder_depth=1, decoder_heads=2)
    return MODELS.build({"type": kind, "backbone": backbone, **small, **options})


def test_the_same_number_of_cells_is_hidden_in_every_image():
    mask = random_mask(50, (4, 6), 0.6)
    assert mask.shape == (50, 4, 6) and set(mask.flatten(1).sum(1).tolist()) == {14}
    assert mask.float().sum(0).min() > 10 and mask.float().sum(0).max() < 45
    assert random_mask(1, (1, 2), 0.9).sum() == 1


@pytest.mark.parametrize("flat", [True, False])
def test_one_token_of_each_cell_is_kept_in_the_order_of_the_cells(flat):
    grid = (4, 6)
    places = torch.arange(24.0).view(1, 4, 6, 1)
    tokens = places.flatten(1, 2) if flat else places
    seen = torch.tensor([[[0, 1, 2], [3, 0, 1]]])
    kept = compact(tokens, grid, seen)
    assert kept.shape == ((1, 6, 1) if flat else (1, 2, 3, 1))
    assert kept.flatten().tolist() == [0, 3, 10, 19, 14, 17]
    assert seen_places(seen, grid).flatten().tolist() == [0, 3, 10, 19, 14, 17]
    hidden = hidden_cells(seen, grid)
    assert hidden.sum() == 18 and not hidden.flatten()[[0, 3, 10, 19, 14, 17]].any()


def test_patches_go_back_to_the_image():
    images = torch.randn(2, 5, 32, 48)
    patches = patches_of(images, 16)
    assert patches.shape == (2, 6, 16 * 16 * 5)
    torch.testing.assert_close(image_of(patches, (2, 3), 16), images)
    # row-major: the second patch is right of the first
    torch.testing.assert_close(patches[0, 1].view(5, 16, 16), images[0, :, :16, 16:32])
    flat = normalised(patches)
    torch.testing.assert_close(flat.mean(-1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(flat.var(-1), torch.ones(2, 6), atol=1e-3, rtol=0)


def test_positions_differ_everywhere():
    table = sine_positions((6, 7), 32)[0]
    assert torch.cdist(table, table).add(torch.eye(42) * 9).min() > 0.1


@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("name", (*PYRAMIDS, *PLAIN))
def test_every_backbone_pretrains_a_step(name, bands):
    torch.manual_seed(0)
    model = build(name, bands).train()
    images = torch.randn(2, bands, 64, 64)
    loss = model(images, mode="loss")["loss"]
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    idle = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle
    (sample, _) = model.eval()(images, mode="predict")
    assert sample.painted.shape == (bands, 64, 64) and sample.hidden.shape == (1, 64, 64)
    share = sample.hidden.float().mean().item()
    assert share == pytest.approx(0.75) if name in PLAIN else share in (0.5,)


def test_simmim_sees_nothing_of_hidden_pixels_and_scores_them_alone():
    torch.manual_seed(0)
    model = build("lsknet_t").eval()
    images = torch.randn(1, 3, 96, 96)
    torch.manual_seed(5)
    painted, hidden, loss = model.reconstruct(images)
    other = torch.where(hidden, images + 7, images)
    torch.manual_seed(5)
    repainted, again, loss_of_other = model.reconstruct(other)
    assert torch.equal(hidden, again) and torch.equal(painted, repainted)
    area = hidden.expand_as(images)
    assert loss.item() == pytest.approx((painted - images)[area].abs().mean().item(), rel=1e-5)
    assert loss_of_other > loss


@pytest.mark.parametrize("name", PLAIN)
def test_mae_encodes_only_the_patches_that_it_shows(name):
    torch.manual_seed(0)
    model = build(name, norm_pixels=False).eval()
    images = torch.randn(1, 3, 64, 64)
    torch.manual_seed(5)
    painted, hidden, loss = model.reconstruct(images)
    torch.manual_seed(5)
    repainted, _, _ = model.reconstruct(torch.where(hidden, images + 7, images))
    torch.testing.assert_close(painted, repainted)
    area = hidden.expand_as(images)
    assert loss.item() == pytest.approx((painted - images)[area].square().mean().item(), rel=1e-4)


def test_the_loss_falls():
    torch.manual_seed(0)
    model = build("rsmamba").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ramp = torch.linspace(-1, 1, 64)
    images = (ramp[:, None] * ramp).expand(4, 3, 64, 64).clone()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(images, mode="loss")["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="MAE takes a PlainEncoder") as caught:
        MODELS.build(dict(type="MAE", backbone=SMALL["lsknet_t"]))
    assert "SimMIM" in caught.value.fix
    with pytest.raises(ConfigError, match="SimMIM takes a Backbone"):
        MODELS.build(dict(type="SimMIM", backbone=SMALL["rsmamba"]))
    with pytest.raises(ConfigError, match="do not divide"):
        build("lsknet_t")(torch.randn(1, 3, 50, 64), mode="loss")
    with pytest.raises(ConfigError, match="cells of 32"):
        build("rsmamba")(torch.randn(1, 3, 48, 64), mode="loss")
    with pytest.raises(ConfigError, match="class token"):
        MODELS.build(dict(type="MAE", backbone=dict(SMALL["rsmamba"]["encoder"], cls_position="head")))
    with pytest.raises(ConfigError, match="mask_ratio"):
        build("lsknet_t", mask_ratio=1.0)
