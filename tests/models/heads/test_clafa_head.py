import pytest
import torch
import torch.nn.functional as F
from cd_golden import Golden
from cd_samples import change_samples

from rsfoundation.core.errors import ConfigError
from rsfoundation.models.heads.clafa_head import (
    ClafaDecoder,
    ClafaGate,
    ClafaUpHead,
    ClafaVerticalFusion,
)

TINY = dict(in_channels=[4, 4, 8, 8], fpn_channels=16, deform_groups=2)


def pyramid(*sizes, channels=(4, 4, 8, 8)):
    return [torch.rand(1, width, *size) for width, size in zip(channels, sizes, strict=True)]


def run(name, kind):
    golden = Golden(name)
    part = golden.load(kind(**golden.meta["kwargs"]))
    with torch.no_grad():
        return golden, part(*golden.inputs().values())


def test_gate_equals_official_outputs():
    golden, (gamma, beta) = run("cd_clafa_gamma_beta", ClafaGate)
    golden.check("gamma", gamma)
    golden.check("beta", beta)


def test_vertical_fusion_equals_official_output():
    golden, fused = run("cd_clafa_vertical", ClafaVerticalFusion)
    golden.check("out", fused)


def test_up_head_equals_official_output():
    golden, logits = run("cd_clafa_head", ClafaUpHead)
    golden.check("logits", logits)


def test_decoder_equals_official_outputs():
    golden = Golden("cd_clafa_decoder")
    decoder = golden.load(ClafaDecoder(**golden.meta["kwargs"]))
    inputs = golden.inputs()
    first, second = ([inputs[f"{date}{level}"] for level in (2, 3, 4, 5)] for date in "ab")
    with torch.no_grad():
        levels = decoder.pyramid(first)
        main, *sides = decoder(first, second)
    golden.check("pred", main)
    for number, level, side in zip((2, 3, 4, 5), levels, sides, strict=True):
        golden.check(f"fpn_p{number}", level)
        # The published code enlarges the side predictions to 256 pixels.
        golden.check(f"pred_p{number}", F.interpolate(side, size=(256, 256), mode="bilinear"))


def test_maps_need_not_be_square_and_images_do_not_mix():
    decoder = ClafaDecoder(**TINY).eval()
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3)]
    batches = [[torch.cat([torch.rand_like(x), x]) for x in pyramid(*sizes)] for _ in "ab"]
    with torch.no_grad():
        main, *sides = decoder(*batches)
        alone, *_ = decoder(*([x[1:] for x in maps] for maps in batches))
    assert main.shape == (2, 2, 48, 80) and [tuple(x.shape[2:]) for x in sides] == sizes
    torch.testing.assert_close(main[1:], alone, rtol=1e-4, atol=1e-5)


def test_spreading_by_kernels_equals_an_unfolded_sum():
    fusion = ClafaVerticalFusion(4)
    x, kernels = torch.rand(2, 4, 6, 7), torch.rand(2, 25, 6, 7)
    unfolded = F.unfold(x, 5, dilation=2, padding=4).view(2, 4, 25, 6, 7)
    torch.testing.assert_close(fusion._spread(x, kernels), (unfolded * kernels[:, None]).sum(2))


def test_losses_are_half_focal_plus_dice_without_the_finest_side():
    decoder = ClafaDecoder(**TINY)
    label = torch.zeros(1, 32, 32)
    label[:, :8] = 1
    label[:, 24:] = 255
    logits = [torch.randn(1, 2, 32, 32), *(torch.randn(1, 2, 8 >> i, 8 >> i) for i in range(4))]
    losses = decoder.loss_by_feat(logits, change_samples(*label))
    suffixes = {name.rpartition("_p")[2] for name in losses if "_p" in name}
    assert suffixes == {"3", "4", "5"}
    p = logits[0].softmax(1)[:, :, :24]
    own = torch.where(label[:, :24] == 1, p[:, 1], p[:, 0])
    alpha = torch.where(label[:, :24] == 1, 0.75, 0.25)
    focal = 0.5 * (-alpha * (1 - own) ** 4 * own.log()).mean()
    torch.testing.assert_close(losses["loss_focal"], focal)
    dice = 1 - (2 * own.sum() + 1e-5) / (2 * own.numel() + 1e-5)
    torch.testing.assert_close(losses["loss_dice"], dice)


def test_weights_that_nothing_trains_take_no_gradient_and_all_others_do():
    decoder = ClafaDecoder(**TINY)
    sizes = [(16, 16), (8, 8), (4, 4), (2, 2)]
    losses = decoder.loss((pyramid(*sizes), pyramid(*sizes)), change_samples(torch.ones(64, 64)), None)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    for name, weight in decoder.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name
    frozen = {name.split(".")[0] for name, w in decoder.named_parameters() if not w.requires_grad}
    assert frozen == {"fpn", "p2_head", "project"}


@pytest.mark.parametrize(
    "options", [dict(gamma_mode="CBAM"), dict(beta_mode="conv"), dict(in_channels=[4, 4])]
)
def test_other_forms_are_refused(options):
    with pytest.raises(ConfigError, match=r"modes are|four levels"):
        ClafaDecoder(**{**TINY, **options})
