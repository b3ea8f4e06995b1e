import pytest
import torch
from cd_golden import Golden, recipe
from mmengine.registry import DefaultScope

from rsfoundation.models.heads.bit_head import BITHead
from rsfoundation.models.heads.changer_head import FDAF, Changer


@pytest.mark.parametrize("policy", [None, "concat", "sum", "diff", "abs_diff"])
def test_flow_fusion_equals_official_outputs(policy):
    golden = Golden("cd_fdaf")
    x1, x2, _ = golden.inputs().values()
    with torch.no_grad():
        fused = golden.load(FDAF(16))(x1, x2, policy)
    for name, value in zip(("x1", "x2"), fused, strict=True) if policy is None else ((policy, fused),):
        golden.check(name, value)


def test_warp_equals_official_output():
    golden = Golden("cd_fdaf")
    flow = 3 * torch.from_numpy(recipe.image("flow", (2, 2, 12, 10)))
    golden.check("warp", FDAF.warp(golden.inputs()["x1"], flow))


def test_no_flow_warps_nothing():
    x = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(FDAF.warp(x, torch.zeros(2, 2, 5, 7)), x)


@pytest.mark.parametrize(("name", "kind"), [("cd_changer_head", Changer), ("cd_bit_head", BITHead)])
def test_heads_equal_official_outputs(name, kind):
    golden = Golden(name)
    with DefaultScope.overwrite_default_scope("rsfoundation"):
        head = golden.load(kind(**golden.meta["kwargs"]))
    with torch.no_grad():
        golden.check("logits", head(list(golden.inputs().values())))


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_bit_without_tokenizer_pools_its_tokens(mode):
    sizes = dict(in_channels=6, channels=8, embed_dims=8, num_heads=2, num_classes=2)
    head = BITHead(**sizes, use_tokenizer=False, pool_mode=mode)
    assert head.enc_pos_embedding.shape == (1, 8, 8)
    assert head([torch.rand(2, 12, 5, 6)]).shape == (2, 2, 40, 48)


def changer():
    golden = Golden("cd_changer_head")
    with DefaultScope.overwrite_default_scope("rsfoundation"):
        head = golden.load(Changer(**golden.meta["kwargs"]))
    return head, list(golden.inputs().values())


def test_a_wrapped_fusion_layer_is_called():
    """An adapter computes more than the weight of the layer says."""
    head, levels = changer()

    class Doubled(torch.nn.Module):
        def __init__(self, conv):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            return 2 * self.conv(x)

    with torch.no_grad():
        head.fusion_conv.conv.weight.mul_(2)
        expected = head(levels)
        head.fusion_conv.conv.weight.div_(2)
        head.fusion_conv.conv = Doubled(head.fusion_conv.conv)
        torch.testing.assert_close(head(levels), expected, rtol=1e-4, atol=1e-5)


def test_training_fuses_the_enlarged_levels_as_published():
    head, levels = changer()
    head.train()
    head.dropout = None
    found = head(levels)
    found.square().sum().backward()
    gradient = head.fusion_conv.conv.weight.grad.clone()
    head.zero_grad()
    halves = [level.chunk(2, dim=1) for level in levels]
    size = levels[0].shape[2:]
    dates = [
        head.fusion_conv(
            torch.cat(
                [
                    torch.nn.functional.interpolate(conv(half[date]), size=size, mode="bilinear")
                    for conv, half in zip(head.convs, halves, strict=True)
                ],
                dim=1,
            )
        )
        for date in (0, 1)
    ]
    plain = head.cls_seg(head.discriminator(head.neck_layer(*dates, "concat")))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)
    plain.square().sum().backward()
    torch.testing.assert_close(gradient, head.fusion_conv.conv.weight.grad, rtol=1e-3, atol=1e-4)
